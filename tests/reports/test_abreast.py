from __future__ import annotations

import threading

import pytest

from cloudrun.reports.abreast import abreast, heard


def test_answers_come_in_order_and_as_many_at_a_time_as_allowed() -> None:
    together = threading.Barrier(4)

    def act(number: int) -> int:
        # With fewer at a time, nobody would come past it.
        together.wait(timeout=30)
        return number * number

    assert abreast(act, range(8), 4) == [number * number for number in range(8)]
    assert abreast(act, [], 4) == []


def test_after_an_error_nothing_new_is_begun() -> None:
    begun = []

    def act(number: int) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        abreast(act, range(1000), 1)
    assert len(begun) < 1000


def test_what_is_heard_runs_beside_the_main_thread_only() -> None:
    assert heard(threading.current_thread) is not threading.main_thread()
    names: list[str] = []
    other = threading.Thread(target=lambda: names.append(heard(threading.current_thread).name))
    other.start()
    other.join()
    assert names == [other.name]
