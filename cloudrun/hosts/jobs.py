"""Jobs on a machine: started under a supervisor there, followed by byte offset from here.

The supervisor (templates/supervisor.sh) outlives the connection. What the job
says lies in two files on the machine; we count the bytes that we have of each
and go on from there, after a lost link or in a new process. When the job has
ended, its end's record tells how long both files are, so nothing is missing
and nothing comes twice.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from cloudrun.errors import BadData, DeadlineReached, HostUnreachable, WorkloadFailed
from cloudrun.hosts import scripts
from cloudrun.hosts.base import Chunk, EndReason, JobEnd

if TYPE_CHECKING:
    from cloudrun.hosts.connection import Connection
    from cloudrun.hosts.link import Link

# So much longer than the job's own deadline we wait for its end: the supervisor
# gives it ten seconds to obey.
_GRACE_S = 20.0
# The end's record and the rest of the output come fast, or the host is gone.
_ANSWER_S = 30.0
_LONGEST_RECORD = 400
# The exit status of a script that could not start the job.
_NOT_STARTED = 97
# What comes with that answer; longer rests are followed.
_MOST_REST = 2**20
_RECORD = re.compile(
    r"status=(?P<status>\d+) reason=(?P<reason>exit|stopped|deadline) started=(?P<started>\d+)"
    r" ended=(?P<ended>\d+) out=(?P<out>\d+) err=(?P<err>\d+)"
    r" oom=(?P<oom>\d+) free_kib=(?P<free_kib>\d+)",
    re.ASCII,
)
# The exit status of what SIGKILL ended.
_KILLED = 128 + 9
# A disk with less room is called full.
_FULL_KIB = 1024


@dataclass(frozen=True)
class _Look:
    """What look.sh said: the job's state, and the rest of its streams."""

    state: str
    out: bytes
    err: bytes


def command_script(
    argv: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    then: Sequence[str] = (),
) -> str:
    """The script that is the job: environment, folder, command.

    It removes itself first, since the environment may hold secrets. `folder` is
    from the home; `then` are lines of shell to run in it before the command.
    """
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join(
        [
            'rm -f "$0"',
            f'cd "$HOME"/{shlex.quote(folder)} || exit 126',
            *then,
            *exports,
            f"command -v {shlex.quote(argv[0])} >/dev/null || {{",
            f"    echo {shlex.quote(f'{argv[0]}: there is no such command on the machine')} >&2",
            "    exit 127",
            "}",
            f"exec {shlex.join(argv)}",
        ]
    )


def start_script(folder: str, command: str, seconds: int, upload: str = "") -> str:
    """The script that starts a job on the machine; for the same folder, it starts one only.

    Args:
        folder: The job's folder on the machine, from the home.
        command: What `command_script` gives.
        seconds: The job's deadline, from now; the machine itself keeps it.
        upload: A script to run when the job has ended (templates/upload.sh).
    """
    return scripts.render(
        "start.sh",
        folder=folder,
        command=command,
        upload=upload,
        supervisor=scripts.text("supervisor.sh"),
        ttl=seconds,
        mark=_mark(folder),
    )


def _mark(folder: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "-", folder)


class RemoteJob:
    """A job in a folder of a machine. `out_at` and `err_at` are what we have of its streams.

    With a `start`, a script of `start_script`, it is still to be started: by
    `begin`, or by `read`, which does so in the same exchange.
    """

    def __init__(
        self, link: Link, folder: str, out_at: int = 0, err_at: int = 0, start: str = ""
    ) -> None:
        self._link = link
        self.folder = folder
        self._start = start
        self._at = {1: out_at, 2: err_at}
        self._state = ""

    def begin(self) -> None:
        """Start the job; see `Job.begin`."""
        if not self._start:
            return
        done = self._link.insist(lambda connection: connection.run_script(self._start))
        if done.status != 0:
            said = done.err.decode(errors="replace").strip()[:500]
            raise WorkloadFailed(
                "The machine could not start the job.",
                said or f"Its shell ended with status {done.status}.",
                "Look at the machine's disk, and at the permissions of ~/.cloudrun there.",
            )
        self._start = ""

    def read(self, until: float) -> Iterator[Chunk]:
        """Give what the job says from where we are on, until it has ended; see `Job.read`."""
        while True:
            try:
                yield from self._follow(self._link.connection, until)
            except HostUnreachable:
                self._link.drop()
            look = self._link.insist(self._look)
            yield from self._count(Chunk(1, look.out), Chunk(2, look.err))
            if look.state == "absent" and self._start:
                # It could not be started, or the link was lost too early: this one says why.
                self.begin()
                continue
            if look.state == "absent":
                raise WorkloadFailed(
                    "The job is not on the machine any more.",
                    "Its folder there is gone.",
                    "If the machine was set up anew, run it again.",
                )
            self._state = look.state
            if look.state != "running" and self._has_all(look):
                return

    def so_far(self) -> Iterator[Chunk]:
        """Give what the job has said; see `Job.so_far`."""
        while True:
            look = self._link.insist(self._look)
            yield from self._count(Chunk(1, look.out), Chunk(2, look.err))
            if max(len(look.out), len(look.err)) < _MOST_REST:
                return

    def end(self) -> JobEnd:
        """How the job, whose streams are over, ended."""
        return read_end(self._state)

    def stop(self) -> None:
        """Ask the machine to end the job; see `Job.stop`."""
        script = scripts.render("stop.sh", folder=self.folder, mark=_mark(self.folder))
        self._link.insist(lambda connection: connection.run_script(script))

    def _follow(self, connection: Connection, until: float) -> Iterator[Chunk]:
        follow = self._script("follow.sh")
        start = self._start and f"(\n{self._start}) >/dev/null 2>&1 || exit {_NOT_STARTED}\n"
        with connection.exchange(start + follow) as channel:
            while True:
                left = until + _GRACE_S - time.monotonic()
                if left <= 0:
                    raise DeadlineReached("The run's deadline came before its end.")
                for number, data in connection.receive(channel, left):
                    yield from self._count(Chunk(number, data))
                    if time.monotonic() > until + _GRACE_S:
                        break
                else:
                    # From here on, one that is absent has gone: it is not started again.
                    if connection.status(channel) != _NOT_STARTED:
                        self._start = ""
                    return

    def _look(self, connection: Connection) -> _Look:
        done = connection.run_script(self._script("look.sh"), limit_s=_ANSWER_S)
        state, newline, rest = done.out.partition(b"\n")
        if done.status != 0 or not newline or len(state) > _LONGEST_RECORD:
            raise BadData("The machine's answer about the job makes no sense.")
        return _Look(state.decode(errors="replace"), rest, done.err)

    def _script(self, name: str) -> str:
        return scripts.render(
            name, folder=self.folder, out_at=self._at[1], err_at=self._at[2], most=_MOST_REST
        )

    def _has_all(self, look: _Look) -> bool:
        """Whether nothing of a job that is over is still to come."""
        if look.state == "lost":
            return max(len(look.out), len(look.err)) < _MOST_REST
        end = _numbers(look.state)
        return self._at[1] >= end["out"] and self._at[2] >= end["err"]

    def _count(self, *chunks: Chunk) -> Iterator[Chunk]:
        for chunk in chunks:
            if chunk.data:
                self._at[chunk.stream] += len(chunk.data)
                yield chunk


def read_end(state: str) -> JobEnd:
    """How a job ended, by what its supervisor wrote down, or `lost`.

    Raises:
        BadData: it makes no sense.
    """
    if state == "lost":
        return JobEnd(-1, "lost")
    end = _numbers(state)
    return JobEnd(
        end["status"],
        cast(EndReason, _record(state)["reason"]),
        out_of_memory=end["oom"] > 0 and end["status"] == _KILLED,
        disk_full=end["status"] != 0 and end["free_kib"] < _FULL_KIB,
    )


def _numbers(state: str) -> dict[str, int]:
    return {name: int(value) for name, value in _record(state).items() if name != "reason"}


def _record(state: str) -> dict[str, str]:
    """The fields of an end's record: see supervisor.sh.

    Raises:
        BadData: it is none.
    """
    match = _RECORD.fullmatch(state)
    if match is None:
        raise BadData("The record of the job's end is damaged.", f"It says: {state[:200]}")
    return match.groupdict()
