"""What an SSH connection runs over, made fast, and watched: a far end that is dead is noticed.

Fast: no Nagle delay, no delayed acknowledgements while the handshake lasts, a
cipher that the processor has in hardware (figures in docs/performance.md).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from cloudrun.errors import HostUnreachable
from cloudrun.hosts.lean import paramiko
from cloudrun.hosts.route import Hop

CONNECT_S = 15.0
# A peer from which nothing comes for so long is dead; one that is silent is asked before.
DEAD_S = 12
KEEPALIVE_S = 4
# What the library raises when a connection breaks.
BROKEN = (paramiko.SSHException, OSError, EOFError)
_QUICK_RECEIVES = 64
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
_NEVER = 2**60


class Line:
    """A socket, or a channel through a jump host, that knows when it last heard of its peer.

    It acknowledges at once while the handshake lasts (Linux): that is small
    messages to and fro, and an acknowledgement delayed by 40 ms holds up the
    peer's next one. The system turns the option off again by itself, so it is
    set before each of the first receives.
    """

    def __init__(self, way: socket.socket | paramiko.Channel) -> None:
        self._way = way
        is_quick = isinstance(way, socket.socket) and hasattr(socket, "TCP_QUICKACK")
        self._quick = _QUICK_RECEIVES if is_quick else 0
        self.heard_at = time.monotonic()

    def recv(self, count: int) -> bytes:
        """Receive, as a socket does."""
        if self._quick and isinstance(self._way, socket.socket):
            self._quick -= 1
            self._way.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        data = self._way.recv(count)
        self.heard_at = time.monotonic()
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._way, name)


def dial(hop: Hop) -> Line:
    """Open the TCP connection, with a bound on how long a dead peer goes unnoticed.

    Raises:
        HostUnreachable: there is none to be had.
    """
    try:
        sock = socket.create_connection((hop.host, hop.port), timeout=CONNECT_S)
    except OSError as error:
        raise unreachable(hop, error) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_S),
        ("TCP_KEEPCNT", DEAD_S // KEEPALIVE_S - 1),
        ("TCP_USER_TIMEOUT", DEAD_S * 1000),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return Line(sock)


def through(transport: paramiko.Transport, hop: Hop) -> Line:
    """Open a way to the next host through this one.

    Raises:
        HostUnreachable: this one does not get there.
    """
    try:
        return Line(
            transport.open_channel(
                "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=CONNECT_S
            )
        )
    except BROKEN as error:
        raise HostUnreachable(
            f"{hop} cannot be reached through its jump host.",
            f"{error}.",
            f"Try it by hand: ssh -v {hop.user}@{hop.host} -p {hop.port}",
        ) from error


def new_transport(line: Line) -> paramiko.Transport:
    """The SSH connection over a line, before its first word."""
    transport = paramiko.Transport(line)  # type: ignore[arg-type]
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = CONNECT_S
    options = transport.get_security_options()
    options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
    # paramiko deadlocks now and then when it starts a new key exchange itself
    # (its issue 822); the server's own limits start one in time.
    transport.packetizer.REKEY_BYTES = transport.packetizer.REKEY_PACKETS = _NEVER
    return transport


class Watch(threading.Thread):
    """Closes a connection whose far end has died.

    TCP tells of its own peer only: behind a jump host, and of a server that hangs
    on a machine that lives, nobody would tell.
    """

    def __init__(self, transport: paramiko.Transport, line: Line) -> None:
        super().__init__(daemon=True, name="watch")
        self._transport, self._line = transport, line
        self.over = threading.Event()

    def run(self) -> None:
        """Ask when nothing came for a while; give up when nothing comes at all."""
        question = None
        while not self.over.wait(KEEPALIVE_S) and self._transport.is_active():
            silent_s = time.monotonic() - self._line.heard_at
            if silent_s > DEAD_S + KEEPALIVE_S / 2 and question is not None:
                # Through a jump host it says so to one that hears nothing.
                with contextlib.suppress(*BROKEN):
                    self._transport.close()
            elif silent_s > KEEPALIVE_S / 2 and (question is None or not question.is_alive()):
                # In a thread, since it waits where the way is blocked.
                question = threading.Thread(target=self._ask, daemon=True, name="ask")
                question.start()

    def _ask(self) -> None:
        """Send what every server answers, if only by saying that it does not know it."""
        message = paramiko.Message()
        message.add_byte(paramiko.common.cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        with contextlib.suppress(*BROKEN):
            self._transport._send_user_message(message)  # type: ignore[attr-defined]


def unreachable(hop: Hop, error: BaseException) -> HostUnreachable:
    """The error for a host that is not reached; the ways in which it is not are told apart."""
    if isinstance(error, socket.gaierror):
        why, remedy = f"There is no host named '{hop.host}'.", "Look at the name's spelling."
    elif isinstance(error, TimeoutError):
        why = f"It did not answer within {CONNECT_S:.0f} s."
        remedy = f"Is it on? Does a firewall, or your network, block port {hop.port}?"
    elif isinstance(error, ConnectionRefusedError):
        why = f"Nothing listens on its port {hop.port}."
        remedy = "Is sshd running there, and on this port?"
    else:
        why = f"{getattr(error, 'strerror', None) or error or type(error).__name__}."
        remedy = f"Try it by hand: ssh -v {hop.user}@{hop.host} -p {hop.port}"
    return HostUnreachable(f"{hop} cannot be reached.", why, remedy)
