"""Have a program of ours run by the machine's own Python, and hear what it says.

The program (templates/prepare_python.py) and its order go over stdin. It
answers in marked lines of JSON, and gives a sign of life every other second.
The machine is not trusted: every message is checked and everything is bounded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from cloudrun.errors import AccessDenied, DeadlineReached, HostUnreachable, Refused
from cloudrun.hosts import scripts
from cloudrun.hosts.connection import Connection, end_input
from cloudrun.model.words import clean

_MARK = b"cloudrun: "
# Before the program runs, a Python or two that hangs is waited for.
_SILENCE_S = 90.0
_STOPPING_S = 15.0
_MOST_BYTES = 8 * 2**20
_LONGEST_LINE = 2**20
_ERRORS_KEPT = 4000

_Path = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^/[^\x00-\x1f\x7f]*$")]
_Version = Annotated[str, Meta(max_length=100, pattern=r"^[A-Za-z0-9.+_!-]+$")]
_Short = Annotated[str, Meta(max_length=200)]
_Text = Annotated[str, Meta(max_length=40_000)]
_Numbers = tuple[int, int, int]


class Gpu(msgspec.Struct, frozen=True):
    """An NVIDIA GPU, as `workloads.driver` sees it."""

    name: _Short
    driver: Annotated[str, Meta(pattern=r"^[0-9.]{1,40}$")]
    compute_capability: Annotated[str, Meta(pattern=r"^(\d{1,3}\.\d{1,3})?$")]


class Nvidia(msgspec.Struct, frozen=True):
    """The machine's NVIDIA GPUs, or the problem that hides them."""

    gpus: Annotated[tuple[Gpu, ...], Meta(max_length=64)]
    problem: _Text | None


class Python(msgspec.Struct, frozen=True):
    """A Python on the machine. `proven`: its torch was seen to compute there, with this driver."""

    path: _Path
    version: _Numbers
    is_venv: bool
    torch: _Version | None
    pip: _Version | None
    venv: bool
    ensurepip: bool
    proven: bool


_Pythons = Annotated[tuple[Python, ...], Meta(max_length=200)]


class Seen(msgspec.Struct, frozen=True, tag_field="is", tag="seen"):
    """What the machine has. `python`: the one that runs our programs."""

    system: _Short
    machine: _Short
    python: _Path
    nvidia: Nvidia | None
    pythons: _Pythons
    environments: _Pythons
    folder: _Path
    free_bytes: Annotated[int, Meta(ge=0)]
    uv: _Path | None


class NoPython(msgspec.Struct, frozen=True, tag_field="is", tag="no_python"):
    """There is no Python that is new enough, only these versions."""

    too_old: Annotated[tuple[_Version, ...], Meta(max_length=100)]


class Beat(msgspec.Struct, frozen=True, tag_field="is", tag="beat"):
    """A sign of life."""


class Probing(msgspec.Struct, frozen=True, tag_field="is", tag="probing"):
    """A torch is about to be tried."""

    path: _Path
    torch: _Version


class Refusal(msgspec.Struct, frozen=True):
    """A torch that does not compute, and why."""

    path: _Path
    why: _Text


class Probed(msgspec.Struct, frozen=True, tag_field="is", tag="probed"):
    """The first Python whose torch computes, and those before it that do not."""

    works: _Path | None
    failed: Annotated[tuple[Refusal, ...], Meta(max_length=200)]


class Step(msgspec.Struct, frozen=True, tag_field="is", tag="step"):
    """A step of making an environment has begun."""

    step: _Short


class Removed(msgspec.Struct, frozen=True, tag_field="is", tag="removed"):
    """Environments that nothing had used for long were removed."""

    count: Annotated[int, Meta(ge=1)]


class Downloading(msgspec.Struct, frozen=True, tag_field="is", tag="downloading"):
    """A large file is about to be downloaded."""

    file: _Short
    size: _Short


class Built(msgspec.Struct, frozen=True, tag_field="is", tag="built"):
    """The environment is there."""

    path: _Path
    torch: _Version | None


class Failed(msgspec.Struct, frozen=True, tag_field="is", tag="failed"):
    """The environment could not be made: which step, why, and the end of its log."""

    step: _Short
    why: _Text
    log: _Path
    tail: _Text


class Stopped(msgspec.Struct, frozen=True, tag_field="is", tag="stopped"):
    """Everything was stopped."""


Message = (
    Seen
    | NoPython
    | Beat
    | Probing
    | Probed
    | Step
    | Removed
    | Downloading
    | Built
    | Failed
    | Stopped
)
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def order(
    connection: Connection, python: str, what: dict[str, Any], until: float
) -> Iterator[Message]:
    """Give an order to our program on the machine and hear its messages until it ends.

    Whatever ends this ends the program, and all that it started.

    Args:
        connection: To the machine.
        python: The Python to run it with; empty: one is looked for.
        what: The order, as templates/prepare_python.py takes it.
        until: The moment (`time.monotonic()`) at which it must be over.

    Raises:
        DeadlineReached: the moment came first; the program was stopped.
        HostUnreachable: the connection was lost.
        Refused: what comes is not what our program says.
    """
    program = scripts.text("prepare_python.py").encode()
    hand_over = scripts.render("hand_over.sh", size=len(program), python=python)
    left = {"limit_s": max(1.0, until - time.monotonic())}
    with connection.exchange(hand_over) as channel:
        connection.send(channel, program + msgspec.json.encode({**what, **left}) + b"\n")
        try:
            for message in _messages(connection, channel, bytearray(), until):
                if isinstance(message, Stopped):
                    raise _too_late(connection, stopped=True)
                yield message
        except _Late:
            raise _too_late(connection, stopped=_stop(connection, channel)) from None


class _Late(Exception):
    """The moment has come."""


def _messages(
    connection: Connection, channel: Any, errors: bytearray, until: float
) -> Iterator[Message]:
    """The messages as they come. What else is said on stdout, by a log-in script, is no matter."""
    buffer, count = bytearray(), 0
    for number, data in _received(connection, channel, until):
        count += len(data)
        if number == 2:
            errors.extend(data[: _ERRORS_KEPT - len(errors)])
        else:
            buffer.extend(data)
        *lines, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        if count > _MOST_BYTES or len(buffer) > _LONGEST_LINE:
            raise _strange(connection, f"It says more than the {_MOST_BYTES} bytes there may be.")
        yield from (_read(connection, line) for line in lines if line.startswith(_MARK))
        if time.monotonic() > until:
            raise _Late
    status = connection.status(channel)
    if status != 0 and b"No space left" in errors:
        raise connection.disk_full()
    if status != 0 and b"Permission denied" in errors:
        raise AccessDenied(
            f"The home folder on {connection.hop} cannot be written to.",
            clean(_last_line(errors)),
            "cloudrun keeps its things below ~/.cloudrun there: make that folder yours.",
        )
    if status != 0:
        raise _strange(connection, f"It ended with status {status}. {_last_line(errors)}")


def _received(connection: Connection, channel: Any, until: float) -> Iterator[tuple[int, bytes]]:
    """What comes; a machine that is silent until the moment comes is late, not lost."""
    left = max(0.1, until - time.monotonic())
    try:
        yield from connection.receive(channel, min(left, _SILENCE_S))
    except HostUnreachable:
        if left <= _SILENCE_S and connection.is_alive and not channel.closed:
            raise _Late from None
        raise


def _read(connection: Connection, line: bytes) -> Message:
    try:
        return _decoder.decode(line[len(_MARK) :])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _strange(connection, f"{error}.") from error


def _stop(connection: Connection, channel: Any) -> bool:
    """Tell the program to stop, by closing its stdin, and wait until it says that it did."""
    end_input(channel)
    until = time.monotonic() + _STOPPING_S
    with contextlib.suppress(HostUnreachable, Refused, _Late):
        for message in _messages(connection, channel, bytearray(), until):
            if isinstance(message, Stopped):
                return True
    return False


def _too_late(connection: Connection, stopped: bool) -> DeadlineReached:
    return DeadlineReached(
        f"The time was over before {connection.hop} was ready.",
        "What was being done there was stopped."
        if stopped
        else "It was told to stop, but has not said that it did.",
        "Give it more time with --ttl; what was downloaded is not downloaded again.",
    )


def _strange(connection: Connection, why: str) -> Refused:
    return Refused(
        f"{connection.hop} does not answer as cloudrun's own program does.",
        clean(why),
        f"Look at what it says by itself: ssh {connection.hop.user}@{connection.hop.host} true",
    )


def _last_line(errors: bytearray) -> str:
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
