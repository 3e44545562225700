"""The NVIDIA driver and torch as they are installed, read without loading either."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import Optional

_QUERY = "name,driver_version,compute_cap,memory.total"
_PROC_VERSION = "/proc/driver/nvidia/version"
_WSL = "/usr/lib/wsl/lib/nvidia-smi"


@dataclass(frozen=True)
class NvidiaGpu:
    """One GPU as nvidia-smi names it: `memory_mib` as it prints it, `compute_capability` "7.5"."""

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


def nvidia() -> Optional[Nvidia]:
    """Look for an NVIDIA GPU. None: there is no sign of one here.

    Asks nvidia-smi (about 50 ms where there is a driver, nothing where there
    is none); a driver's trace in /proc or a GPU on the PCI bus counts too, so
    that a broken driver is told apart from no GPU.
    """
    smi = shutil.which("nvidia-smi") or (_WSL if os.path.exists(_WSL) else None)
    if smi is None:
        if os.path.exists(_PROC_VERSION) or _on_pci_bus():
            return Nvidia((), "nvidia-smi: command not found")
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed command line, no shell
            [smi, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=20,
        )
    except subprocess.TimeoutExpired:
        return Nvidia((), "nvidia-smi did not answer within 20 s")
    except OSError as error:
        return Nvidia((), f"nvidia-smi could not be started: {error.strerror}")
    if answer.returncode != 0:
        return Nvidia((), (answer.stdout + answer.stderr).strip() or "nvidia-smi failed")
    gpus = tuple(gpu for gpu in map(_parse, answer.stdout.splitlines()) if gpu)
    return Nvidia(gpus, None if gpus else "nvidia-smi names no GPU")


def _parse(row: str) -> Optional[NvidiaGpu]:
    cells = [cell.strip() for cell in row.split(",")]
    if len(cells) != len(_QUERY.split(",")):
        return None
    memory = int(cells[3]) if cells[3].isdigit() else 0
    return NvidiaGpu(cells[0], cells[1], cells[2], memory)


def _on_pci_bus() -> bool:
    """A display or 3D controller (class 03) made by NVIDIA (vendor 10de); Linux only."""
    root = "/sys/bus/pci/devices"
    if not os.path.isdir(root):
        return False
    return any(
        _first_line(f"{root}/{device}/vendor") == "0x10de"
        and _first_line(f"{root}/{device}/class").startswith("0x03")
        for device in os.listdir(root)
    )


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().strip()
    except OSError:
        return ""


def torch_version() -> Optional[str]:
    """The version of the torch that this Python would import; None when there is none."""
    if importlib.util.find_spec("torch") is None:
        return None
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
