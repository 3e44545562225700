"""What every host can do: get ready for a workload, take its files, run it, give its results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from cloudrun.model.need import Need

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
class Work:
    """What to start: the command, in which folder it runs being the host's affair.

    `argv` of a workload of ours begins with its script's name, and the prepared
    Python runs it. `seconds` is the deadline from now.
    """

    argv: tuple[str, ...]
    seconds: int
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


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


class Job(Protocol):
    """A workload that was started on a host."""

    def read(self, until: float) -> Iterator[Chunk]:
        """Give what the job says as it comes, until it ends.

        Args:
            until: The moment (`time.monotonic()`) at which the job must be over.

        Raises:
            DeadlineReached: the moment came first; the job is still to be stopped.
            HostUnreachable: the machine is gone for good.
        """
        ...

    def end(self) -> JobEnd:
        """How the job, whose output is over, ended."""
        ...

    def stop(self) -> None:
        """End the job and all that it started. Nothing happens when it has ended."""
        ...


class Host(Protocol):
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
        """Start the work."""
        ...

    def pull(self, need: Need, folder: Path) -> int:
        """Bring results that are new or have changed to `folder`; returns how many files."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
