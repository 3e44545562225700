"""NVIDIA's management library (NVML), by ctypes: clocks, power, heat, memory errors.

It comes with the driver, so nothing has to be installed. Names and numbers are
those of nvml.h, as NVIDIA's NVML API reference explains it. Every question may
stay unanswered (None): virtual GPUs and old boards answer few.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Optional

_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_SM_CLOCK = 1
_GPU_TEMPERATURE = 0
_UNCORRECTED = 1
_SINCE_LOADED, _EVER = 0, 1
_REASONS = {
    0x02: "a clock that was set by hand",
    0x04: "its power limit",
    0x08: "a hardware slowdown",
    0x20: "heat",
    0x40: "heat (hardware)",
    0x80: "the power supply",
}
_MOST_PROCESSES = 256
# NVML_DEVICE_UUID_V2_BUFFER_SIZE; no other text that is asked for is longer.
_LONGEST_TEXT = 96
_SAMPLES_PER_S = 20
# The energy counter moves in steps of up to 0.1 s; over less than this it tells no power.
_ENERGY_TELLS_S = 0.5
# Fewer samples of the clock may all be of the moment in which the GPU woke.
_FEWEST_CLOCKS = 3


class _Process(ctypes.Structure):
    """nvmlProcessInfo_v2_t, which the third version of the function still fills."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("used_memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Gpu:
    """One GPU, as NVML knows it; `part` is our share of it where it is divided (MIG)."""

    def __init__(self, library: Any, handle: ctypes.c_void_p, part: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle
        self._part = part

    def _ask(self, function: str, *arguments: int, kind: Any = ctypes.c_uint) -> Optional[int]:
        answer = kind()
        call = getattr(self._library, function, None)
        if call is None or call(self._handle, *arguments, ctypes.byref(answer)) != 0:
            return None
        return int(answer.value)

    def _text(self, function: str, handle: ctypes.c_void_p) -> Optional[str]:
        answer = ctypes.create_string_buffer(_LONGEST_TEXT)
        call = getattr(self._library, function, None)
        if call is None or call(handle, answer, ctypes.c_uint(_LONGEST_TEXT)) != 0:
            return None
        return answer.value.decode("ascii", "replace")

    def uuid(self) -> Optional[str]:
        """Its name that no other has: "GPU-..."; "MIG-..." where it is a part of one."""
        return self._text("nvmlDeviceGetUUID", self._part)

    def vbios(self) -> Optional[str]:
        """The version of the board's firmware: "96.00.74.00.01"."""
        return self._text("nvmlDeviceGetVbiosVersion", self._handle)

    def is_part(self) -> bool:
        """Whether it is a part of a divided GPU: clock, heat and energy are the whole one's."""
        return self._part is not self._handle

    def clock_mhz(self) -> Optional[int]:
        """The clock of the multiprocessors now, in MHz."""
        return self._ask("nvmlDeviceGetClockInfo", _SM_CLOCK)

    def temperature_c(self) -> Optional[int]:
        """The GPU's temperature in degrees Celsius."""
        return self._ask("nvmlDeviceGetTemperature", _GPU_TEMPERATURE)

    def power_w(self) -> Optional[float]:
        """The board's power in watts: of this moment, or of the last second, by model."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return None if milliwatts is None else milliwatts / 1000

    def energy_j(self) -> Optional[float]:
        """The energy used since the driver was loaded, in joules; Volta and newer."""
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption", kind=ctypes.c_ulonglong)
        return None if millijoules is None else millijoules / 1000

    def throttle_reasons(self) -> Optional[list[str]]:
        """What holds the clock back now, in words; the same bits under both of NVML's names."""
        for name in ("ClocksEventReasons", "ClocksThrottleReasons"):
            bits = self._ask(f"nvmlDeviceGetCurrent{name}", kind=ctypes.c_ulonglong)
            if bits is not None:
                return [words for bit, words in _REASONS.items() if bits & bit]
        return None

    def uncorrected_errors(self, ever: bool = False) -> Optional[int]:
        """Memory errors that it could not correct, since the driver was loaded or ever.

        None: it does not count them.
        """
        span = _EVER if ever else _SINCE_LOADED
        return self._ask("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, span, kind=ctypes.c_ulonglong)

    def is_out_of_spare_memory(self) -> bool:
        """Whether it could not replace a faulty row of its memory; Ampere and newer."""
        answers = [ctypes.c_uint() for _ in range(4)]
        call = getattr(self._library, "nvmlDeviceGetRemappedRows", None)
        told = call is not None and call(self._handle, *map(ctypes.byref, answers)) == 0
        return told and bool(answers[3].value)

    def link(self) -> str:
        """The link to the processor in words: generation and width, now and at most."""
        now = [self._ask(f"nvmlDeviceGetCurrPcieLink{what}") for what in ("Generation", "Width")]
        most = [self._ask(f"nvmlDeviceGetMaxPcieLink{what}") for what in ("Generation", "Width")]
        if None in now or None in most:
            return "its PCIe link is not told"
        return f"its PCIe link is generation {now[0]} x{now[1]} of {most[0]} x{most[1]}"

    def others(self) -> Optional[int]:
        """How many other programs compute on it now; None: not told.

        Told only if NVML names this program too: in a container it may name
        none, or by numbers that mean nothing there. On Windows every window
        on the screen would count.
        """
        found = (_Process * _MOST_PROCESSES)()
        count = ctypes.c_uint(_MOST_PROCESSES)
        call = getattr(self._library, "nvmlDeviceGetComputeRunningProcesses_v3", None)
        if sys.platform == "win32" or call is None:
            return None
        if call(self._part, ctypes.byref(count), found) != 0:
            return None
        pids = {process.pid for process in found[: count.value]}
        return len(pids) - 1 if os.getpid() in pids else None


@contextlib.contextmanager
def open_device(device: Any) -> Iterator[Optional[Gpu]]:
    """Open the GPU that is torch's `device`; None where NVML does not know it."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        yield None
        return
    if library.nvmlInit_v2() != 0:
        yield None
        return
    try:
        yield _find(library, device)
    finally:
        library.nvmlShutdown()


def _find(library: Any, device: Any) -> Optional[Gpu]:
    """Match torch's GPU with NVML's: they number them differently, so by UUID."""
    import torch

    whole, part, count = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint()
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if uuid is None:
        # torch before 2.4 does not tell it; where there is one GPU only, there is no doubt.
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        alone = count.value == 1
        found = alone and library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(whole)) == 0
        return Gpu(library, whole, whole) if found else None
    if library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode(), ctypes.byref(whole)) == 0:
        return Gpu(library, whole, whole)
    if library.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}".encode(), ctypes.byref(part)) != 0:
        return None
    # A part of a divided GPU has no clock, heat or power of its own.
    found = library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part, ctypes.byref(whole)) == 0
    return Gpu(library, whole, part) if found else None


class Watch:
    """Samples a GPU's clock, power, heat and throttling from a thread, twenty times a second.

    Afterwards `seconds` is how long it watched, and `counted_power_w` the mean power
    in watts by the GPU's own counter of energy; None where it has none that tells.
    """

    def __init__(self, gpu: Optional[Gpu]) -> None:
        self.seconds = 0.0
        self.counted_power_w: Optional[float] = None
        self._gpu = gpu
        self._rows: list[tuple[Optional[int], Optional[float], Optional[int]]] = []
        self._reasons: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Watch:
        if self._gpu is not None:
            self._began = time.monotonic(), self._gpu.energy_j()
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._gpu is None:
            return
        (began, at_first), at_last = self._began, self._gpu.energy_j()
        self.seconds = time.monotonic() - began
        self._over.set()
        self._thread.join()
        if at_first is not None and at_last is not None and self.seconds >= _ENERGY_TELLS_S:
            self.counted_power_w = (at_last - at_first) / self.seconds

    def _sample(self) -> None:
        gpu = self._gpu
        while gpu is not None and not self._over.wait(1 / _SAMPLES_PER_S):
            self._rows.append((gpu.clock_mhz(), gpu.power_w(), gpu.temperature_c()))
            self._reasons.update(gpu.throttle_reasons() or ())

    def summary(self) -> dict[str, Any]:
        """What was seen: median clock (MHz), mean power (W), highest heat (C), reasons.

        The power is the energy used over the time; where the GPU does not count
        energy, or not finely enough, the median of the samples.
        """
        clocks, powers, heats = (
            sorted(value for value in column if value is not None)
            for column in (zip(*self._rows) if self._rows else ((), (), ()))
        )
        sampled, counted = powers[len(powers) // 2] if powers else None, self.counted_power_w
        return {
            "clock_mhz": clocks[len(clocks) // 2] if len(clocks) >= _FEWEST_CLOCKS else None,
            "power_w": sampled if counted is None else round(counted, 1),
            "temperature_c": heats[-1] if heats else None,
            "throttled_by": sorted(self._reasons),
        }
