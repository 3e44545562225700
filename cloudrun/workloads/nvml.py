"""NVIDIA's management library (NVML), by ctypes: clocks, power, heat, memory errors.

It comes with the driver, so nothing has to be installed. Names and numbers are
those of NVIDIA's NVML API reference. Every question may stay unanswered (None):
virtual GPUs and old boards answer few.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from collections.abc import Iterator
from typing import Any, Optional

_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_SM_CLOCK = 1
_GPU_TEMPERATURE = 0
_UNCORRECTED, _AGGREGATE = 1, 1
_REASONS = {
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "the power supply",
}
_SAMPLES_PER_S = 20


class _Process(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Gpu:
    """One GPU, as NVML knows it."""

    def __init__(self, library: Any, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle

    def _ask(self, function: str, *arguments: int, kind: Any = ctypes.c_uint) -> Optional[int]:
        answer = kind()
        call = getattr(self._library, function, None)
        if call is None or call(self._handle, *arguments, ctypes.byref(answer)) != 0:
            return None
        return int(answer.value)

    def clock_mhz(self) -> Optional[int]:
        """The clock of the multiprocessors now, in MHz."""
        return self._ask("nvmlDeviceGetClockInfo", _SM_CLOCK)

    def max_clock_mhz(self) -> Optional[int]:
        """The highest clock that the GPU may take, in MHz."""
        return self._ask("nvmlDeviceGetMaxClockInfo", _SM_CLOCK)

    def temperature_c(self) -> Optional[int]:
        """The GPU's temperature in degrees Celsius."""
        return self._ask("nvmlDeviceGetTemperature", _GPU_TEMPERATURE)

    def power_w(self) -> Optional[float]:
        """The board's power now, in watts."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts / 1000

    def throttle_reasons(self) -> list[str]:
        """What holds the clock back now, in words; the same bits under both of NVML's names."""
        for name in ("ClocksEventReasons", "ClocksThrottleReasons"):
            bits = self._ask(f"nvmlDeviceGetCurrent{name}", kind=ctypes.c_ulonglong)
            if bits is not None:
                return [words for bit, words in _REASONS.items() if bits & bit]
        return []

    def uncorrected_errors(self) -> Optional[int]:
        """Memory errors in the GPU's life that it could not correct; None: it does not count."""
        return self._ask(
            "nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _AGGREGATE, kind=ctypes.c_ulonglong
        )

    def link(self) -> str:
        """The link to the processor in words: generation and width, now and at most."""
        now = [self._ask(f"nvmlDeviceGetCurrPcieLink{what}") for what in ("Generation", "Width")]
        most = [self._ask(f"nvmlDeviceGetMaxPcieLink{what}") for what in ("Generation", "Width")]
        if None in now or None in most:
            return "its PCIe link is not told"
        return f"its PCIe link is generation {now[0]} x{now[1]} of {most[0]} x{most[1]}"

    def processes(self) -> Optional[int]:
        """How many programs compute on the GPU now, this one included."""
        call = getattr(self._library, "nvmlDeviceGetComputeRunningProcesses_v3", None)
        count = ctypes.c_uint(64)
        if call is None or call(self._handle, ctypes.byref(count), (_Process * 64)()) != 0:
            return None
        return count.value


@contextlib.contextmanager
def open_device(device: Any) -> Iterator[Optional[Gpu]]:
    """Open the GPU that is torch's `device`; None where NVML does not know it.

    torch and NVML number GPUs differently, so they are matched by UUID.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        yield None
        return
    if library.nvmlInit_v2() != 0:
        yield None
        return
    try:
        handle = ctypes.c_void_p()
        uuid = _uuid(device)
        known = uuid is not None and library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle))
        yield Gpu(library, handle) if known == 0 and uuid is not None else None
    finally:
        library.nvmlShutdown()


def _uuid(device: Any) -> Optional[bytes]:
    """The GPU's UUID as NVML writes it; None where this torch does not tell it."""
    import torch

    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else f"GPU-{uuid}".encode()


class Watch:
    """Samples a GPU's clock, power, heat and throttling from a thread, twenty times a second."""

    def __init__(self, gpu: Optional[Gpu]) -> None:
        self._gpu = gpu
        self._rows: list[tuple[Optional[int], Optional[float], Optional[int]]] = []
        self._reasons: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        if self._gpu is not None:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._gpu is not None:
            self._thread.join()

    def _sample(self) -> None:
        gpu = self._gpu
        while gpu is not None and not self._over.wait(1 / _SAMPLES_PER_S):
            self._rows.append((gpu.clock_mhz(), gpu.power_w(), gpu.temperature_c()))
            self._reasons.update(gpu.throttle_reasons())

    def summary(self) -> dict[str, Any]:
        """What was seen: median clock (MHz), median power (W), highest heat (C), reasons."""
        clocks, powers, heats = (
            sorted(value for value in column if value is not None)
            for column in (zip(*self._rows) if self._rows else ((), (), ()))
        )
        return {
            "clock_mhz": clocks[len(clocks) // 2] if clocks else None,
            "power_w": powers[len(powers) // 2] if powers else None,
            "temperature_c": heats[-1] if heats else None,
            "throttled_by": sorted(self._reasons),
        }
