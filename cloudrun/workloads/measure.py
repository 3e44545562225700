"""Time a piece of work honestly: repeat it by a time budget, keep every sample.

The rules, and where each comes from, are in docs/benchmark.md.
"""

from __future__ import annotations

import contextlib
import glob
import time
from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch

from cloudrun.workloads.device import synchronize
from cloudrun.workloads.numerics import random
from cloudrun.workloads.nvml import Gpu, Watch

FEWEST, MOST = 20, 500
# On a slow machine time runs out first: after this many budgets these few samples will do.
PATIENCE, FEWEST_OF_ALL = 3, 5
# A middle half wider than this fraction of the median is no steady number.
STEADY_IQR = 0.05
# With less than this share of the processor time it could have had, a CPU
# measurement was disturbed by other programs.
UNDISTURBED = 0.85
# No clock here tells shorter times apart.
_SHORTEST_S = 1e-7
_HEATING_SIZE, _PORTION = 4096, 10
_MIB = 2**20
_FLUSH_BYTES = 256 * _MIB


@dataclass(frozen=True)
class Work:
    """A piece of work to time.

    `call` does it once; `amount` is how much of `unit` times seconds that is
    (a matrix product of 2e12 floating-point operations has amount 2 in
    "TFLOP/s"). `flops` and `bytes` are what one call computes and moves, for
    the roofline. `busy` says whether all threads of the CPU should be at work.
    """

    name: str
    unit: str
    amount: float
    call: Callable[[], object]
    params: dict[str, Any]
    flops: Optional[float] = None
    bytes: Optional[float] = None
    busy: bool = True


def measure(
    work: Work, device: torch.device, budget_s: float, gpu: Optional[Gpu] = None
) -> dict[str, Any]:
    """Time `work` for about `budget_s` seconds, once more if it was not steady.

    Args:
        work: What to time.
        device: Where it runs.
        budget_s: Seconds of timing.
        gpu: The GPU to watch meanwhile; of no interest when the CPU is measured.

    Returns:
        One measurement of the report; every rate is in `work.unit`.
    """
    for _ in range(3):
        work.call()
    synchronize(device)
    gpu = gpu if device.type == "cuda" else None
    row = _measure_once(work, device, budget_s, gpu)
    return row if row["stable"] else _measure_once(work, device, budget_s, gpu)


def _measure_once(
    work: Work, device: torch.device, budget_s: float, gpu: Optional[Gpu]
) -> dict[str, Any]:
    estimate = _timed(work.call, device)
    count = max(FEWEST, min(MOST, int(budget_s / max(estimate, 1e-7))))
    wall, cpu, waited = time.perf_counter(), time.process_time(), _waited_s()
    with Watch(gpu) as watch:
        seconds = _time_calls(work.call, device, count, PATIENCE * budget_s)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    waited = _waited_s() - waited
    # Work that fills the processor could have had all of it; other work, what it asked for.
    could_have_had = wall * torch.get_num_threads() if work.busy else cpu + waited
    share = cpu / could_have_had if device.type == "cpu" and could_have_had else 1.0
    disturbed = _disturbance(share, gpu.others() if gpu else None)
    return summarise(work, device, seconds, watch.summary(), disturbed)


def _waited_s() -> float:
    """How long this program's threads have stood in line for a processor, in seconds.

    Only Linux tells; 0 elsewhere. Two threads that wait for each other and must
    share a processor with others lose ten times what the others take.
    """
    waited = 0.0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
            waited += int(file.read().split()[1]) / 1e9
    return waited


def _disturbance(share: float, others: Optional[int]) -> str:
    """What others did meanwhile that the numbers suffer from, or nothing."""
    if share < UNDISTURBED:
        return (
            f"this program got only {share:.0%} of the processor; others, or a limit, had the rest"
        )
    if others:
        return f"{others} other program(s) had the GPU open"
    return ""


def _time_calls(
    call: Callable[[], object], device: torch.device, count: int, limit_s: float
) -> list[float]:
    if device.type == "cuda":
        return _time_by_events(call, device, count)
    seconds: list[float] = []
    while len(seconds) < count and (sum(seconds) < limit_s or len(seconds) < FEWEST_OF_ALL):
        seconds.append(_timed(call, device))
    return seconds


def _timed(call: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - started


def _time_by_events(call: Callable[[], object], device: torch.device, count: int) -> list[float]:
    """Time each call by the GPU's own clock, its cache flushed before it, outside the timing."""
    flush = _flush_buffer(device)
    pairs = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(count)
    ]
    for start, end in pairs:
        flush.zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) / 1000 for start, end in pairs]


def _flush_buffer(device: torch.device) -> torch.Tensor:
    """A buffer that fills the GPU's cache when it is written.

    Twice the cache, and more where there is room: not every cache is told of.
    """
    properties = torch.cuda.get_device_properties(device)
    # Older versions of torch do not tell its size; no NVIDIA GPU of their time has 128 MiB.
    twice = 2 * getattr(properties, "L2_cache_size", 64 * _MIB)
    try:
        return torch.empty(max(_FLUSH_BYTES, twice), dtype=torch.int8, device=device)
    except torch.cuda.OutOfMemoryError:
        return torch.empty(twice, dtype=torch.int8, device=device)


def keep_busy(device: torch.device, seconds: float) -> list[float]:
    """Multiply matrices for so long: an idle device is slow to wake, a cold one is too fast.

    Returns the TFLOP/s of each portion of the work, in fp16, in the order of time.
    """
    a = random((_HEATING_SIZE, _HEATING_SIZE), device, torch.float16)
    rates = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        took = _timed(lambda: [a @ a for _ in range(_PORTION)], device)
        rates.append(_PORTION * 2 * _HEATING_SIZE**3 / took / 1e12)
    return rates


def summarise(
    work: Work,
    device: torch.device,
    seconds: list[float],
    gpu: dict[str, Any],
    disturbed: str,
) -> dict[str, Any]:
    """Make one measurement of the report from the seconds that each call took."""
    samples = [work.amount / max(second, _SHORTEST_S) for second in seconds]
    rates = sorted(samples)
    median = quantile(rates, 0.5)
    spread = (quantile(rates, 0.75) - quantile(rates, 0.25)) / median
    notes = [disturbed] if disturbed else []
    if spread > STEADY_IQR:
        cause = f", held back by {', '.join(gpu['throttled_by'])}" if gpu["throttled_by"] else ""
        notes.append(f"the middle half of the samples spreads over {spread:.0%}{cause}")
    return {
        "name": work.name,
        "params": {**work.params, "device": device.type},
        "unit": work.unit,
        "value": _digits(median),
        "median": _digits(median),
        "p5": _digits(quantile(rates, 0.05)),
        "p95": _digits(quantile(rates, 0.95)),
        "n": len(rates),
        "samples": [_digits(sample) for sample in samples],
        "stable": not notes,
        "note": "; ".join(notes),
        "flops": work.flops,
        "bytes": work.bytes,
        "gpu": gpu if device.type == "cuda" else None,
    }


def quantile(ordered: list[float], fraction: float) -> float:
    """The quantile of an ordered list, interpolated linearly between neighbours."""
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _digits(value: float) -> float:
    """Six significant digits: more than a clock gives, and a report stays small."""
    return float(f"{value:.6g}")
