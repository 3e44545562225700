"""How samples become a number, and when a number is called not steady."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from cloudrun.workloads import cases, measure
from cloudrun.workloads.measure import Work, quantile, summarise

pytestmark = pytest.mark.xdist_group("torch")
CPU = torch.device("cpu")
GPU = torch.device("cuda", 0)
QUIET: dict[str, Any] = {
    "clock_mhz": None,
    "power_w": None,
    "temperature_c": None,
    "throttled_by": [],
}


def work(call: Callable[[], object] = lambda: None, **more: Any) -> Work:
    return Work(name="w", unit="GB/s", amount=2.0, call=call, params={"dtype": "fp32"}, **more)


@pytest.mark.parametrize("count", [2, 3, 20, 101])
def test_quantiles_are_those_of_the_standard_library(count: int) -> None:
    numbers = sorted((index * 7919) % 1009 / 13 for index in range(count))
    ours = [quantile(numbers, percent / 100) for percent in range(1, 100)]
    assert ours == pytest.approx(statistics.quantiles(numbers, n=100, method="inclusive"))
    assert (quantile(numbers, 0), quantile(numbers, 1)) == (numbers[0], numbers[-1])


def test_a_single_number_is_each_of_its_quantiles() -> None:
    assert [quantile([3.0], fraction) for fraction in (0, 0.5, 1)] == [3.0, 3.0, 3.0]


def test_seconds_become_rates_in_the_order_of_time() -> None:
    row = summarise(work(), CPU, [1.0, 0.5, 2.0, 1.0, 1.0], QUIET, "")
    assert row["samples"] == [2.0, 4.0, 1.0, 2.0, 2.0]
    assert row["value"] == row["median"] == 2.0
    assert (row["n"], row["p5"], row["p95"]) == (5, 1.2, 3.6)
    assert row["params"] == {"dtype": "fp32", "device": "cpu"}


def test_a_time_too_short_for_the_clock_is_no_crash() -> None:
    assert summarise(work(), CPU, [0.0, 1.0], QUIET, "")["samples"][1] == 2.0


@pytest.mark.parametrize(("spread", "stable"), [(0.0, True), (0.04, True), (0.06, False)])
def test_samples_that_spread_are_not_steady(spread: float, stable: bool) -> None:
    # More than a quarter slower by half the spread, as many faster: the middle half is as wide.
    seconds = [2 / (1 - spread / 2)] * 30 + [2.0] * 42 + [2 / (1 + spread / 2)] * 30
    row = summarise(work(), CPU, seconds, QUIET, "")
    assert row["stable"] is stable
    assert ("spreads over 6%" in row["note"]) is not stable


def test_a_few_wild_samples_do_not_matter() -> None:
    row = summarise(work(), CPU, [1.0] * 90 + [50.0] * 10, QUIET, "")
    assert (row["stable"], row["value"]) == (True, 2.0)


def test_what_held_a_gpu_back_is_named_where_it_is_not_steady() -> None:
    hot = {**QUIET, "throttled_by": ["heat", "its power limit"]}
    row = summarise(work(), GPU, [1.0, 2.0] * 10, hot, "")
    assert "held back by heat, its power limit" in row["note"]
    steady = summarise(work(), GPU, [1.0] * 20, hot, "")
    assert (steady["stable"], steady["note"], steady["gpu"]) == (True, "", hot)


class Clocks:
    """Elapsed time that goes on by a second each time it is asked, and processor time."""

    def __init__(self, cpu_share: float) -> None:
        self._share, self._elapsed, self._threads = cpu_share, 0.0, torch.get_num_threads()

    def perf_counter(self) -> float:
        self._elapsed += 1.0
        return self._elapsed

    def process_time(self) -> float:
        return self._elapsed * self._share * self._threads


@pytest.mark.parametrize(
    ("share", "busy", "stable"),
    [(1.0, True, True), (0.9, True, True), (0.5, True, False), (0.5, False, True)],
)
def test_a_cpu_that_others_use_is_found(
    monkeypatch: pytest.MonkeyPatch, share: float, busy: bool, stable: bool
) -> None:
    monkeypatch.setattr(measure, "time", Clocks(share))
    monkeypatch.setattr(measure, "_waited_s", lambda: 0.0)
    row = measure.measure(work(busy=busy), CPU, 0.0)
    assert row["stable"] is stable
    assert ("only 50% of the processor" in row["note"]) is not stable


@pytest.mark.parametrize(("waited", "stable"), [(0.1, True), (1.0, False)])
def test_work_that_does_not_fill_the_cpu_is_disturbed_when_it_stood_in_line(
    monkeypatch: pytest.MonkeyPatch, waited: float, stable: bool
) -> None:
    # As long in line as at work, or a tenth of it: by a clock of the work's own time.
    clocks = Clocks(0.25)
    monkeypatch.setattr(measure, "time", clocks)
    monkeypatch.setattr(measure, "_waited_s", lambda: waited * clocks.process_time())
    row = measure.measure(work(busy=False), CPU, 0.0)
    assert row["stable"] is stable
    assert ("only 50% of the processor" in row["note"]) is not stable


_DISTURBED = """
import sys
import torch
from cloudrun.workloads.measure import Work, measure
# Twice as many threads as there are processors get half of the time each, at best.
torch.set_num_threads(2 * int(sys.argv[1]))
a = torch.ones(512, 512)
work = Work("w", "TFLOP/s", 1.0, lambda: torch.mm(a, a), {}, busy=sys.argv[2] == "busy")
print(measure(work, torch.device("cpu"), 0.2)["note"])
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Processors cannot be counted.")
@pytest.mark.parametrize(
    "kind",
    [
        "busy",
        pytest.param(
            "not busy",
            marks=pytest.mark.skipif(
                not os.path.exists("/proc/self/schedstat"),
                reason="This system does not tell how long threads stood in line.",
            ),
        ),
    ],
)
def test_threads_without_a_processor_of_their_own_are_found_for_real(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DISTURBED, str(len(os.sched_getaffinity(0))), kind],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "of the processor" in done.stdout


def test_an_unsteady_measurement_is_made_once_more_and_no_third_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds: list[int] = []

    def times(call: object, device: object, count: int, limit_s: float) -> list[float]:
        rounds.append(count)
        return [1.0, 2.0] * 10 if len(rounds) < unsteady else [1.0] * 20

    monkeypatch.setattr(measure, "_time_calls", times)
    unsteady = 2
    assert measure.measure(work(busy=False), CPU, 0.0)["stable"] is True
    assert len(rounds) == 2
    rounds.clear()
    unsteady = 99
    assert measure.measure(work(busy=False), CPU, 0.0)["stable"] is False
    assert len(rounds) == 2


@pytest.mark.parametrize(("budget", "count"), [(0.0, 5), (10.0, 20), (100.0, 100), (10_000.0, 500)])
def test_the_number_of_samples_follows_the_budget(
    monkeypatch: pytest.MonkeyPatch, budget: float, count: int
) -> None:
    monkeypatch.setattr(measure, "time", Clocks(1.0))  # a call takes a second
    assert measure.measure(work(), CPU, budget)["n"] == count


class Cuda:
    """CUDA as the timing uses it: a stream in which each thing takes its time, in order."""

    def __init__(self, log: list[str], l2: int | None = None, room: int = 2**40) -> None:
        self._log, self._l2, self._room = log, l2, room
        self.now_ms = 0.0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cuda = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                cuda._log.append("event")
                self.at = cuda.now_ms

            def elapsed_time(self, end: Event) -> float:
                assert cuda._log[-1] == "synchronize"
                return end.at - self.at

        class Buffer:
            def __init__(self, size: int) -> None:
                self.size = size

            def zero_(self) -> None:
                cuda._log.append(f"flush {self.size // 2**20} MiB")
                cuda.now_ms += 1000.0

        def empty(size: int, dtype: torch.dtype, device: torch.device) -> Buffer:
            assert (dtype, device) == (torch.int8, GPU)
            if size > cuda._room:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return Buffer(size)

        properties = types.SimpleNamespace(**({"L2_cache_size": self._l2} if self._l2 else {}))
        monkeypatch.setattr(torch.cuda, "Event", Event)
        monkeypatch.setattr(torch, "empty", empty)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: properties)
        monkeypatch.setattr(
            torch.cuda, "synchronize", lambda _device: cuda._log.append("synchronize")
        )


def run(cuda: Cuda, log: list[str]) -> Callable[[], None]:
    def call() -> None:
        log.append("call")
        cuda.now_ms += 250.0

    return call


def test_on_cuda_a_call_is_timed_between_events_with_a_cold_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[str] = []
    cuda = Cuda(log, l2=50 * 2**20)
    cuda.install(monkeypatch)
    assert measure._time_by_events(run(cuda, log), GPU, 3) == [0.25, 0.25, 0.25]
    assert log == ["flush 256 MiB", "event", "call", "event"] * 3 + ["synchronize"]


@pytest.mark.parametrize(
    ("l2_mib", "room_mib", "flushed_mib"),
    [
        (126, 10_000, 256),
        (192, 10_000, 384),
        (None, 10_000, 256),
        # With little memory left, twice the cache does as well.
        (4, 100, 8),
        (None, 200, 128),
    ],
)
def test_the_cache_is_flushed_whatever_its_size_and_the_memory_left(
    monkeypatch: pytest.MonkeyPatch, l2_mib: int | None, room_mib: int, flushed_mib: int
) -> None:
    log: list[str] = []
    cuda = Cuda(log, l2_mib * 2**20 if l2_mib else None, room_mib * 2**20)
    cuda.install(monkeypatch)
    measure._time_by_events(run(cuda, log), GPU, 1)
    assert log[0] == f"flush {flushed_mib} MiB"


@pytest.mark.parametrize(("late_ms", "bound"), [(0.0, False), (10.0, False), (25.0, True)])
def test_on_cuda_a_call_is_timed_by_the_cpus_clock_too(
    monkeypatch: pytest.MonkeyPatch, late_ms: float, bound: bool
) -> None:
    # A call takes 250 ms by the GPU's clock, and a little longer by the CPU's.
    log: list[str] = []
    cuda = Cuda(log)
    cuda.install(monkeypatch)
    clock = Clocks(1.0)
    monkeypatch.setattr(
        clock, "perf_counter", lambda: (cuda.now_ms + late_ms * log.count("call")) / 1000
    )
    monkeypatch.setattr(measure, "time", clock)
    row = measure.measure(work(run(cuda, log)), GPU, 0.0)
    assert (row["event_s"], row["value"]) == (0.25, 8.0)
    assert row["wall_s"] == pytest.approx((250 + late_ms) / 1000)
    assert log[-20:] == ["flush 256 MiB", "synchronize", "call", "synchronize"] * 5
    assert ("bound by its launch" in row["note"]) is bound
    assert ("10% longer" in row["note"]) is bound
    assert row["stable"] is True


def test_a_short_call_is_not_called_bound_by_its_launch() -> None:
    row = summarise(work(), GPU, [1e-4] * 20, QUIET, "", [2e-4] * 5)
    assert (row["event_s"], row["wall_s"], row["note"]) == (1e-4, 2e-4, "")


def test_elsewhere_there_is_one_clock_and_no_energy() -> None:
    row = measure.measure(work(busy=False), CPU, 0.0)
    assert {row[name] for name in ("event_s", "wall_s", "joules", "per_joule")} == {None}


class Others:
    """A GPU that others use, or not."""

    def __init__(self, others: int | None, part: bool = False) -> None:
        self._others, self._part = others, part

    def others(self) -> int | None:
        return self._others

    def is_part(self) -> bool:
        return self._part


@pytest.mark.parametrize(
    ("power_w", "watched_s", "part", "joules", "per_joule"),
    [
        (100.0, 20.0, False, 100.0, 0.02),
        (100.0, 24.0, False, 100.0, 0.02),
        (100.0, 26.0, False, None, None),  # the calls fill only 77 % of the time
        (None, 20.0, False, None, None),
        (100.0, 20.0, True, None, None),  # it is the energy of others too
    ],
)
def test_a_call_has_its_share_of_the_energy_that_was_counted(
    monkeypatch: pytest.MonkeyPatch,
    power_w: float | None,
    watched_s: float,
    part: bool,
    joules: float | None,
    per_joule: float | None,
) -> None:
    @contextlib.contextmanager
    def watch(_gpu: object) -> Iterator[Any]:
        yield types.SimpleNamespace(
            summary=lambda: QUIET, seconds=watched_s, counted_power_w=power_w
        )

    Cuda([]).install(monkeypatch)
    monkeypatch.setattr(measure, "Watch", watch)
    monkeypatch.setattr(measure, "_time_by_events", lambda *_: [1.0] * 20)
    row = measure.measure(work(), GPU, 0.0, Others(0, part))  # type: ignore[arg-type]
    assert (row["joules"], row["per_joule"]) == (joules, per_joule)


@pytest.mark.parametrize(("others", "stable"), [(0, True), (None, True), (2, False)])
def test_a_gpu_that_others_use_is_found(
    monkeypatch: pytest.MonkeyPatch, others: int | None, stable: bool
) -> None:
    @contextlib.contextmanager
    def watch(_gpu: object) -> Iterator[Any]:
        yield types.SimpleNamespace(summary=lambda: QUIET, seconds=20.0, counted_power_w=None)

    log: list[str] = []
    Cuda(log).install(monkeypatch)
    monkeypatch.setattr(measure, "Watch", watch)
    monkeypatch.setattr(measure, "_time_by_events", lambda *_: [1.0] * 20)
    row = measure.measure(work(), GPU, 0.0, Others(others))  # type: ignore[arg-type]
    assert row["stable"] is stable
    assert ("2 other program(s)" in row["note"]) is not stable


def test_a_gpu_is_not_watched_while_the_cpu_is_measured() -> None:
    # Asking this one would raise: it has no clock.
    row = measure.measure(work(busy=False), CPU, 0.0, Others(2))  # type: ignore[arg-type]
    assert (row["gpu"], "GPU" in row["note"]) == (None, False)


def test_a_gpus_first_seconds_are_measured_before_it_is_warm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    names = [case.name for case in cases.plan(GPU, "quick")]
    assert names[:3] == ["matmul fp16 before the warm-up", "warm-up", "matmul fp32"]
    assert cases.plan(CPU, "quick")[0].name == "matmul fp32"


def test_the_first_seconds_are_two_and_are_not_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, float]] = []

    def timed(work: Work, _device: object, budget_s: float, _gpu: object) -> dict[str, Any]:
        asked.append((work.name, budget_s))
        return {"n": 20, "stable": False}

    monkeypatch.setattr(cases, "measure_once", timed)
    monkeypatch.setattr(cases, "_matmul_size", lambda _device: 64)
    assert [row["stable"] for row in cases._burst(CPU)(40.0, None)] == [False]
    assert asked == [("matmul_burst", 2.0)]


def test_a_single_look_stands_whatever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_time_calls", lambda *_: [1.0, 2.0] * 10)
    row = measure.measure_once(work(busy=False), CPU, 0.0)
    assert (row["n"], row["stable"]) == (20, False)


def test_work_to_warm_up_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_HEATING_SIZE", 64)
    seconds = iter((10.0, 10.0, 11.0, 12.0, 13.0))
    monkeypatch.setattr(measure, "time", types.SimpleNamespace(monotonic=seconds.__next__))
    portions: list[object] = []
    monkeypatch.setattr(measure, "_timed", lambda call, _device: portions.extend(call()))
    measure.keep_busy(CPU, 2.5)
    assert len(portions) == 3 * 10


@pytest.mark.parametrize(("each_s", "samples"), [(0.1, 20), (1.0, 10), (7.0, 5)])
def test_on_a_slow_machine_fewer_samples_will_do(
    monkeypatch: pytest.MonkeyPatch, each_s: float, samples: int
) -> None:
    monkeypatch.setattr(measure, "_timed", lambda *_: each_s)
    assert measure._time_calls(lambda: None, CPU, 20, 10.0) == [each_s] * samples
