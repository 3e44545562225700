"""Time a piece of work honestly: repeat it by a time budget, keep every sample.

The rules, and where each comes from, are in docs/benchmark.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch

from cloudrun.workloads.device import synchronize
from cloudrun.workloads.nvml import Gpu, Watch

FEWEST, MOST = 20, 500
# A middle half wider than this fraction of the median is no steady number.
STEADY_IQR = 0.05
# With less than this share of the processor time it could have had, a CPU
# measurement was disturbed by other programs.
UNDISTURBED = 0.85
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

    Returns:
        One measurement of the report; every rate is in `work.unit`.
    """
    for _ in range(3):
        work.call()
    synchronize(device)
    row = _measure_once(work, device, budget_s, gpu)
    return row if row["stable"] else _measure_once(work, device, budget_s, gpu)


def _measure_once(
    work: Work, device: torch.device, budget_s: float, gpu: Optional[Gpu]
) -> dict[str, Any]:
    estimate = _timed(work.call, device)
    count = max(FEWEST, min(MOST, int(budget_s / max(estimate, 1e-7))))
    wall, cpu = time.perf_counter(), time.process_time()
    with Watch(gpu) as watch:
        seconds = _time_calls(work.call, device, count)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    note = ""
    if device.type == "cpu" and work.busy:
        share = cpu / (wall * torch.get_num_threads())
        if share < UNDISTURBED:
            note = f"other programs took {1 - share:.0%} of the processor"
    return summarise(work, device, seconds, watch.summary(), note)


def _time_calls(call: Callable[[], object], device: torch.device, count: int) -> list[float]:
    if device.type == "cuda":
        return _time_by_events(call, device, count)
    return [_timed(call, device) for _ in range(count)]


def _timed(call: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - started


def _time_by_events(call: Callable[[], object], device: torch.device, count: int) -> list[float]:
    """Time each call by the GPU's own clock, its cache flushed before it, outside the timing."""
    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
    flush = torch.empty(max(_FLUSH_BYTES, 2 * cache), dtype=torch.int8, device=device)
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


def summarise(
    work: Work,
    device: torch.device,
    seconds: list[float],
    gpu: dict[str, Any],
    disturbed: str,
) -> dict[str, Any]:
    """Make one measurement of the report from the seconds that each call took."""
    rates = sorted(work.amount / second for second in seconds)
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
        "samples": [_digits(work.amount / second) for second in seconds],
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
