"""A job in Colab, as its client tells of it; and what the client's refusals mean."""

from __future__ import annotations

import time
from collections.abc import Iterator

from cloudrun.errors import (
    CannotHave,
    DeadlineReached,
    HostUnreachable,
    NoCredentials,
    Unavailable,
)
from cloudrun.hosts.base import Chunk, JobEnd
from cloudrun.hosts.local import LocalJob
from cloudrun.model.words import clean
from cloudrun.notebooks.records import Records

LOG_IN = "Log in once, in a terminal: colab sessions"
_OTHERS = "Other ways to a free GPU: cloudrun launch --on kaggle; cloudrun colab --open"
# The client tries twice where Colab has none; each try may take a minute.
_ALLOCATE_S = 240.0
# At its deadline a job is ended there, and its results are packed.
_PACKING_S = 30.0
_HAS_MACHINE = "Session READY"
_BUSY = ("502", "503", "504", "Service Unavailable", "Bad Gateway", "Gateway Time")
_LOGGED_OUT = ("authorization code", "Aborted.")


class ColabJob:
    """A job that Colab's client runs here in our stead; it ends when we do."""

    def __init__(self, process: LocalJob, gpu: str) -> None:
        self.records = Records()
        self._process = process
        self._gpu = gpu
        self._came: list[Chunk] = []
        self._is_stopped = False
        self._waited_s = 0.0

    def wait_for_machine(self) -> None:
        """Listen until the client has a machine.

        Raises:
            CannotHave: it got none.
            NoCredentials: nobody is logged in.
        """
        began = time.monotonic()
        try:
            for chunk in self._process.read(began + _ALLOCATE_S):
                self._came += self._take(chunk)
                if _HAS_MACHINE in self.records.chatter:
                    self._waited_s = time.monotonic() - began
                    return
        except DeadlineReached:
            self.stop()
        raise _refusal(self.records.chatter, self._gpu)

    def begin(self) -> None:
        """It runs since it was made."""

    def read(self, until: float) -> Iterator[Chunk]:
        """Give what the job says; see `Job.read`.

        The launcher there keeps the time; we only do when it does not.
        """
        yield from self._waiting()
        for chunk in self._process.read(until + self._waited_s + _PACKING_S):
            yield from self._take(chunk)

    def so_far(self) -> Iterator[Chunk]:
        """Give what waits to be read."""
        yield from self._waiting()
        for chunk in self._process.so_far():
            yield from self._take(chunk)

    def end(self) -> JobEnd:
        """How the job ended; see `Job.end`.

        Raises:
            HostUnreachable: the machine was lost.
            Unavailable: it had no GPU.
        """
        self._process.end()
        begin, end = self.records.begin, self.records.end
        if end is not None:
            return JobEnd(end.status, "stopped" if self._is_stopped else end.reason)
        if self._is_stopped:
            return JobEnd(130, "stopped")
        if begin is not None and begin.gpus == 0:
            raise Unavailable("Colab gave a machine without a GPU.", "", _OTHERS)
        raise HostUnreachable(
            "Colab took the machine back before the run's end.",
            f"Its client says: {_last_line(self.records.chatter)}",
            f"Run it again. {_OTHERS}",
        )

    def stop(self) -> None:
        """Interrupt the client, which gives the machine back."""
        self._is_stopped = True
        self._process.stop()

    def _waiting(self) -> list[Chunk]:
        came, self._came = self._came, []
        return came

    def _take(self, chunk: Chunk) -> list[Chunk]:
        if chunk.stream == 1:
            return list(self.records.feed(chunk.data))
        self.records.say(chunk.data.decode("utf-8", "replace"))
        return []


def is_logged_out(said: str) -> bool:
    """Whether the client asked for a login, which nobody could answer."""
    return any(words in said for words in _LOGGED_OUT)


def _refusal(said: str, gpu: str) -> CannotHave | NoCredentials:
    """What the client's words mean for somebody who wants a machine."""
    if is_logged_out(said):
        return NoCredentials("Colab's login has expired.", "", LOG_IN)
    if "Allocation refused" in said:
        return CannotHave(
            "Colab gives you no machine now.",
            "It says that you have too many sessions, or that a limit is reached for a while.",
            f"Close what you have open in Colab, or try again in some hours. {_OTHERS}",
            scope="cloud",
        )
    if "Backend rejected accelerator" in said:
        return CannotHave(
            f"Colab does not give your account a {gpu}.",
            "The free GPU is the T4; others are for paid plans.",
            f"Write --gpu T4. {_OTHERS}",
            scope="zone",
        )
    if any(words in said for words in _BUSY):
        return CannotHave(
            f"Colab has no {gpu} free now.",
            "It was asked twice.",
            f"Try again later. {_OTHERS}",
            scope="cloud",
        )
    return CannotHave(
        "Colab's client got no machine.",
        f"It says: {_last_line(said)}",
        _OTHERS,
        scope="cloud",
    )


def _last_line(said: str) -> str:
    lines = said.strip().splitlines()
    return clean(lines[-1].strip())[:300] if lines else "nothing."
