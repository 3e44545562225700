"""A notebook server on a host, reached through a tunnel, ended with us."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from cloudrun.errors import WorkloadFailed
from cloudrun.hosts import scripts
from cloudrun.hosts.connection import Connection
from cloudrun.hosts.tunnel import tunnel

if TYPE_CHECKING:
    import paramiko

_START_S = 90.0
# What the server says when it can be opened.
_READY = b"is running at"
_MOST_WORDS = 20_000


def serve(connection: Connection, python: str, folder: str, opened: Callable[[str], None]) -> None:
    """Run a notebook server in a folder of the host's until it, or we, end.

    Args:
        connection: To the host.
        python: The Python on the host that has jupyterlab.
        folder: Where its files are, from the home.
        opened: Is told the address to open here, as soon as it answers.

    Raises:
        WorkloadFailed: it does not start.
        HostUnreachable: the connection was lost.
    """
    token = secrets.token_urlsafe(24)
    script = scripts.render("jupyter.sh", python=python, folder=folder, token=token)
    # The server's input ends with the exchange, and the server with its input.
    with connection.exchange(script) as channel:
        with tunnel(connection, _port(connection, channel)) as here:
            opened(f"http://127.0.0.1:{here}/lab?token={token}")
            for _ in connection.receive(channel, limit_s=None):
                pass
        connection.status(channel)


def _port(connection: Connection, channel: paramiko.Channel) -> int:
    """Wait until the server can be opened; returns its port on the host."""
    said = {1: bytearray(), 2: bytearray()}
    for stream, data in connection.receive(channel, _START_S):
        said[stream] += data[:_MOST_WORDS]
        if _READY in said[2] and said[1].strip().isdigit():
            return int(said[1])
    connection.status(channel)
    lines = said[2].decode(errors="replace").strip().splitlines() or ["It left no message."]
    raise WorkloadFailed(
        "The notebook server did not start on the machine.",
        lines[-1][:500],
        "Look at the machine by itself: cloudrun ssh",
    )
