"""The NVIDIA driver and torch as they are installed, read without loading either."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Optional

_FIELDS = ("name", "driver_version", "compute_cap", "memory.total")
_PROC_VERSION = "/proc/driver/nvidia/version"
_PCI = "/sys/bus/pci/devices"
# The door to AMD's compute driver.
_KFD = "/dev/kfd"
_WSL = "/usr/lib/wsl/lib/nvidia-smi"
_UNKNOWN_FIELD = "is not a valid field to query"
_NO_GPU = ("couldn't communicate with the NVIDIA driver", "No devices were found")
# nvidia-smi's exit status when a board's own records are damaged; the GPU works all the same.
_DAMAGED_RECORDS = 14
_MOST_CHARACTERS = 2000


AMD_IS_NOT_MEASURED = (
    "There is an AMD GPU on this machine, but this version of cloudrun does not measure AMD GPUs: "
    "all is computed on the CPU."
)


@dataclass(frozen=True)
class NvidiaGpu:
    """One GPU as nvidia-smi names it: `memory_mib` as it prints it, `compute_capability` "7.5".

    A memory of 0 and a compute capability of "" mean that it does not tell.
    """

    name: str
    driver: str
    compute_capability: str
    memory_mib: int


@dataclass(frozen=True)
class Nvidia:
    """What this machine has of NVIDIA's: the GPUs, or why they cannot be seen.

    `problem` is nvidia-smi's own message; None when it answered.
    """

    gpus: tuple[NvidiaGpu, ...]
    problem: Optional[str]


def nvidia(limit_s: float = 30.0) -> Optional[Nvidia]:
    """Look for an NVIDIA GPU. None: there is no sign of one here.

    Asks nvidia-smi (about 50 ms where there is a driver, nothing where there
    is none); a driver's trace in /proc or a GPU on the PCI bus counts too, so
    that a broken driver is told apart from no GPU. A driver without a GPU, as
    in an image that was made for both, is no GPU.

    Args:
        limit_s: How long nvidia-smi may take, in seconds. Where nothing keeps the
            driver loaded, it first wakes the GPUs, one after the other.
    """
    smi = shutil.which("nvidia-smi") or (_WSL if os.path.exists(_WSL) else None)
    if smi is None:
        if os.path.exists(_PROC_VERSION) or _on_pci_bus():
            return Nvidia((), "nvidia-smi: command not found")
        return None
    seen = _ask(smi, _FIELDS, limit_s)
    if seen.problem and _UNKNOWN_FIELD in seen.problem:
        # Drivers up to 470 do not know compute capabilities.
        seen = _ask(smi, tuple(field for field in _FIELDS if field != "compute_cap"), limit_s)
    no_gpu = any(text in (seen.problem or "") for text in _NO_GPU) and _on_pci_bus() is False
    return None if no_gpu else seen


def _ask(smi: str, fields: tuple[str, ...], limit_s: float) -> Nvidia:
    """Ask nvidia-smi for these fields of every GPU."""
    try:
        process = subprocess.Popen(  # noqa: S603 - a fixed command line, no shell
            [smi, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        return Nvidia((), f"nvidia-smi could not be started: {error.strerror}")
    try:
        said, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        # Not waited for: a program that a hung driver holds does not die when it is killed.
        process.kill()
        return Nvidia((), f"nvidia-smi did not answer within {limit_s:g} s")
    rows = [(line, _parse(line, fields)) for line in said.splitlines()]
    gpus = tuple(gpu for _, gpu in rows if gpu)
    if gpus and process.returncode in (0, _DAMAGED_RECORDS):
        return Nvidia(gpus, None)
    rest = "\n".join(line for line, gpu in rows if not gpu).strip()
    return Nvidia((), rest[:_MOST_CHARACTERS] or _without_words(process.returncode))


def _without_words(status: int) -> str:
    return f"nvidia-smi ended with exit status {status}" if status else "nvidia-smi names no GPU"


def _parse(row: str, fields: tuple[str, ...]) -> Optional[NvidiaGpu]:
    """Read one row; None when it is none. What a GPU does not tell is there in brackets."""
    cells = [cell.strip() for cell in row.split(",")]
    told = dict(zip(fields, cells))
    if len(cells) != len(fields) or not re.fullmatch(r"\d+(\.\d+)+", told["driver_version"]):
        return None
    capability, memory = told.get("compute_cap", ""), told["memory.total"]
    return NvidiaGpu(
        name=told["name"],
        driver=told["driver_version"],
        compute_capability=capability if re.fullmatch(r"\d+\.\d+", capability) else "",
        memory_mib=int(memory) if memory.isdigit() else 0,
    )


def _on_pci_bus() -> Optional[bool]:
    """Whether there is a display or 3D controller (class 03) of NVIDIA's (vendor 10de).

    None: not to be seen. Only Linux shows the bus, and not under Windows (WSL).
    """
    devices = os.listdir(_PCI) if os.path.isdir(_PCI) and not os.path.exists(_WSL) else []
    if not devices:
        return None
    return any(
        _first_line(f"{_PCI}/{device}/vendor") == "0x10de"
        and _first_line(f"{_PCI}/{device}/class").startswith("0x03")
        for device in devices
    )


def has_amd_gpu() -> bool:
    """Whether there is a GPU of AMD's that programs can compute on; only Linux shows it."""
    return os.path.exists(_KFD)


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""


def torch_version() -> Optional[str]:
    """The version of the torch that this Python would import; None when there is none."""
    try:
        if importlib.util.find_spec("torch") is None:
            return None
    except ValueError:
        # It is loaded, and by hand: it has no spec.
        return "unknown"
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
