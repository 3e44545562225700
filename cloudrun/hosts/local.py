"""This machine as a host: nothing to connect to, nothing to push; jobs are child processes."""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from cloudrun.catalog.wheels import install_line
from cloudrun.errors import DeadlineReached, WorkloadFailed
from cloudrun.hosts.base import Job, JobEnd, Ready
from cloudrun.workloads.driver import Nvidia, torch_version

_TAIL_BYTES = 4000
# What waits to be read of a job. More, and the job waits for its reader: what it says
# must not fill the memory, in many lines or in one without an end.
_MOST_LINES, _MOST_LINE_BYTES = 16, 8 * 2**20
_OLDEST_TORCH = (2, 0)
# How long a job may take to end by itself after being asked to.
_GRACE_S = 5.0


class LocalHost:
    """This machine. `nvidia` is what is known of its NVIDIA GPUs."""

    def __init__(self, nvidia: Nvidia | None) -> None:
        self._nvidia = nvidia
        self._workloads: Path | None = None

    def prepare(self) -> Ready:
        """Use the Python that runs cloudrun. torch is looked up, not loaded: that takes seconds."""
        installed = torch_version()
        if installed is None:
            raise WorkloadFailed(
                f"torch is not installed for the Python that runs cloudrun ({sys.executable}).",
                "The smoke test and the benchmark run in it.",
                f"Install it: {torch_line(self._nvidia)}",
            )
        if is_too_old(installed):
            raise WorkloadFailed(
                f"torch {installed} is too old.",
                "The workloads need torch 2.0 or newer.",
                f"Update it: {torch_line(self._nvidia, again=True)}",
            )
        return Ready(sys.executable, installed)

    def push(self, folder: Path) -> None:
        """Remember where the workloads are: they are on this machine already."""
        self._workloads = folder

    def start(self, ready: Ready, script: str, arguments: Sequence[str], log: Path) -> Job:
        """Start a script of the pushed folder as a child process that dies with this one."""
        assert self._workloads is not None, "push comes before start"  # noqa: S101
        return LocalJob([ready.python, str(self._workloads / script), *arguments, "--tied"], log)

    def close(self) -> None:
        """Nothing is open."""


class LocalJob:
    """A workload as a child process; its stdin is a pipe whose end tells it that we are gone."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(  # noqa: S603 - our own script, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=_environment(),
                # In its own group, so that Ctrl-C reaches us alone and we end it in order.
                start_new_session=True,
            )
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MOST_LINES)
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def lines(self, until: float) -> Iterator[bytes]:
        """Give the job's lines; see `Job.lines`."""
        while True:
            left = until - time.monotonic()
            try:
                if left <= 0:
                    # Also for a job that says so much that there is always a next line.
                    raise queue.Empty
                line = self._lines.get(timeout=left)
            except queue.Empty:
                raise DeadlineReached(
                    "The run's deadline came before its end.",
                    "It was stopped, and what it had measured is kept.",
                    "Give it more time with --ttl.",
                ) from None
            if line is None:
                return
            yield line

    def wait(self) -> JobEnd:
        """Wait for the process; see `Job.wait`."""
        try:
            status = self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self.stop()
            ended = self._process.returncode
            status = -signal.SIGTERM if ended is None else ended
        return JobEnd(status, _tail(self._log))

    def stop(self) -> None:
        """End the process: its stdin closes, which ends it and its child; then by force."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self._kill_group()
            # A process that a hung driver holds does not die; it is left behind.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_GRACE_S)

    def _kill_group(self) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _read(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(_MOST_LINE_BYTES):
            self._lines.put(line)
        self._lines.put(None)


def is_too_old(torch: str) -> bool:
    """Whether a version of torch is older than the workloads need; one that is not told is not."""
    version = _major_minor(torch)
    return bool(version) and version < _OLDEST_TORCH


def torch_line(nvidia: Nvidia | None, again: bool = False) -> str:
    """The exact line that installs the torch that fits this machine, or why none does.

    `again`: a torch is there and will not do. pip would call it good enough.
    """
    gpu = nvidia.gpus[0] if nvidia and nvidia.gpus else None
    choice = install_line(
        platform.system(),
        platform.machine(),
        sys.version_info[:2],
        gpu.driver if gpu else None,
        gpu.compute_capability if gpu else None,
    )
    line = choice.command or choice.why
    return line.replace(" install ", " install --upgrade --force-reinstall ", 1) if again else line


def _environment() -> dict[str, str]:
    """The job's environment: ours, with this very cloudrun on its path, its output unbuffered."""
    import cloudrun

    root = str(Path(cloudrun.__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _major_minor(version: str) -> tuple[int, ...]:
    parts = version.partition("+")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())


def _tail(log: Path) -> str:
    try:
        data = log.read_bytes()[-_TAIL_BYTES:]
    except OSError:
        return ""
    return data.decode("utf-8", errors="replace").strip()
