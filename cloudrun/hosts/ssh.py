"""A machine over SSH as a host: jobs outlive the connection, and everything goes through it.

On the machine, all of ours lies below `~/.cloudrun`: `runs` (one folder a run,
removed when everything is home), `projects` (the users' folders, kept for the
next push), `data`, `environments` and `workloads`.
"""

from __future__ import annotations

import hashlib
import io
import platform
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from shlex import quote

from cloudrun.errors import WorkloadFailed
from cloudrun.hosts import jobs, remote_python, scripts
from cloudrun.hosts.base import NOBODY, Job, Person, Ready, Tell, Work
from cloudrun.hosts.connection import Connection, connect
from cloudrun.hosts.link import Link
from cloudrun.hosts.sshconfig import Hop
from cloudrun.model.need import Command, Need
from cloudrun.reports.build import WORKLOADS, workload_sha256

HOME = ".cloudrun"


class SshHost:
    """The machine at the end of a way; connects when it is first used."""

    keeps_jobs = True

    def __init__(self, way: Sequence[Hop], known_hosts: Path, person: Person = NOBODY) -> None:
        self.link = Link(lambda: connect(way, known_hosts, person), person.tell)

    def prepare(self, need: Need, tell: Tell, until: float) -> Ready:
        """Find or make a Python that can do the work; see `Host.prepare`."""
        command = need.command
        return self.link.insist(
            lambda connection: remote_python.prepare(
                connection,
                need_torch=command is None or command.torch,
                requirements=command.requirements if command else None,
                tell=tell,
                until=until,
            )
        )

    def python_with(self, package: str, tell: Tell, until: float) -> str:
        """The path of a Python on the machine that has a package; made, where there is none."""
        return self.link.insist(
            lambda connection: remote_python.prepare(
                connection, need_torch=False, requirements=package, tell=tell, until=until
            )
        ).python

    def push(self, need: Need, tell: Tell) -> None:
        """Bring the workloads or the project's folder; see `Host.push`."""
        if need.command is None:
            self.link.insist(_push_workloads)
        else:
            raise NotImplementedError

    def start(self, ready: Ready, need: Need, work: Work) -> Job:
        """Start the work under a supervisor; see `Host.start`."""
        command = _command_of_ours(ready, work) if need.command is None else ""
        if need.command is not None:
            command = _users_command(ready, need.command, work)
        return jobs.start(self.link, _job_folder(work.run_id), command, work.seconds)

    def resume(self, run_id: str, out_at: int, err_at: int) -> Job:
        """Go on with a job; see `Host.resume`."""
        return jobs.RemoteJob(self.link, _job_folder(run_id), out_at, err_at)

    def pull(self, run_id: str, need: Need) -> int:
        """Bring the results home; see `Host.pull`."""
        raise NotImplementedError

    def forget(self, run_id: str) -> None:
        """Remove the run's folder; see `Host.forget`."""
        script = f"cd && rm -rf {quote(f'{HOME}/runs/{run_id}')}"
        self.link.insist(lambda connection: connection.run_script(script))

    def close(self) -> None:
        """Close the connection."""
        self.link.drop()


def _command_of_ours(ready: Ready, work: Work) -> str:
    script, *arguments = work.argv
    argv = [ready.python, f"cloudrun/workloads/{script}", *arguments]
    environment = {"PYTHONUNBUFFERED": "1", **work.environment}
    return jobs.command_script(argv, _workloads_folder(), environment, ['export PYTHONPATH="$PWD"'])


def _users_command(ready: Ready, command: Command, work: Work) -> str:
    then = [f"mkdir -p {quote(command.results)}"]
    if ready.python:
        # What pip and the like see too: the environment is the one in use.
        programs = PurePosixPath(ready.python).parent
        then += [f'export PATH={quote(str(programs))}:"$PATH"']
    environment = {"PYTHONUNBUFFERED": "1", **work.environment}
    return jobs.command_script(work.argv, project_folder(command), environment, then)


def _push_workloads(connection: Connection) -> None:
    """Bring what runs on the machine: the package's own name, and the workloads."""
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w:gz", compresslevel=1) as tar:
        for path in sorted(WORKLOADS.glob("*.py")):
            tar.add(path, f"cloudrun/workloads/{path.name}")
        tar.addfile(tarfile.TarInfo("cloudrun/__init__.py"))
    script = scripts.render("workloads.sh", folder=_workloads_folder())
    done = connection.run_script(script, package.getvalue(), limit_s=60)
    if done.status != 0:
        raise WorkloadFailed(
            "The workloads could not be put on the machine.",
            done.err.decode(errors="replace").strip()[:500],
            "Look at its disk, and at the permissions of ~/.cloudrun there.",
        )


def project_folder(command: Command) -> str:
    """Where the project of a command lies on the machine, from the home.

    The same folder of the same computer goes to the same place, so that only
    what has changed is pushed the next time.
    """
    here = hashlib.sha256(f"{platform.node()}\0{command.folder}".encode()).hexdigest()[:10]
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(command.folder).name).strip(".-") or "project"
    return f"{HOME}/projects/{name[:40]}-{here}"


def _job_folder(run_id: str) -> str:
    return f"{HOME}/runs/{run_id}/job"


def _workloads_folder() -> str:
    return f"{HOME}/workloads/{workload_sha256()[:16]}"
