"""What happens in the cloud by itself: acts that are due some time after a request.

A test need not wait for them: `skip` moves the cloud's time ahead.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

Act = Callable[[], None]


class Clock:
    """The cloud's time. Acts run under `lock`: at their time, or before the next request."""

    def __init__(self, lock: threading.RLock) -> None:
        self._due = threading.Condition(lock)
        self._acts: list[tuple[float, int, Act]] = []
        self._count = itertools.count()
        self._skipped = 0.0
        self._stopped = False
        self._broken: list[Exception] = []
        self._thread = threading.Thread(target=self._run, name="rehearsal clock", daemon=True)

    def start(self) -> None:
        """Let time pass."""
        self._thread.start()

    def stop(self) -> None:
        """Let no act run any more. To be called without the lock.

        Raises:
            Exception: What the first act raised that did not do what it was to.
        """
        with self._due:
            self._stopped = True
            self._due.notify()
        self._thread.join()
        if self._broken:
            raise self._broken[0]

    def now(self) -> float:
        """Seconds, from no special day on."""
        return time.monotonic() + self._skipped

    def after(self, seconds: float, act: Act) -> None:
        """Let `act` run in so many seconds."""
        with self._due:
            heapq.heappush(self._acts, (self.now() + seconds, next(self._count), act))
            self._due.notify()

    def skip(self, seconds: float) -> None:
        """Move the cloud's time ahead, and run what is due by then."""
        with self._due:
            self._skipped += seconds
            self.run_due()

    def run_due(self) -> None:
        """Run what is due, each in the order of its time."""
        with self._due:
            while not self._stopped and self._acts and self._acts[0][0] <= self.now():
                act = heapq.heappop(self._acts)[2]
                try:
                    act()
                except Exception as error:  # noqa: BLE001 - `stop` raises it; time goes on
                    self._broken.append(error)

    def _run(self) -> None:
        with self._due:
            while not self._stopped:
                self.run_due()
                wait = self._acts[0][0] - self.now() if self._acts else None
                if wait is None or wait > 0:
                    self._due.wait(wait)
