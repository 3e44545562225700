"""The first checks of the smoke test: driver, torch, device. Until `torch` passes, no torch.

Each takes the wanted device ("auto", "cuda", "mps", "cpu") and returns a
sentence about what it found, or raises a finding.
"""

from __future__ import annotations

import sys

from cloudrun.workloads.driver import nvidia, torch_version
from cloudrun.workloads.findings import Failure, Skip
from cloudrun.workloads.symptoms import DOCTOR, explain

OLDEST_TORCH = (2, 0)


def check_driver(wanted: str) -> str:
    """NVIDIA's driver answers and names its GPUs."""
    if wanted in ("cpu", "mps"):
        raise Skip(f"The device '{wanted}' needs no NVIDIA driver.")
    seen = nvidia()
    if seen is None:
        # torch calls AMD's GPUs "cuda" too.
        if wanted == "cuda" and "rocm" not in (torch_version() or ""):
            raise Failure("No NVIDIA GPU is to be seen here.", "Choose a machine that has one.")
        raise Skip("There is no NVIDIA GPU on this machine, so no driver to check.")
    if seen.problem:
        meaning, remedy = explain(seen.problem)
        raise Failure(meaning, remedy or "Install NVIDIA's driver again and restart the machine.")
    names = ", ".join(gpu.name for gpu in seen.gpus)
    return f"NVIDIA driver {seen.gpus[0].driver} sees {len(seen.gpus)} GPU(s): {names}."


def check_torch(wanted: str) -> str:  # noqa: ARG001 - every check has the same form
    """torch can be imported, and is new enough."""
    installed = torch_version()
    if installed is None:
        raise Failure("torch is not installed for this Python.", DOCTOR)
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < OLDEST_TORCH:
        raise Failure(f"torch {torch.__version__} is older than 2.0.", DOCTOR)
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"torch {torch.__version__} ({built}) on Python {python}."


def check_device(wanted: str) -> str:
    """torch can use the device; an NVIDIA GPU that it cannot use is a failure, not a CPU run."""
    from cloudrun.workloads.device import cpu_name, environment, pick

    seen = nvidia()
    try:
        device = pick("cuda" if wanted == "auto" and seen and seen.gpus else wanted)
    except RuntimeError as error:
        sees = f", although the driver sees a {seen.gpus[0].name}" if seen and seen.gpus else ""
        why, remedy = _why_no_cuda() if wanted in ("auto", "cuda") else ("", "")
        raise Failure(f"{error}{sees}. {why}".strip(), remedy or DOCTOR) from error
    if device.type == "cpu":
        return f"torch computes on the CPU: {cpu_name()}."
    names = ", ".join(gpu["name"] for gpu in environment(device)["gpus"])
    return f"torch computes on {device.type}: {names}."


def _why_no_cuda() -> tuple[str, str]:
    """Why torch cannot use CUDA, and a remedy: its own question only says that it cannot."""
    import torch

    try:
        torch.cuda.init()
    except Exception as error:  # noqa: BLE001 - drivers and torch raise all kinds
        return explain(f"{type(error).__name__}: {error}")
    return "", ""
