"""The cloud's own time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cloudrun.rehearsal.clock import Clock


@pytest.fixture
def clock() -> Iterator[Clock]:
    made = Clock(threading.RLock())
    made.start()
    yield made
    made.stop()


def test_acts_run_by_themselves(clock: Clock) -> None:
    done = threading.Event()
    clock.after(0.01, done.set)
    assert done.wait(10)


def test_a_nearer_act_is_not_held_up_by_a_farther_one(clock: Clock) -> None:
    done = threading.Event()
    clock.after(1000, lambda: None)
    clock.after(0.01, done.set)
    assert done.wait(10)


def test_skipping_runs_what_is_due_in_the_order_of_time(clock: Clock) -> None:
    seen: list[int] = []
    for seconds in (30, 10, 20, 40):
        clock.after(seconds, lambda seconds=seconds: seen.append(seconds))  # type: ignore[misc]
    clock.skip(29)
    assert seen == [10, 20]
    clock.skip(1)
    assert seen == [10, 20, 30]


def test_nothing_runs_after_the_end(clock: Clock) -> None:
    seen: list[int] = []
    clock.after(10, lambda: seen.append(1))
    clock.stop()
    clock.skip(10)
    assert seen == []


def test_an_act_that_fails_is_told_at_the_end_and_holds_up_no_other() -> None:
    clock, done = Clock(threading.RLock()), threading.Event()
    clock.start()
    clock.after(0.01, lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    clock.after(0.02, done.set)
    assert done.wait(10)
    with pytest.raises(ZeroDivisionError):
        clock.stop()
