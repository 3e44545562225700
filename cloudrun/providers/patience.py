"""Patience with a cloud: insisting where it gives no answer, and asking many things at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

from cloudrun.errors import AccessDenied, CloudrunError, HostUnreachable, Unavailable

T = TypeVar("T")
A = TypeVar("A")

_INSIST_S = 60.0
_insist_s: ContextVar[float | None] = ContextVar("insist_s", default=None)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_AT_ONCE = 24
# Billing has ended when a machine is being ended; what hangs on it goes after it.
_GONE_S = 600.0
_LONGEST_LOOK_S = 5.0


class Lost(HostUnreachable):
    """The cloud gave no answer that makes sense; what was asked for may have been done."""


class Throttled(Unavailable):
    """The cloud is overloaded, or was called too often; later it will do it."""


def patiently(act: Callable[[], T]) -> T:
    """Do what asks a cloud, again and again for a minute where it gives no answer.

    Raises:
        CloudrunError: what `act` raises; Lost and Throttled only after a minute, or what
            `at_most` says.
    """
    began, pause = time.monotonic(), _FIRST_PAUSE_S
    while True:
        try:
            return act()
        except (Lost, Throttled):
            if time.monotonic() + pause > began + (_insist_s.get() or _INSIST_S):
                raise
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Insist for no longer, where somebody waits for something else."""
    before = _insist_s.set(seconds)
    try:
        yield
    finally:
        _insist_s.reset(before)


def side_by_side(act: Callable[[A], T], arguments: Iterable[A]) -> list[T | CloudrunError]:
    """Do the same for several at a time; an error of ours is the result of its own only."""

    def careful(argument: A) -> T | CloudrunError:
        try:
            return act(argument)
        except CloudrunError as error:
            return error

    arguments = list(arguments)
    with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(arguments)))) as pool:
        return list(pool.map(careful, arguments))


def raise_if_hopeless(answers: Iterable[object]) -> None:
    """Of what was asked side by side, raise the first error if all are, or if you may not."""
    answers = list(answers)
    problems = [answer for answer in answers if isinstance(answer, CloudrunError)]
    for problem in problems:
        if len(problems) == len(answers) or isinstance(problem, AccessDenied):
            raise problem


def until_none(left: Callable[[], Sequence[str]], what: str, run_id: str) -> None:
    """Ask what is left, and for its end, until nothing is.

    Args:
        left: Gives the names of what is left.
        what: The beginning of the sentence that names them.
        run_id: Whose they are.

    Raises:
        Unavailable: something was, for ten minutes.
    """
    until, pause = time.monotonic() + _GONE_S, _FIRST_PAUSE_S
    while names := left():
        if time.monotonic() > until:
            raise Unavailable(
                f"{what}: {', '.join(names)}.",
                f"They belong to run {run_id}.",
                "See what is there, and end it: cloudrun leaks --kill",
            )
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_LOOK_S)
