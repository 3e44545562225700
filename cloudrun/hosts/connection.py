"""One SSH connection to a host, over its jump hosts, by paramiko, made fast and safe.

Fast: no Nagle delay, no delayed acknowledgements while the handshake lasts, a
cipher that the processor has in hardware (facts and figures in
docs/performance.md). Safe: the host's key is judged before anything is sent.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.errors import AccessDenied, HostUnreachable, Refused, Unavailable
from cloudrun.hosts.base import NOBODY, Person
from cloudrun.hosts.knownhosts import (
    Verdict,
    about,
    entry,
    fingerprint,
    judge,
    kind_of,
    kinds_known,
)
from cloudrun.hosts.lean import paramiko
from cloudrun.hosts.route import Hop

CONNECT_S = 15.0
# A peer that acknowledges nothing for so long is dead.
DEAD_S = 12
_KEEPALIVE_S = 4
_QUICK_RECEIVES = 64
_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr")
_CERTIFICATE = "-cert-v01@openssh.com"
_NEVER = 2**60
_MARK = "cloudrun-can-begin"
_MARKED = f"{_MARK}\n".encode()
_MOST_NOISE = 2**16
_TRIES = 3
_UNUSABLE = "locked, with nobody to ask: ssh-add it; or no key that can be read"
# What the library raises when a connection breaks.
_BROKEN = (paramiko.SSHException, OSError, EOFError)
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

    def __init__(self, transports: list[paramiko.Transport], hop: Hop, round_trip_s: float) -> None:
        self._transports = transports
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
        try:
            channel = self.transport.open_session(timeout=CONNECT_S)
            channel.exec_command(command)
        except _BROKEN as error:
            raise self._lost(error) from error
        return channel

    def open_script(self, script: str) -> paramiko.Channel:
        """Start a POSIX shell script, whatever the user's own shell is; its input may follow.

        The script goes over the channel's stdin and not on the command line, so
        that what it holds is in no list of processes.
        """
        # The next one starts now: a shell whose start-up files run conda or pyenv takes
        # a tenth of a second, and a far host two round trips.
        with self._lock:
            spare, self._spare = self._spare, _Opening(self._open_shell)
        channel = spare.take() if spare else self._open_shell()
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
            with contextlib.suppress(*_BROKEN):
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
        for stream, data in self.receive(channel, CONNECT_S):
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
                "direct-tcpip", (host, port), origin, timeout=CONNECT_S
            )
        except _BROKEN as error:
            raise HostUnreachable(
                f"Port {port} cannot be reached through {self.hop}.", f"{error}."
            ) from error

    def open_shell(self, terminal: str, columns: int, rows: int) -> paramiko.Channel:
        """Start the user's login shell in a terminal of this type and size."""
        try:
            channel = self.transport.open_session(timeout=CONNECT_S)
            channel.get_pty(terminal, columns, rows)
            channel.invoke_shell()
        except _BROKEN as error:
            raise self._lost(error) from error
        return channel

    def run_script(self, script: str, stdin: bytes = b"", limit_s: float = CONNECT_S) -> Done:
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
        except _BROKEN as error:
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
        except _BROKEN as error:
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
        for transport in reversed(self._transports):
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
    with contextlib.suppress(*_BROKEN):
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
        self._error: HostUnreachable | None = None
        self.start()

    def run(self) -> None:
        """Open it, in a thread of its own."""
        try:
            self._channel = self._open()
        except HostUnreachable as error:
            self._error = error

    def take(self) -> paramiko.Channel:
        """Give the channel; the error that there was instead is raised here."""
        self.join()
        if self._channel is None:
            raise self._error or HostUnreachable("The connection was lost.")
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
            sock = _through(transports[-1], hop) if transports else _dial(hop)
            # To open a connection, or a channel, takes one round trip.
            round_trip_s = time.monotonic() - began
            transport = _transport(sock)
            transports.append(transport)
            _shake_hands(transport, hop, own_known_hosts, person)
            _log_in(transport, hop, person)
    except BaseException:
        for transport in reversed(transports):
            transport.close()
        raise
    return Connection(transports, way[-1], round_trip_s)


def _dial(hop: Hop) -> _QuickSocket:
    """Open the TCP connection, with a bound on how long a dead peer goes unnoticed."""
    try:
        sock = socket.create_connection((hop.host, hop.port), timeout=CONNECT_S)
    except OSError as error:
        raise _unreachable(hop, error) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_S),
        ("TCP_KEEPCNT", DEAD_S // _KEEPALIVE_S - 1),
        ("TCP_USER_TIMEOUT", DEAD_S * 1000),
    ):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return _QuickSocket(sock)


class _QuickSocket:
    """A socket that acknowledges at once while the handshake lasts (Linux).

    The handshake is small messages to and fro; an acknowledgement delayed by
    40 ms holds up the peer's next one. The system turns the option off again
    by itself, so it is set before each of the first receives.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._quick = _QUICK_RECEIVES if hasattr(socket, "TCP_QUICKACK") else 0

    def recv(self, count: int) -> bytes:
        if self._quick:
            self._quick -= 1
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return self._sock.recv(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def _through(transport: paramiko.Transport, hop: Hop) -> paramiko.Channel:
    try:
        return transport.open_channel(
            "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=CONNECT_S
        )
    except _BROKEN as error:
        raise HostUnreachable(
            f"{hop} cannot be reached through its jump host.",
            f"{error}.",
            "Try it by hand: ssh -J",
        ) from error


def _transport(sock: Any) -> paramiko.Transport:
    transport = paramiko.Transport(sock)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = CONNECT_S
    options = transport.get_security_options()
    options.ciphers = [name for name in _CIPHERS if name in options.ciphers]
    # paramiko deadlocks now and then when it starts a new key exchange itself
    # (its issue 822); the server's own limits start one in time.
    transport.packetizer.REKEY_BYTES = transport.packetizer.REKEY_PACKETS = _NEVER
    return transport


def _shake_hands(
    transport: paramiko.Transport, hop: Hop, own_known_hosts: Path, person: Person
) -> None:
    """Agree on keys with the host, and judge its own."""
    files = (own_known_hosts, *hop.known_hosts)
    _prefer_known(transport, kinds_known(files, hop.known_as))
    try:
        transport.start_client(timeout=CONNECT_S)
        key = transport.get_remote_server_key()
    except _BROKEN as error:
        raise _unreachable(hop, error) from error
    algorithm = transport.host_key_type or ""
    certificate = key.public_blob if algorithm.endswith(_CERTIFICATE) else None
    blob = certificate.key_blob if certificate else key.asbytes()
    verdict = judge(files, hop.known_as, blob)
    if verdict is Verdict.UNKNOWN:
        _ask_to_trust(hop, blob, person)
        _remember(own_known_hosts, entry(hop.known_as[0], blob))
    elif verdict is not Verdict.KNOWN:
        raise _not_the_known(hop, files, verdict, blob)


def _not_the_known(hop: Hop, files: Sequence[Path], verdict: Verdict, blob: bytes) -> Refused:
    name, shown = hop.known_as[0], fingerprint(blob)
    if verdict is Verdict.REVOKED:
        return Refused(f"The host key of {hop} has been revoked.", f"It shows {shown}.")
    known = [line for line in about(files, name) if line.kind == kind_of(blob)]
    held = " and ".join(dict.fromkeys(str(line.file) for line in known))
    return Refused(
        f"The host key of {hop} has changed.",
        f"It shows {shown}, and {held} has another one. Somebody may be between you and the "
        "host, or it was set up anew.",
        f"If you know that it was set up anew, remove '{name}' from {held}"
        f" (ssh-keygen -R '{name}' -f '{known[0].file}').",
    )


def _prefer_known(transport: paramiko.Transport, kinds: list[str]) -> None:
    """Ask the host for a key of a type that can be checked here."""
    options = transport.get_security_options()
    plain = list(options.key_types)
    certificates = [f"{kind}{_CERTIFICATE}" for kind in plain] if "certificate" in kinds else []
    # One RSA key goes by several names.
    known = [kind for kind in plain if kind in kinds or ("ssh-rsa" in kinds and "rsa" in kind)]
    options.key_types = [*certificates, *known, *(kind for kind in plain if kind not in known)]


def _ask_to_trust(hop: Hop, blob: bytes, person: Person) -> None:
    """An unknown key needs a person's yes; --yes is none."""
    shown = f"{kind_of(blob)} {fingerprint(blob)}"
    if person.trust is None:
        raise Refused(
            f"The host key of {hop} is not known.",
            f"It shows {shown}, and there is nobody to ask.",
            f"Connect once by hand and compare it: ssh {hop.user}@{hop.host} -p {hop.port}",
        )
    if not person.trust(f"The host key of {hop} is not known: {shown}. Do you trust it?"):
        raise Refused(f"The host key of {hop} is not trusted.", "You said no.")


def _remember(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def _log_in(transport: paramiko.Transport, hop: Hop, person: Person) -> None:
    tried: list[str] = []
    for name, key in _keys(hop, person):
        tried.append(name)
        if key is None:
            continue
        try:
            transport.auth_publickey(hop.user, key)
        except paramiko.BadAuthenticationType as error:
            raise AccessDenied(
                f"{hop} takes no keys.",
                f"It asks for: {', '.join(error.allowed_types)}.",
                "Put your public key on it: ssh-copy-id",
            ) from error
        except paramiko.AuthenticationException:
            continue
        except _BROKEN as error:
            raise AccessDenied(
                f"{hop} closed the connection during the log-in.",
                f"Tried: {', '.join(tried)}. It may allow few tries.",
                "Name the right key with IdentityFile and IdentitiesOnly in ~/.ssh/config.",
            ) from error
        if transport.is_authenticated():
            return
    raise AccessDenied(
        f"{hop} does not let you in.",
        f"Tried: {', '.join(tried)}." if tried else "There is no key to try.",
        f"Put your public key on it: ssh-copy-id -p {hop.port} {hop.user}@{hop.host}",
    )


def _keys(hop: Hop, person: Person) -> Iterator[tuple[str, paramiko.PKey | None]]:
    """The keys to try: those of the configuration that the agent holds, its others, the files.

    None stands for a file that cannot be used.
    """
    files = [path for path in hop.keys if path.exists()]
    public = [_public(path) for path in files]
    held = list(paramiko.Agent().get_keys())
    named = [key for key in held if key.asbytes() in public]
    others = [] if hop.only_these_keys else [key for key in held if key not in named]
    for key in (*named, *others):
        yield f"a key of the agent ({key.get_name()})", key
    in_agent = {key.asbytes() for key in named}
    for path, blob in zip(files, public, strict=True):
        if blob not in in_agent:
            own = _load(path, person)
            yield (str(path) if own else f"{path} ({_UNUSABLE})"), own


def _public(path: Path) -> bytes:
    """The public half of a key file, as the agent would show it; empty when it is not told."""
    try:
        return base64.b64decode(path.with_name(path.name + ".pub").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return b""


def _load(path: Path, person: Person) -> paramiko.PKey | None:
    """Read a private key, asking for its passphrase; None when it cannot be used."""
    try:
        return paramiko.PKey.from_path(path)
    except TypeError:
        # So the library says that the key needs a passphrase.
        return _unlock(path, person)
    except (paramiko.SSHException, OSError, ValueError):
        # Not every file that the configuration names is a private key that we can read.
        return None


def _unlock(path: Path, person: Person) -> paramiko.PKey | None:
    """Ask for the passphrase, a few times; None where nobody gives one."""
    for _ in range(_TRIES):
        phrase = person.passphrase(path) if person.passphrase else None
        if phrase is None:
            return None
        key = _unlocked(path, phrase)
        if key is not None:
            return key
        person.tell("That is not the passphrase.")
    raise AccessDenied(f"The passphrase for {path} is wrong.", "", "Try again.")


def _unlocked(path: Path, phrase: str) -> paramiko.PKey | None:
    with path.open(encoding="utf-8") as file:
        for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
            file.seek(0)
            try:
                return kind.from_private_key(file, password=phrase)
            except (paramiko.SSHException, ValueError):
                continue
    return None


def _unreachable(hop: Hop, error: BaseException) -> HostUnreachable:
    """Tell the ways apart in which a host is not reached."""
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
        remedy = "Try it by hand: ssh -v"
    return HostUnreachable(f"{hop} cannot be reached.", why, remedy)
