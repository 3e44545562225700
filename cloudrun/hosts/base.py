"""What every host can do: get ready for a workload, take its files, run it, give its results."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from cloudrun.model.need import Need

if TYPE_CHECKING:
    from cloudrun.reports.schema import Environment

# Shells tell the death by a signal as an exit status from here on.
_SIGNALLED = 128
Tell = Callable[[str], None]
EndReason = Literal["exit", "stopped", "deadline", "lost"]


@dataclass(frozen=True)
class Ready:
    """A prepared machine: the Python to run workloads with, and its torch's version.

    Both are empty where the user's command needs none.
    """

    python: str
    torch: str


@dataclass(frozen=True)
class Upload:
    """Where a machine stores what a job has left: signed URLs, each good to write one object.

    `urls` by what they are for: `out`, `err`, `results`, `end`. `off`: the machine powers
    itself off when all is stored.
    """

    urls: Mapping[str, str] = field(repr=False)
    off: bool


@dataclass(frozen=True)
class Work:
    """What to start: the command, in which folder it runs being the host's affair.

    `argv` of a workload of ours begins with its script's name, and the prepared
    Python runs it. `seconds` is the deadline from now.
    """

    run_id: str
    argv: tuple[str, ...]
    seconds: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    upload: Upload | None = None


@dataclass(frozen=True)
class Chunk:
    """Bytes that a job has said: on stream 1 (stdout) or 2 (stderr)."""

    stream: int
    data: bytes


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    `status` is its exit status, 128 and more for a signal as shells have it;
    `lost`: nobody knows, the machine was restarted or the supervisor killed.
    """

    status: int
    reason: EndReason = "exit"
    out_of_memory: bool = False
    disk_full: bool = False

    def in_words(self) -> str:
        """What happened to it, as the end of a sentence that begins with its name."""
        if self.reason == "lost":
            return "was lost: its machine was restarted, or its supervisor was killed"
        if self.reason == "deadline":
            return "was stopped at its deadline"
        if self.reason == "stopped":
            return "was stopped"
        if self.out_of_memory:
            return "was killed, because the machine ran out of memory"
        said = f"ended with exit status {self.status}"
        if self.status > _SIGNALLED:
            with contextlib.suppress(ValueError):
                said = f"was killed by {signal.Signals(self.status - _SIGNALLED).name}"
        return said + ("; the machine's disk is full" if self.disk_full else "")


class Job(Protocol):
    """A workload of a host's."""

    def begin(self) -> None:
        """See to it that it runs; `read` does so too. Asked again, nothing happens.

        Raises:
            WorkloadFailed: it cannot be started.
        """
        ...

    def read(self, until: float) -> Iterator[Chunk]:
        """Give what the job says as it comes, until it ends.

        Args:
            until: The moment (`time.monotonic()`) at which the job must be over.

        Raises:
            DeadlineReached: the moment came first; the job is still to be stopped.
            HostUnreachable: the machine is gone for good.
        """
        ...

    def so_far(self) -> Iterator[Chunk]:
        """Give what the job has said up to now, and do not wait for more."""
        ...

    def end(self) -> JobEnd:
        """How the job, whose output is over, ended."""
        ...

    def stop(self) -> None:
        """End the job and all that it started. Nothing happens when it has ended."""
        ...


@dataclass(frozen=True)
class Person:
    """Who can be asked and told; None where nobody is there to be asked.

    `trust(question)` says whether to trust an unknown host key;
    `passphrase(key)` gives a key's passphrase, or None; `tell(sentence)` hears
    what happens on the way; `leave()`, after Ctrl-C, whether the job may go on
    without us.
    """

    trust: Callable[[str], bool] | None = None
    passphrase: Callable[[Path], str | None] | None = None
    tell: Tell = lambda _sentence: None
    leave: Callable[[], bool] | None = None


NOBODY = Person()


class Remains(Protocol):
    """Where a job is that was started, or what is left of it.

    `keeps_jobs`: they go on there without us.
    """

    keeps_jobs: bool

    def resume(self, run_id: str, out_at: int, err_at: int) -> Job:
        """Go on with a job that was started before, from these places of its streams on.

        Args:
            run_id: The run's that started it.
            out_at: Bytes of its stdout that we have.
            err_at: Bytes of its stderr that we have.
        """
        ...

    def pull(self, need: Need) -> int:
        """Bring home the results that are new or have changed; returns how many files."""
        ...

    def describe(self) -> Environment | None:
        """Say what the machine is, for the report of a command; None when it cannot be told."""
        ...

    def forget(self, run_id: str) -> None:
        """Remove what the run left on the machine, all of which has come home."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class Host(Remains, Protocol):
    """An open connection to a machine."""

    def prepare(self, need: Need, tell: Tell, until: float) -> Ready:
        """Find or make a Python that can do the work.

        Raises:
            WorkloadFailed: there is none; the error says how to install it.
        """
        ...

    def push(self, need: Need, tell: Tell) -> None:
        """Bring the workloads, or the user's folder, to the machine."""
        ...

    def start(self, ready: Ready, need: Need, work: Work) -> Job:
        """Give the work as a job that `begin`, or `read`, starts; once, for each run."""
        ...
