"""A shell on a host, for the person at the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cloudrun.hosts.connection import Connection, end_input

if TYPE_CHECKING:
    import paramiko

_CHUNK = 2**15


def interact(connection: Connection) -> int:
    """Give the terminal to a login shell on the host; returns the shell's exit status.

    Where there is no terminal, what comes on stdin is what the shell reads.

    Raises:
        HostUnreachable: the connection was lost.
    """
    # Without a terminal here there is none there: it would not see that its input ends.
    terminal = os.environ.get("TERM", "dumb") if os.isatty(0) else None
    channel = connection.open_shell(terminal, *_size())
    reader = threading.Thread(target=_send_input, args=(channel,), daemon=True)
    with _raw_terminal(channel):
        reader.start()
        for stream, data in connection.receive(channel, limit_s=None):
            target = (sys.stdout if stream == 1 else sys.stderr).buffer
            target.write(data)
            target.flush()
    return connection.status(channel)


def _size() -> tuple[int, int]:
    """The columns and rows of the terminal that we read from; our output may go elsewhere."""
    try:
        return os.get_terminal_size(0)
    except OSError:
        return shutil.get_terminal_size()


if sys.platform == "win32":
    import msvcrt

    def _send_input(channel: paramiko.Channel) -> None:
        with contextlib.suppress(OSError):
            while True:
                channel.sendall(msvcrt.getwch().encode())

    @contextlib.contextmanager
    def _raw_terminal(channel: paramiko.Channel) -> Iterator[None]:  # noqa: ARG001
        # Lets the console understand what the shell sends.
        os.system("")  # noqa: S605, S607 - nothing is run
        yield

else:
    import termios
    import tty

    def _send_input(channel: paramiko.Channel) -> None:
        with contextlib.suppress(OSError):
            while select.select([0], [], []) and (data := os.read(0, _CHUNK)):
                channel.sendall(data)
            end_input(channel)

    @contextlib.contextmanager
    def _raw_terminal(channel: paramiko.Channel) -> Iterator[None]:
        """Every key goes to the shell as it is, and it hears of the window's size."""
        if not os.isatty(0):
            yield
            return
        before = termios.tcgetattr(0)
        resized = signal.signal(signal.SIGWINCH, lambda *_: channel.resize_pty(*_size()))
        tty.setraw(0)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, resized)
            termios.tcsetattr(0, termios.TCSADRAIN, before)
