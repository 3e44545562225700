"""A port here that leads to one on the host, through the SSH connection."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from cloudrun.errors import HostUnreachable
from cloudrun.hosts.connection import Connection

_CHUNK = 2**16


@contextlib.contextmanager
def tunnel(connection: Connection, port: int) -> Iterator[int]:
    """Lead a free port of this machine's loopback to `port` of the host's; gives its number."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, connection, port), daemon=True).start()
        yield int(server.getsockname()[1])


def _accept(server: socket.socket, connection: Connection, port: int) -> None:
    # Closing the server ends the waiting.
    with contextlib.suppress(OSError):
        while True:
            near, address = server.accept()
            try:
                far = connection.open_way("127.0.0.1", port, address)
            except HostUnreachable:
                near.close()
                continue
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: Any, target: Any) -> None:
    """Carry bytes one way until their end, and tell the other side of it."""
    with contextlib.suppress(OSError, EOFError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError, EOFError):
        target.shutdown(socket.SHUT_WR)
