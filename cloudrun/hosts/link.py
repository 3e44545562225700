"""A connection that comes back: what is lost is opened again, for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from cloudrun.errors import HostUnreachable
from cloudrun.hosts.connection import Connection

T = TypeVar("T")

# With the time that it takes to notice a dead peer, a machine that is gone for
# good ends its run within a minute.
PATIENCE_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0


class Link:
    """The way to one host. `open_connection` connects; `tell` hears of lost connections."""

    def __init__(
        self, open_connection: Callable[[], Connection], tell: Callable[[str], None]
    ) -> None:
        self._open = open_connection
        self._tell = tell
        self._connection: Connection | None = None
        self._closed = False
        # Results come home in a thread of their own.
        self._lock = threading.RLock()

    @property
    def connection(self) -> Connection:
        """The connection, opened where there is none that stands.

        Raises:
            HostUnreachable: there is none to be had.
        """
        with self._lock:
            if self._connection is None or not self._connection.is_alive:
                self.drop()
                if self._closed:
                    raise HostUnreachable("The connection was closed.")
                self._connection = self._open()
            return self._connection

    def open(self) -> None:
        """Connect now.

        Raises:
            HostUnreachable: there is no connection to be had.
        """
        self.connection.warm()

    def drop(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def close(self) -> None:
        """Close the connection for good."""
        self._closed = True
        self.drop()

    def insist(self, act: Callable[[Connection], T]) -> T:
        """Do something that does no harm when it is done twice, through lost connections.

        Raises:
            HostUnreachable: the host was gone for `PATIENCE_S` seconds.
        """
        lost_at: float | None = None
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return act(self.connection)
            except HostUnreachable as error:
                self.drop()
                if lost_at is None:
                    lost_at = time.monotonic()
                    self._tell(f"{error.what} {error.why} Trying again for {PATIENCE_S:.0f} s.")
                if self._closed or time.monotonic() + pause > lost_at + PATIENCE_S:
                    raise
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
