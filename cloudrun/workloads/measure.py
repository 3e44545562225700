"""Time a piece of work honestly: repeat it by a time budget, keep every sample.

The rules, and where each comes from, are in docs/benchmark.md.
"""

from __future__ import annotations

import contextlib
import glob
import time
from collections.abc import Iterator, Sequence
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
# The energy used while calls are timed is theirs only if they fill most of that time.
FILLED = 0.8
# A call of at least so long should not feel that a program starts it and waits for it.
BIG_S, LAUNCH_BOUND = 1e-3, 0.05
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
    row = measure_once(work, device, budget_s, gpu)
    return row if row["stable"] else measure_once(work, device, budget_s, gpu)


def measure_once(
    work: Work, device: torch.device, budget_s: float, gpu: Optional[Gpu] = None
) -> dict[str, Any]:
    """Time `work` as `measure` does, and let the result stand, steady or not."""
    for _ in range(3):
        work.call()
    gpu = gpu if device.type == "cuda" else None
    synchronize(device)
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
    from_outside = _time_from_outside(work.call, device, max(FEWEST_OF_ALL, count // 10))
    row = summarise(work, device, seconds, watch.summary(), disturbed, from_outside)
    return {**row, **_energy(row, work.amount, _power_w(gpu, watch, seconds))}


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


def _time_from_outside(call: Callable[[], object], device: torch.device, count: int) -> list[float]:
    """Time each call on a GPU by the CPU's clock too: to start it, to do it, to hear of it.

    With a cold cache, as by events. Empty elsewhere, where there is one clock only.
    """
    if device.type != "cuda":
        return []
    flush, seconds = _flush_buffer(device), []
    for _ in range(count):
        flush.zero_()
        synchronize(device)
        seconds.append(_timed(call, device))
    return seconds


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


def keep_busy(device: torch.device, seconds: float) -> None:
    """Multiply matrices for so long: an idle device is slow to wake, a cold one is too fast."""
    a = random((_HEATING_SIZE, _HEATING_SIZE), device, torch.float16)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        _timed(lambda: [a @ a for _ in range(_PORTION)], device)


def summarise(
    work: Work,
    device: torch.device,
    seconds: list[float],
    gpu: dict[str, Any],
    disturbed: str,
    from_outside: Sequence[float] = (),
) -> dict[str, Any]:
    """Make one measurement of the report from the seconds that each call took.

    Args:
        work: What was timed.
        device: Where it ran.
        seconds: Of each call; on a GPU by its own clock.
        gpu: What `Watch.summary` says.
        disturbed: Why the numbers cannot be trusted, or nothing.
        from_outside: Seconds of calls on a GPU by the CPU's clock.
    """
    samples = [work.amount / max(second, _SHORTEST_S) for second in seconds]
    rates = sorted(samples)
    median = quantile(rates, 0.5)
    spread = (quantile(rates, 0.75) - quantile(rates, 0.25)) / median
    event_s, wall_s = (
        (quantile(sorted(seconds), 0.5), quantile(sorted(from_outside), 0.5))
        if from_outside
        else (None, None)
    )
    unsteady = [disturbed] if disturbed else []
    if spread > STEADY_IQR:
        cause = f", held back by {', '.join(gpu['throttled_by'])}" if gpu["throttled_by"] else ""
        unsteady.append(f"the middle half of the samples spreads over {spread:.0%}{cause}")
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
        "stable": not unsteady,
        "note": "; ".join([*unsteady, *_launch_bound(event_s, wall_s)]),
        "flops": work.flops,
        "bytes": work.bytes,
        "event_s": event_s and _digits(event_s),
        "wall_s": wall_s and _digits(wall_s),
        "gpu": gpu if device.type == "cuda" else None,
    }


def _launch_bound(event_s: Optional[float], wall_s: Optional[float]) -> Iterator[str]:
    """Say so when the CPU, which starts the work and waits for it, takes a part of its time."""
    if event_s and wall_s and event_s >= BIG_S and wall_s > (1 + LAUNCH_BOUND) * event_s:
        yield (
            f"bound by its launch: by the CPU's clock a call takes {wall_s / event_s - 1:.0%} "
            "longer than by the GPU's"
        )


def _power_w(gpu: Optional[Gpu], watch: Watch, seconds: list[float]) -> Optional[float]:
    """The GPU's mean power while it did the calls, in watts; None where it is not theirs alone."""
    if gpu is None or gpu.is_part() or sum(seconds) < FILLED * watch.seconds:
        return None
    return watch.counted_power_w


def _energy(row: dict[str, Any], amount: float, power_w: Optional[float]) -> dict[str, Any]:
    """Joules of a call, and how much a joule does, at the mean power of the timed calls."""
    if not power_w:
        return {"joules": None, "per_joule": None}
    per_joule = row["value"] / power_w
    return {"joules": _digits(amount / per_joule), "per_joule": _digits(per_joule)}


def quantile(ordered: list[float], fraction: float) -> float:
    """The quantile of an ordered list, interpolated linearly between neighbours."""
    place = fraction * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _digits(value: float) -> float:
    """Six significant digits: more than a clock gives, and a report stays small."""
    return float(f"{value:.6g}")
