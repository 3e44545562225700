"""This machine as a host: nothing to connect to, nothing to push; jobs are child processes."""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from cloudrun.catalog.wheels import install_line
from cloudrun.errors import Bug, DeadlineReached, WorkloadFailed
from cloudrun.hosts import describe, tied
from cloudrun.hosts.base import Chunk, Job, JobEnd, Ready, Tell, Work
from cloudrun.model.need import Command, Need
from cloudrun.reports.build import WORKLOADS
from cloudrun.reports.schema import Environment
from cloudrun.workloads.driver import Nvidia, torch_version

_OLDEST_TORCH = (2, 0)
# How long a job may take to end by itself after being asked to; and what it left running.
_GRACE_S, _REST_S = 5.0, 2.0
# How soon it is seen that a job has ended whose streams somebody else still holds.
_LOOK_S = 0.5
_CHUNK = 2**16
_MOST_WAITING = 64


class LocalHost:
    """This machine. `nvidia` is what is known of its NVIDIA GPUs."""

    keeps_jobs = False

    def __init__(self, nvidia: Nvidia | None) -> None:
        self._nvidia = nvidia

    def prepare(self, need: Need, tell: Tell, until: float) -> Ready:
        """Use the Python that runs cloudrun. torch is looked up, not loaded: that takes seconds.

        A command of the user's finds its own; see `local_python` for packages asked for by name.
        """
        if need.command is not None:
            return _ready_for(need.command, tell, until)
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

    def push(self, need: Need, tell: Tell) -> None:
        """Nothing: the workloads, and the user's folder, are on this machine already."""

    def start(self, ready: Ready, need: Need, work: Work) -> Job:
        """Start the work as a child process, which ends when this one is gone."""
        if need.command is None:
            script, *arguments = work.argv
            argv = (ready.python, str(WORKLOADS / script), *arguments, "--tied")
            return LocalJob(argv, None, {**_our_own_path(), **work.environment})
        variables = {**_programs_of(ready), **work.environment}
        path = variables.get("PATH", os.environ.get("PATH"))
        if shutil.which(work.argv[0], path=path) is None:
            raise WorkloadFailed(
                f"The command '{work.argv[0]}' cannot be started.",
                "There is none of that name that may be executed.",
                "Look at its spelling, and at its permissions.",
            )
        argv = (sys.executable, tied.__file__, *work.argv)
        return LocalJob(argv, Path(need.command.folder), variables, mark=work.run_id)

    def resume(self, run_id: str, out_at: int, err_at: int) -> Job:
        """Nothing to go on with: a job here ends with its cloudrun."""
        raise Bug(f"Run {run_id} was to go on, from {out_at} and {err_at}, on this machine.")

    def pull(self, need: Need) -> int:
        """Nothing: what a command makes here is here."""
        return 0

    def describe(self) -> Environment:
        """Say what this machine is."""
        return describe.here().environment

    def forget(self, run_id: str) -> None:
        """Nothing is left."""

    def close(self) -> None:
        """Nothing is open."""


def _ready_for(command: Command, tell: Tell, until: float) -> Ready:
    """What is the user's is taken as it is, unless packages are asked for by name."""
    if not command.requirements_named or command.requirements is None:
        return Ready("", "")
    from cloudrun.hosts import local_python

    return local_python.prepare(command.requirements, Path(command.folder), tell, until)


def _programs_of(ready: Ready) -> dict[str, str]:
    """Lets a command find the Python that was made ready for it."""
    if not ready.python:
        return {}
    paths = [str(Path(ready.python).parent), *filter(None, [os.environ.get("PATH")])]
    return {"PATH": os.pathsep.join(paths)}


class LocalJob:
    """Work as a child process; its stdin is a pipe whose end tells it that we are gone.

    `grace_s` is how many seconds it may take to end by itself after that; by `mark`,
    in its environment, what it started is known in whichever session it is.
    """

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path | None,
        environment: Mapping[str, str],
        grace_s: float = _GRACE_S,
        mark: str = "",
    ) -> None:
        self._grace_s, self._mark = grace_s, mark
        marked = {tied.MARK: mark} if mark else {}
        self._process = subprocess.Popen(  # noqa: S603 - no shell
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment, **marked},
            # In its own group, so that Ctrl-C reaches us alone and we end it in order.
            start_new_session=True,
        )
        self._stopped = self._rest_is_ended = False
        self._open_streams = 2
        # Bounded: a job that says more than is read waits, as at any full pipe.
        self._chunks: queue.Queue[Chunk | None] = queue.Queue(_MOST_WAITING)
        for stream, pipe in ((1, self._process.stdout), (2, self._process.stderr)):
            threading.Thread(target=self._read, args=(stream, pipe), daemon=True).start()

    def begin(self) -> None:
        """It runs since it was made."""

    def read(self, until: float) -> Iterator[Chunk]:
        """Give what the job says; see `Job.read`."""
        while self._open_streams:
            left = until - time.monotonic()
            if left <= 0:
                # Also for a job that says so much that there is always something next.
                raise DeadlineReached("The run's deadline came before its end.")
            try:
                chunk = self._chunks.get(timeout=min(left, _LOOK_S))
            except queue.Empty:
                if self._rest_is_ended:
                    # Who still holds them has left the job's session: nobody waits for that.
                    return
                if self._process.poll() is not None:
                    self._end_rest()
                continue
            if chunk is None:
                self._open_streams -= 1
            else:
                yield chunk

    def so_far(self) -> Iterator[Chunk]:
        """Give what waits to be read."""
        while not self._chunks.empty():
            chunk = self._chunks.get()
            if chunk is None:
                self._open_streams -= 1
            else:
                yield chunk

    def end(self) -> JobEnd:
        """How the process ended; see `Job.end`."""
        try:
            status = self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            self.stop()
            ended = self._process.returncode
            status = -signal.SIGTERM if ended is None else ended
        self._end_rest()
        # As shells have it.
        told = 128 - status if status < 0 else status
        return JobEnd(told, "stopped" if self._stopped else "exit")

    def stop(self) -> None:
        """Ask the process to end, and what it started; then by force."""
        self._stopped = self._stopped or self._process.poll() is None
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=self._grace_s)
        except subprocess.TimeoutExpired:
            self._kill_all()
            # A process that a hung driver holds does not die; it is left behind.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_GRACE_S)
        self._end_rest()

    def _end_rest(self) -> None:
        """End what the job left running, as on another machine: it was asked for with the job."""
        self._rest_is_ended = True
        until = time.monotonic() + _REST_S
        is_there = self._signal_all(signal.SIGTERM)
        while is_there and time.monotonic() < until:
            time.sleep(0.02)
            is_there = self._signal_all(0)
        if is_there:
            self._kill_all()

    def _kill_all(self) -> None:
        if hasattr(signal, "SIGKILL"):
            self._signal_all(signal.SIGKILL)
        self._process.kill()

    def _signal_all(self, number: int) -> bool:
        """Send a signal to the job's group and what bears its mark; returns whether any is left."""
        if not hasattr(os, "killpg"):
            return False
        bearing = tied.bearing(self._mark)
        for pid in bearing:
            tied.signal_one(pid, number)
        return self._signal_group(number) or bool(bearing)

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):
            # The second is what macOS says of a group that is dead.
            return False
        return True

    def _read(self, stream: int, pipe: IO[bytes]) -> None:
        while data := os.read(pipe.fileno(), _CHUNK):
            self._chunks.put(Chunk(stream, data))
        self._chunks.put(None)


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
    line = (choice.command or choice.why).replace("python -m pip", f"{sys.executable} -m pip", 1)
    return line.replace(" install ", " install --upgrade --force-reinstall ", 1) if again else line


def _our_own_path() -> dict[str, str]:
    """Lets a workload import this very cloudrun."""
    paths = [str(WORKLOADS.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def _major_minor(version: str) -> tuple[int, ...]:
    parts = version.partition("+")[0].split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit())
