"""A machine over SSH as a host: jobs outlive the connection, and everything goes through it.

On the machine, all of ours lies below `~/.cloudrun`: `runs` (one folder a run,
removed when everything is home), `projects` (the users' folders, kept for the
next push), `data`, `environments` and `workloads`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import platform
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from shlex import quote

from cloudrun import settings
from cloudrun.catalog.gpus import how_many
from cloudrun.errors import CloudrunError, HostUnreachable, Unavailable, WorkloadFailed
from cloudrun.hosts import describe, jobs, scripts, transfer
from cloudrun.hosts.archive import Limits
from cloudrun.hosts.base import NOBODY, Job, Person, Ready, Tell, Upload, Work
from cloudrun.hosts.connection import Connection, connect
from cloudrun.hosts.link import Link
from cloudrun.hosts.route import Hop
from cloudrun.model.events import Event, Noted
from cloudrun.model.need import Command, GpuRequest, Need
from cloudrun.model.words import clean, format_bytes
from cloudrun.reports.build import WORKLOADS, workload_sha256
from cloudrun.reports.schema import Environment

HOME = ".cloudrun"
# What may come home at a time: more than a training leaves behind, less than a bomb.
_RESULTS = Limits(bytes=2 * 2**40, members=10**6)
_WORTH_TELLING = 2**20
_MOST_WORDS = 10_000
_GPUS = "nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits"


class SshHost:
    """The machine at the end of a way; connects when it is first used.

    `gpu_is_known`: the machine's type says which it has, and the smoke test whether it works.
    """

    keeps_jobs = True

    def __init__(
        self,
        way: Sequence[Hop],
        known_hosts: Path,
        person: Person = NOBODY,
        *,
        gpu_is_known: bool = False,
    ) -> None:
        self._gpu_is_known = gpu_is_known
        self.link = Link(lambda: connect(way, known_hosts, person), person.tell)
        self._person = person
        self._told: set[str] = set()

    def prepare(self, need: Need, tell: Tell, until: float) -> Ready:
        """Find or make a Python that can do the work; see `Host.prepare`."""
        if need.gpu is not None and not self._gpu_is_known:
            self._check_gpu(need.gpu)
        command = need.command
        if command is not None and not command.torch and command.requirements is None:
            return Ready("", "")
        from cloudrun.hosts import remote_python

        return self.link.insist(
            lambda connection: remote_python.prepare(
                connection,
                need_torch=command is None or command.torch,
                requirements=command.requirements if command else None,
                tell=tell,
                until=until,
            )
        )

    def _check_gpu(self, wanted: GpuRequest) -> None:
        """Refuse a machine that has not the GPU that is asked for."""
        done = self.link.insist(lambda connection: connection.run_script(_GPUS, limit_s=60))
        devices = [
            (name.strip(), int(memory) * 2**20)
            for name, _, memory in (line.rpartition(",") for line in _lines(done.out))
            if memory.strip().isdigit()
        ]
        if how_many(wanted.name, devices) < wanted.count:
            has = ", ".join(clean(name)[:60] for name, _ in devices[:16]) or "no NVIDIA GPU"
            raise Unavailable(
                f"The machine does not have a {wanted}.",
                f"It has: {has}.",
                "Leave --gpu out to use it as it is.",
            )

    def python_with(self, package: str, tell: Tell, until: float) -> str:
        """The path of a Python on the machine that has a package; made, where there is none."""
        from cloudrun.hosts import remote_python

        return self.link.insist(
            lambda connection: remote_python.prepare(
                connection, need_torch=False, requirements=package, tell=tell, until=until
            )
        ).python

    def push(self, need: Need, tell: Tell) -> None:
        """Bring the workloads or the project's folder; see `Host.push`."""
        command = need.command
        if command is None:
            self.link.insist(_push_workloads)
            return
        pushes = [(Path(command.folder), project_folder(command), _apart(command))]
        pushes += [(Path(folder), _data_folder(folder), []) for folder in command.data]
        for here, there, leave_out in pushes:
            self.link.insist(functools.partial(_push, here, there, leave_out, tell))

    def start(self, ready: Ready, need: Need, work: Work) -> Job:
        """Start the work under a supervisor; see `Host.start`."""
        command = _command_of_ours(ready, work) if need.command is None else ""
        if need.command is not None:
            command = _users_command(ready, need.command, work)
        folder = _job_folder(work.run_id)
        upload = _upload(work.upload, need.command) if work.upload else ""
        start = jobs.start_script(folder, command, work.seconds, upload)
        return jobs.RemoteJob(self.link, folder, start=start)

    def resume(self, run_id: str, out_at: int, err_at: int) -> Job:
        """Go on with a job; see `Host.resume`."""
        return jobs.RemoteJob(self.link, _job_folder(run_id), out_at, err_at)

    def pull(self, need: Need) -> int:
        """Bring the results home; see `Host.pull`."""
        command = need.command
        if command is None:
            return 0
        there = _results_folder(command)
        pulled = self.link.insist(
            lambda connection: transfer.pull(
                connection,
                f"~/{there}",
                Path(command.folder) / command.results,
                # Beside the project: what came home once does not come again.
                marker=f"~/{project_folder(command)}.{command.results.replace('/', '-')}",
                limits=_RESULTS,
            )
        )
        for note in pulled.notes:
            if note not in self._told:
                self._told.add(note)
                self._person.tell(note)
        return pulled.files

    def describe(self) -> Environment | None:
        """Say what the machine is; see `Host.describe`."""
        try:
            return describe.there(self.link.connection).environment
        except CloudrunError:
            # The report goes without it.
            return None

    def forget(self, run_id: str) -> None:
        """Remove the run's folder; see `Host.forget`."""
        script = f"cd && rm -rf {quote(f'{HOME}/runs/{run_id}')}"
        # Everything is home: that it stays there is no reason to fail.
        with contextlib.suppress(HostUnreachable):
            self.link.connection.run_script(script)

    def close(self) -> None:
        """Close the connection."""
        self.link.close()


def _command_of_ours(ready: Ready, work: Work) -> str:
    script, *arguments = work.argv
    argv = [ready.python, f"cloudrun/workloads/{script}", *arguments]
    environment = {"PYTHONUNBUFFERED": "1", **work.environment}
    then = ['export PYTHONPATH="$PWD"', *_marked_as_used(ready.python)]
    return jobs.command_script(argv, _workloads_folder(), environment, then)


def _users_command(ready: Ready, command: Command, work: Work) -> str:
    then = [f"mkdir -p {quote(command.results)}"]
    for folder in command.data:
        name = command.data_name(folder)
        parent = PurePosixPath(name).parent.as_posix()
        then += [
            f'mkdir -p {quote(parent)} && ln -sfn "$HOME"/{_data_folder(folder)} {quote(name)}'
        ]
    if ready.python:
        # What pip and the like see too: the environment is the one in use.
        programs = PurePosixPath(ready.python).parent
        then += [f'export PATH={quote(str(programs))}:"$PATH"', *_marked_as_used(ready.python)]
    environment = {"PYTHONUNBUFFERED": "1", **work.environment}
    return jobs.command_script(work.argv, project_folder(command), environment, then)


def _upload(upload: Upload, command: Command | None) -> str:
    """The script that stores what the job has left."""
    urls = {f"{name}_url": url for name, url in upload.urls.items()}
    results = _results_folder(command) if command else ""
    return scripts.render("upload.sh", **urls, results=results, off="yes" if upload.off else "")


def _results_folder(command: Command) -> str:
    return f"{project_folder(command)}/{command.results}"


def _marked_as_used(python: str) -> list[str]:
    """Note in the shell that an environment is used; see templates/prepare_python.py."""
    environment = python.removesuffix("/bin/python")
    is_ours = f"/{HOME}/environments/" in python
    return [f"touch {quote(environment)}.used 2>/dev/null"] if is_ours else []


def _push_workloads(connection: Connection) -> None:
    """Bring what runs on the machine: the package's own name, and the workloads."""
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz", compresslevel=1) as tar:
        for path in sorted(WORKLOADS.glob("*.py")):
            tar.add(path, f"cloudrun/workloads/{path.name}")
        tar.addfile(tarfile.TarInfo("cloudrun/__init__.py"))
    script = scripts.render("workloads.sh", folder=_workloads_folder())
    done = connection.run_script(script, package.getvalue(), limit_s=60)
    if b"No space left" in done.err:
        raise connection.disk_full()
    if done.status != 0:
        raise WorkloadFailed(
            "The workloads could not be put on the machine.",
            done.err.decode(errors="replace").strip()[:500],
            "Look at its disk, and at the permissions of ~/.cloudrun there.",
        )


def project_folder(command: Command) -> str:
    """Where the project of a command lies on the machine, from the home."""
    return f"{HOME}/projects/{_name_there(command.folder)}"


def _data_folder(folder: str) -> str:
    return f"{HOME}/data/{_name_there(folder)}"


def _lines(data: bytes) -> list[str]:
    return data[:_MOST_WORDS].decode("utf-8", errors="replace").splitlines()


def _name_there(folder: str) -> str:
    """The name of a folder on the machine.

    The same folder of the same computer goes to the same place, so that only
    what has changed is pushed the next time.
    """
    here = hashlib.sha256(f"{platform.node()}\0{folder}".encode()).hexdigest()[:10]
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(folder).name).strip(".-") or "folder"
    return f"{name[:40]}-{here}"


def _push(
    here: Path, there: str, leave_out: Sequence[str], tell: Tell, connection: Connection
) -> None:
    """Bring one folder to the machine."""

    def listen(event: Event) -> None:
        if isinstance(event, Noted):
            tell(event.text)

    pushed = transfer.push(
        connection,
        here,
        f"~/{there}",
        leave_out=leave_out,
        cache=settings.places().state / "digests" / _name_there(str(here)),
        listener=listen,
    )
    if pushed.bytes >= _WORTH_TELLING or pushed.ignored.by:
        tell(f"Of {here.name}, {_in_words(pushed)}.")


def _in_words(pushed: transfer.Pushed) -> str:
    """What went over, and what stayed here."""
    ignored = pushed.ignored
    went = f"{_count(pushed.files, 'file')} went over ({format_bytes(pushed.bytes)})"
    went = went if pushed.files else "nothing had to go over"
    if not ignored.by:
        return went
    counts = ((ignored.files, "file"), (ignored.folders, "folder"))
    left = " and ".join(_count(*each) for each in counts if each[0])
    verb = "is" if ignored.files + ignored.folders == 1 else "are"
    return f"{went}; {left} {verb} left here by {' and '.join(sorted(ignored.by))}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _apart(command: Command) -> list[str]:
    """What of the project's folder is not pushed with it: results, and data that go apart."""
    return [command.results, *map(command.data_name, command.data)]


def _job_folder(run_id: str) -> str:
    return f"{HOME}/runs/{run_id}/job"


def _workloads_folder() -> str:
    return f"{HOME}/workloads/{workload_sha256()[:16]}"
