"""What every host can do: find a Python with torch, take files, start a job and follow it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Ready:
    """A prepared machine: the Python to run workloads with, and its torch's version."""

    python: str
    torch: str


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: its exit status (negative: killed by that signal), and its last words."""

    status: int
    log_tail: str


class Job(Protocol):
    """A workload that was started on a host."""

    def lines(self, until: float) -> Iterator[bytes]:
        """Give the job's lines as they come, until it ends.

        Args:
            until: The moment (`time.monotonic()`) at which the job must be over.

        Raises:
            DeadlineReached: the moment came first; the job is still to be stopped.
        """
        ...

    def wait(self) -> JobEnd:
        """Wait for the job, whose lines are over, to be gone."""
        ...

    def stop(self) -> None:
        """End the job and all that it started. Nothing happens when it has ended."""
        ...


class Host(Protocol):
    """An open connection to a machine."""

    def prepare(self) -> Ready:
        """Find a Python whose torch can be used.

        Raises:
            WorkloadFailed: there is none; the error says how to install it.
        """
        ...

    def push(self, folder: Path) -> None:
        """Bring a folder to the machine."""
        ...

    def start(self, ready: Ready, script: str, arguments: Sequence[str], log: Path) -> Job:
        """Start a workload's script with its arguments; its stderr goes to `log`."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...
