"""One SSH connection to a host, over its jump hosts, by paramiko."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.errors import HostUnreachable, Unavailable
from cloudrun.hosts import dial
from cloudrun.hosts.base import NOBODY, Person
from cloudrun.hosts.dial import BROKEN
from cloudrun.hosts.hostkeys import shake_hands
from cloudrun.hosts.lean import paramiko
from cloudrun.hosts.login import log_in
from cloudrun.hosts.route import Hop

_MARK = "cloudrun-can-begin"
_MARKED = f"{_MARK}\n".encode()
_MOST_NOISE = 2**16
_SESSION_S = 1.0
# Large, so that the thread that receives is not woken for every packet of a stream.
_CHUNK = 2**20


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit status and what it said."""

    status: int
    out: bytes
    err: bytes


class Connection:
    """An open connection. Close it, or use it as a context manager.

    `round_trip_s`: how long a message and its answer take, in seconds.
    """

    def __init__(
        self, transports: list[paramiko.Transport], line: dial.Line, hop: Hop, round_trip_s: float
    ) -> None:
        self._transports = transports
        self._watch = dial.Watch(self.transport, line)
        self._watch.start()
        self.hop = hop
        self.round_trip_s = round_trip_s
        self._spare: _Opening | None = None
        # Results come home in a thread of their own.
        self._lock = threading.Lock()

    @property
    def transport(self) -> paramiko.Transport:
        """The connection to the host itself, the last of the way."""
        return self._transports[-1]

    @property
    def is_alive(self) -> bool:
        """Whether the connection still stands, as far as can be told without a word."""
        return all(transport.is_active() for transport in self._transports)

    def open_exec(self, command: str) -> paramiko.Channel:
        """Start a command on the host; gives the channel with its streams.

        Raises:
            HostUnreachable: the connection is lost.
        """
        channel = self._open_session()
        try:
            channel.exec_command(command)
        except BROKEN as error:
            raise self._lost(error) from error
        return channel

    def _open_session(self) -> paramiko.Channel:
        until = time.monotonic() + _SESSION_S
        try:
            while True:
                try:
                    return self.transport.open_session(timeout=dial.CONNECT_S)
                except paramiko.ChannelException:
                    # One that was closed a moment ago still counts there.
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.1)
        except paramiko.ChannelException as error:
            raise Unavailable(
                f"{self.hop} allows no other session beside those that are open.",
                f"It says: {error.text}.",
                "Raise MaxSessions in the sshd_config there: 10 is usual, 3 will do.",
            ) from error
        except BROKEN as error:
            raise self._lost(error) from error

    def open_script(self, script: str) -> paramiko.Channel:
        """Start a POSIX shell script, whatever the user's own shell is; its input may follow.

        The script goes over the channel's stdin and not on the command line, so
        that what it holds is in no list of processes.
        """
        with self._lock:
            spare, self._spare = self._spare, None
        channel = spare.take() if spare else None
        is_refused = spare is not None and channel is None
        channel = channel or self._open_shell()
        with self._lock:
            # The next one starts now: a shell whose start-up files run conda or pyenv takes
            # a tenth of a second, and a far host two round trips. Not where few are allowed.
            self._spare = self._spare or (spare if is_refused else _Opening(self._open_shell))
        text = script.encode()
        self.send(channel, b"%d\n%b" % (len(text), text))
        return channel

    @contextlib.contextmanager
    def exchange(self, script: str) -> Iterator[paramiko.Channel]:
        """A script as by `open_script`, its channel closed at the end, whatever it still says."""
        channel = self.open_script(script)
        try:
            yield channel
        finally:
            # paramiko's thread wakes us through a pipe, and may be about to write into it
            # just when it is closed: that would end the whole connection.
            buffers: tuple[Any, ...] = (channel.in_buffer, channel.in_stderr_buffer)
            for buffer in buffers:
                with buffer._lock:
                    buffer._event = None
            # It says so to the host, which may be gone.
            with contextlib.suppress(*BROKEN):
                channel.close()

    def warm(self) -> None:
        """Start a shell for the first script already."""
        with self._lock:
            self._spare = self._spare or _Opening(self._open_shell)

    def _open_shell(self) -> paramiko.Channel:
        """A POSIX shell that waits for a script, its length in a line before it.

        What the user's own shell says when it starts, by an echo in ~/.bashrc, comes
        before the mark, and is no matter.
        """
        channel = self.open_exec(
            f"""exec sh -c 'echo {_MARK}; echo {_MARK} >&2; read -r n && eval "$(head -c "$n")"'"""
        )
        said = {1: bytearray(), 2: bytearray()}
        for stream, data in self.receive(channel, dial.CONNECT_S):
            said[stream] += data[:_MOST_NOISE]
            if all(text.endswith(_MARKED) for text in said.values()):
                return channel
        words = (said[2] or said[1]).decode(errors="replace").strip()[-300:]
        raise self._lost(f"The shell there ended before it could be used: {words or 'no word'}")

    def open_way(self, host: str, port: int, origin: tuple[str, int]) -> paramiko.Channel:
        """Open a way through the host to a port that it can reach, for `origin` here.

        Raises:
            HostUnreachable: nothing listens there, or the connection is lost.
        """
        try:
            return self.transport.open_channel(
                "direct-tcpip", (host, port), origin, timeout=dial.CONNECT_S
            )
        except BROKEN as error:
            raise HostUnreachable(
                f"Port {port} cannot be reached through {self.hop}.", f"{error}."
            ) from error

    def open_shell(self, terminal: str | None, columns: int, rows: int) -> paramiko.Channel:
        """Start the user's login shell in a terminal of this type and size; None: in none."""
        channel = self._open_session()
        try:
            if terminal is not None:
                channel.get_pty(terminal, columns, rows)
            channel.invoke_shell()
        except BROKEN as error:
            raise self._lost(error) from error
        return channel

    def run_script(self, script: str, stdin: bytes = b"", limit_s: float = dial.CONNECT_S) -> Done:
        """Run a short script to its end and return what it said.

        Raises:
            HostUnreachable: the connection was lost, or nothing came for `limit_s` seconds.
        """
        out, err = bytearray(), bytearray()
        with self.exchange(script) as channel:
            channel.settimeout(limit_s)
            self.send(channel, stdin)
            end_input(channel)
            for number, data in self.receive(channel, limit_s):
                (out if number == 1 else err).extend(data)
            return Done(self.status(channel), bytes(out), bytes(err))

    def send(self, channel: paramiko.Channel, data: bytes) -> None:
        """Send bytes to a command's stdin."""
        try:
            channel.sendall(data)
        except BROKEN as error:
            raise self._lost(error) from error

    def receive(
        self, channel: paramiko.Channel, limit_s: float | None
    ) -> Iterator[tuple[int, bytes]]:
        """Give what a command says as it comes, (1, stdout) and (2, stderr), until it has ended.

        Raises:
            HostUnreachable: nothing came for `limit_s` seconds.
        """
        wake = channel.fileno()
        while True:
            # Asked first: what comes after "over" was told is read below all the same.
            over = (channel.exit_status_ready() and channel.eof_received) or channel.closed
            if channel.recv_ready():
                yield 1, self._take(channel.recv)
            elif channel.recv_stderr_ready():
                yield 2, self._take(channel.recv_stderr)
            elif over:
                return
            elif not select.select([wake], [], [], limit_s)[0]:
                raise self._lost(f"Nothing came from it for {limit_s:.0f} s")

    def _take(self, receive: Callable[[int], bytes]) -> bytes:
        """Take what has come; the host is told that there is room again, and may be gone."""
        try:
            return receive(_CHUNK)
        except BROKEN as error:
            raise self._lost(error) from error

    def status(self, channel: paramiko.Channel) -> int:
        """The exit status of a command that has ended; 128 and more: killed by a signal.

        Raises:
            HostUnreachable: the connection was lost before the command's end was told.
        """
        status = channel.recv_exit_status() if channel.exit_status_ready() else -1
        if status < 0:
            raise self._lost("It was cut off in the middle of a command")
        return status

    def disk_full(self) -> Unavailable:
        """The error for a machine whose disk takes no more."""
        return Unavailable(f"The disk of {self.hop} is full.", "", "Make room on it.")

    def _lost(self, why: object) -> HostUnreachable:
        # The library's word for a connection that just ended is an error without words.
        said = str(why).removesuffix(".")
        return HostUnreachable(f"The connection to {self.hop} was lost.", said and f"{said}.")

    def close(self) -> None:
        """Close the connection and those below it."""
        self._watch.over.set()
        for transport in reversed(self._transports):
            # It may say so through one that is broken.
            with contextlib.suppress(*BROKEN):
                transport.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def end_input(channel: paramiko.Channel) -> None:
    """Tell a command that no more input comes; nothing happens when it has ended.

    paramiko sends this after it has let go of the channel's lock. Its thread may
    have answered the command's end in between, and for a channel that is gone the
    server ends the whole connection.
    """
    # That the connection is broken is seen by who reads the answer.
    with contextlib.suppress(*BROKEN):
        _send_end(channel)


def _send_end(inside: Any) -> None:
    with inside.lock:
        message = inside._send_eof()
        # While keys are exchanged anew, its thread may need the lock first.
        if message is not None and inside.transport.clear_to_send.is_set():
            inside.transport._send_user_message(message)
            return
    if message is not None:
        inside.transport._send_user_message(message)


class _Opening(threading.Thread):
    """A channel that is being opened meanwhile."""

    def __init__(self, open_channel: Callable[[], paramiko.Channel]) -> None:
        super().__init__(daemon=True, name="open-shell")
        self._open = open_channel
        self._channel: paramiko.Channel | None = None
        self.start()

    def run(self) -> None:
        """Open it, in a thread of its own."""
        # Who needs it opens one then, and hears why that cannot be.
        with contextlib.suppress(HostUnreachable, Unavailable):
            self._channel = self._open()

    def take(self) -> paramiko.Channel | None:
        """Give the channel, if it could be opened."""
        self.join()
        return self._channel


def connect(way: Sequence[Hop], own_known_hosts: Path, person: Person = NOBODY) -> Connection:
    """Connect to the last hop of the way, over those before it.

    Args:
        way: What `route.route` gives.
        own_known_hosts: Our own file of known keys; keys that the person trusts are added to it.
        person: Who can be asked.

    Raises:
        HostUnreachable: no connection can be made.
        Refused: a host's key is unknown, has changed or is revoked.
        AccessDenied: the host does not let us in.
    """
    transports: list[paramiko.Transport] = []
    round_trip_s = 0.0
    try:
        for hop in way:
            began = time.monotonic()
            line = dial.through(transports[-1], hop) if transports else dial.dial(hop)
            # To open a connection, or a channel, takes one round trip.
            round_trip_s = time.monotonic() - began
            transport = dial.new_transport(line)
            transports.append(transport)
            shake_hands(transport, hop, own_known_hosts, person)
            log_in(transport, hop, person)
    except BaseException:
        for transport in reversed(transports):
            transport.close()
        raise
    return Connection(transports, line, way[-1], round_trip_s)
