"""What a notebook service is given: one Python text that holds the files and runs the job.

A service takes a text and gives back a log, so all goes into that text, and what the job
says comes back as lines of the log: see templates/notebook_launcher.py and `records`.
"""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cloudrun.errors import WrongUsage
from cloudrun.hosts import describe
from cloudrun.hosts.scripts import text
from cloudrun.model.need import Command, Need
from cloudrun.model.words import format_bytes
from cloudrun.notebooks.project import LeftOut, pick
from cloudrun.reports.build import WORKLOADS

RESULTS = "cloudrun-results.tar.gz"
# The services take and give back files in one piece.
MOST_RESULTS_BYTES = 64 * 2**20
_MOST_PACKED_BYTES = 2**20
_PROJECT = "project"
_REQUIREMENTS = "cloudrun-requirements.txt"


@dataclass(frozen=True)
class Payload:
    """The text, and what of the user's folder is not in it and why."""

    script: str
    left_out: tuple[LeftOut, ...] = ()


def build(need: Need, device: str, home: str, seconds: int) -> Payload:
    """Put everything into one text.

    Args:
        need: What is to be done.
        device: What the workloads are to compute on; `cuda` is not tried without a GPU.
        home: The service's folder for files that are to be kept.
        seconds: After which the job is stopped.

    Raises:
        WrongUsage: the files are too many, or data are to go along.
    """
    job = {
        "seconds": seconds,
        "needs_gpu": device == "cuda",
        "home": home,
        "most_results": MOST_RESULTS_BYTES,
        "describe": describe.script(),
    }
    if need.command is None:
        options = ("--workload", need.workload, "--device", device, "--profile", need.profile)
        step = ("{python}", "-u", "cloudrun/workloads/work.py", *options)
        job |= {"folder": ".", "steps": [step], "results": ""}
        return Payload(_script(job, _workloads()))
    files, left_out = _project(need.command)
    job |= {
        "folder": _PROJECT,
        "steps": _steps(need.command),
        "results": need.command.results,
    }
    return Payload(_script(job, files), tuple(left_out))


def _script(job: Mapping[str, object], files: Mapping[str, bytes]) -> str:
    packed = base64.b64encode(_pack(files))
    if len(packed) > _MOST_PACKED_BYTES:
        raise WrongUsage(
            f"What is to go to the notebook takes {format_bytes(len(packed))} when it is packed.",
            f"A notebook service gets {format_bytes(_MOST_PACKED_BYTES)} at most: code, not data.",
            "Name in .cloudrunignore what the command does not need, and let it fetch its data "
            "itself.",
        )
    return f'JOB = {job!r}\nARCHIVE = "{packed.decode()}"\n\n{text("notebook_launcher.py")}'


def _pack(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if content.startswith(b"#!") else 0o644
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def _workloads() -> dict[str, bytes]:
    files = {f"cloudrun/workloads/{path.name}": path.read_bytes() for path in _sources()}
    return {"cloudrun/__init__.py": b"", **files}


def _sources() -> list[Path]:
    return sorted(WORKLOADS.glob("*.py"))


def _project(command: Command) -> tuple[dict[str, bytes], list[LeftOut]]:
    if command.data:
        raise WrongUsage(
            "Data cannot go to a notebook service.",
            "It takes one text with code.",
            "Leave --data out, and let the command fetch its data itself.",
        )
    found, left_out = pick(Path(command.folder), [command.results])
    files = {f"{_PROJECT}/{path}": content for path, content in found.items()}
    if command.requirements is not None:
        files[_REQUIREMENTS] = command.requirements.encode()
    return files, left_out


def _steps(command: Command) -> list[tuple[str, ...]]:
    """What is run, one after the other, as long as all goes well."""
    if command.requirements is None:
        return [command.argv]
    install = ("{python}", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    return [(*install, "-r", f"../{_REQUIREMENTS}"), command.argv]
