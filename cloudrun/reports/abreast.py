"""Wait for a bucket in other threads: for several answers at a time, and so that Ctrl-C is heard.

obstore waits deaf to signals, for half a minute where no answer comes. What is
interrupted here goes on in its thread, which the process does not wait for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
A = TypeVar("A")

# On Windows, waiting for a queue is deaf too, so it is never long.
_DEAF_S = 0.2


def heard(act: Callable[[], T]) -> T:
    """Do this; in the main thread, Ctrl-C ends the wait for it."""
    if threading.current_thread() is not threading.main_thread():
        return act()
    return abreast(lambda _: act(), [None], 1)[0]


def abreast(act: Callable[[A], T], arguments: Sequence[A], at_once: int) -> list[T]:
    """Do the same to each, so many at a time; what came of it, in order.

    Raises:
        Exception: the first that `act` raises; nothing new is begun then.
    """
    waiting = iter(list(enumerate(arguments)))
    lock, over = threading.Lock(), threading.Event()
    answers: queue.SimpleQueue[tuple[int, T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while not over.is_set():
            with lock:
                number, argument = next(waiting, (-1, None))
            if number < 0:
                return
            try:
                answers.put((number, act(argument), None))  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                answers.put((number, None, error))
                over.set()

    for _ in range(min(at_once, len(arguments))):
        threading.Thread(target=work, daemon=True, name="bucket").start()
    found: dict[int, T] = {}
    try:
        while len(found) < len(arguments):
            number, value, error = _next(answers)
            if error is not None:
                raise error
            found[number] = value  # type: ignore[assignment]
    finally:
        over.set()
    return [found[number] for number in range(len(arguments))]


def _next(answers: queue.SimpleQueue[T]) -> T:
    while True:
        try:
            return answers.get(timeout=_DEAF_S)
        except queue.Empty:
            continue
