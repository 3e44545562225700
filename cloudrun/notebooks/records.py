"""Puts together what a job in a notebook has said, out of the log of the service's client.

The log is not trusted: it holds other programs' chatter, may begin again from its start
after a lost link, and may hold lines that nobody's launcher wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cloudrun.hosts.base import Chunk

_LINE = re.compile(rb"cloudrun:([012]):(\d{1,15}) (.*)")
# As the launcher's pieces are at their longest, and then some.
_LONGEST_LINE = 2**16
_MOST_CHATTER = 2**14


class Begin(msgspec.Struct, frozen=True):
    """What the launcher says first: how many GPUs it was given."""

    gpus: Annotated[int, Meta(ge=0, le=64)]


class End(msgspec.Struct, frozen=True):
    """What the launcher says last: how the job ended, its exit status as shells have it.

    `results` is the size of what it packed in bytes, -1 when that was too much; `machine`
    what describe.sh says.
    """

    status: Annotated[int, Meta(ge=0, le=255)]
    reason: Literal["exit", "deadline", "stopped"]
    results: Annotated[int, Meta(ge=-1)]
    machine: Annotated[str, Meta(max_length=20_000)]


class Records:
    """Takes a log in pieces and gives the job's own bytes.

    Attributes:
        begin: What the launcher said first; None as long as it has not.
        end: What it said last.
        lost: How many bytes never came.
        chatter: The end of all that was no line of the launcher's.
    """

    def __init__(self) -> None:
        self.begin: Begin | None = None
        self.end: End | None = None
        self.lost = 0
        self.chatter = ""
        self._at = {1: 0, 2: 0}
        self._half = b""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """Take the next piece of the log."""
        *lines, self._half = (self._half + data).split(b"\n")
        if len(self._half) > _LONGEST_LINE:
            # Nobody's line; what follows of it is none either.
            self._half = self._half[-1:]
        for line in lines:
            yield from self._read(line)

    def _read(self, line: bytes) -> Iterator[Chunk]:
        found = _LINE.fullmatch(line.strip())
        if found is None:
            self.say(line.decode("utf-8", "replace") + "\n")
            return
        stream, at = int(found[1]), int(found[2])
        try:
            if stream:
                # msgspec takes no lone surrogates, which here stand for bytes that are no UTF-8.
                yield from self._piece(stream, at, json.loads(found[3]))
            elif at == 0:
                self.begin = msgspec.json.decode(found[3], type=Begin)
            else:
                self.end = msgspec.json.decode(found[3], type=End)
        except (msgspec.MsgspecError, AttributeError, RecursionError, ValueError):
            self.say(line.decode("utf-8", "replace") + "\n")

    def _piece(self, stream: int, at: int, text: str) -> Iterator[Chunk]:
        """The part of a piece that is new."""
        data = text.encode("utf-8", "surrogateescape")
        here = self._at[stream]
        self.lost += max(0, at - here)
        new = data[max(0, here - at) :]
        if new:
            self._at[stream] = max(here, at) + len(new)
            yield Chunk(stream, new)

    def say(self, text: str) -> None:
        """Keep what the client says on its own."""
        self.chatter = f"{self.chatter}{text}"[-_MOST_CHATTER:]

    def go_on_at(self, out_at: int, err_at: int) -> None:
        """Take only what comes after these places of the job's streams."""
        self._at = {1: out_at, 2: err_at}
