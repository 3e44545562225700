"""The device that torch computes on, and the environment that a number belongs to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any, Optional

import torch

from cloudrun.workloads import nvml
from cloudrun.workloads.driver import nvidia

DTYPES = {
    "fp64": torch.float64,
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def pick(wanted: str) -> torch.device:
    """Give the device called `wanted` ("cuda", "mps", "cpu"), or with "auto" the best here.

    Raises:
        RuntimeError: torch cannot use the device that is wanted.
    """
    usable = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if wanted == "auto":
        wanted = next((name for name, is_usable in usable.items() if is_usable()), "cpu")
    if wanted in usable and not usable[wanted]():
        raise RuntimeError(f"torch {torch.__version__} cannot use the device '{wanted}' here")
    # With its number: some functions of older versions of torch take no GPU without one.
    return torch.device(wanted, 0) if wanted == "cuda" else torch.device(wanted)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def use_tf32(allowed: bool) -> None:
    """Let fp32 matrix products and convolutions use TF32 on NVIDIA GPUs, or not.

    By the old names, which every version of torch has and which newer ones keep
    in step with the new ones; torch refuses to read a mix of the two.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def sum_in_fp32() -> None:
    """Let no fp16 or bf16 matrix product on NVIDIA GPUs add its parts in less than fp32."""
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def float_types(device: torch.device) -> list[str]:
    """The float types in which this device does fast matrix products, fp32 first."""
    if device.type == "cuda" and torch.version.hip:
        return ["fp32", "fp16", "bf16"]
    if device.type == "cuda":
        # Before compute capability 8.0 bf16 and tf32 do not fail: they are emulated,
        # slowly, and would be a number about nothing.
        new = torch.cuda.get_device_capability(device) >= (8, 0)
        return ["fp32", "tf32", "fp16", "bf16"] if new else ["fp32", "fp16"]
    if device.type == "mps":
        return ["fp32", "fp16"]
    return ["fp32", "bf16"] if _has_fast_bf16() else ["fp32"]


def _has_fast_bf16() -> bool:
    """Whether torch's CPU library (oneDNN) computes in bf16 here; else torch emulates it."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def environment(device: torch.device) -> dict[str, Any]:
    """What a number measured here belongs to: versions, processor, memory, GPUs."""
    seen = nvidia()
    return {
        "device": device.type,
        "os": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": _cudnn(),
        "driver": seen.gpus[0].driver if seen and seen.gpus else None,
        "cpu": cpu_name(),
        "cpu_count": cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus(device),
    }


def _cudnn() -> Optional[int]:
    """The version of cuDNN; None where there is none, or not the one that torch needs."""
    try:
        return torch.backends.cudnn.version() if torch.version.cuda else None
    except RuntimeError:
        return None


def gpus(device: torch.device) -> list[dict[str, Any]]:
    """The GPUs that torch can use: name, memory in bytes, what the hardware says of itself."""
    if device.type == "mps":
        return [{"name": cpu_name(), "memory_bytes": memory_bytes(), "compute_capability": None}]
    if device.type != "cuda":
        return []
    return [_cuda_gpu(index) for index in range(torch.cuda.device_count())]


def _cuda_gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    with nvml.open_device(index) as gpu:
        uuid, vbios = (gpu.uuid(), gpu.vbios()) if gpu else (None, None)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        # Newer versions of torch know the cache's size; older ones do not.
        "l2_bytes": getattr(properties, "L2_cache_size", None),
        "uuid": uuid,
        "vbios": vbios,
    }


def cpu_name() -> str:
    """The processor as it calls itself: "AMD EPYC 7B13", "Apple M2"."""
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith(("model name", "Model")):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_count() -> int:
    """The processors that this process may use, which in a container are not all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> Optional[int]:
    """The machine's memory in bytes, or the container's share of it; None: not known."""
    limits = [
        _physical_memory(),
        _number_in("/sys/fs/cgroup/memory.max"),
        _number_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ]
    known = [limit for limit in limits if limit]
    return min(known) if known else None


def free_memory_bytes(device: torch.device) -> Optional[int]:
    """The memory that can be had on the device now, in bytes; None: not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if os.path.exists("/proc/meminfo"):
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return min(int(line.split()[1]) * 1024, memory_bytes() or sys.maxsize)
    total = memory_bytes()
    return total // 2 if total else None


def _physical_memory() -> Optional[int]:
    if sys.platform == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _windows_memory() -> Optional[int]:
    import ctypes

    kilobytes = ctypes.c_ulonglong()
    kernel32 = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
    known = kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    return kilobytes.value * 1024 if known else None


def _number_in(path: str) -> Optional[int]:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(  # noqa: S603 - fixed command lines, no shell
            command, capture_output=True, encoding="utf-8", timeout=10
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
