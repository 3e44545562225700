"""Packages for a command on this machine: an environment of its own, made once for each list.

It is made with the Python that the command would find, whose packages are seen
through; nothing is installed into that one. All of it lies in the user's cache
folder and can be deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from cloudrun import settings
from cloudrun.errors import BadSettings, DeadlineReached, WorkloadFailed
from cloudrun.hosts import install_faults, scripts
from cloudrun.hosts.base import Ready, Tell

_PROGRAMS = "Scripts" if os.name == "nt" else "bin"
_ASK_S = 60.0
_TAIL_CHARACTERS = 30_000


def prepare(requirements: str, project: Path, tell: Tell, until: float) -> Ready:
    """Find or make the environment for a list of packages.

    Args:
        requirements: The text of a requirements.txt.
        project: The folder that its relative paths count from.
        tell: Told in a sentence what takes its time.
        until: The moment (`time.monotonic()`) at which it must be over.

    Raises:
        WorkloadFailed: there is no Python that can make it, or something is missing here.
        BadData: the requirements contradict each other, or name what there is not.
        DeadlineReached: the moment came first.
        BadSettings: the cache folder cannot be written to.
    """
    base, about = _base()
    recipe = json.dumps([about["prefix"], about["version"], requirements])
    name = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    known = settings.places().cache / "environments" / name
    python = _known(known)
    if python is None:
        tell(f"Installing your requirements into an environment on top of {base} ...")
        try:
            python = _make(base, about, requirements, project, known, until)
        except OSError as error:
            what = f"The folder {known.parent} cannot be written to."
            raise BadSettings(what, f"{error.strerror}.", "Free some room there.") from error
    return Ready(str(python), "")


def _base() -> tuple[str, dict[str, Any]]:
    """The Python that the command would find, and what it says of itself."""
    # On Windows, `python3` may be no more than an advertisement.
    names = ("python", "python3") if os.name == "nt" else ("python3", "python")
    base = next(filter(None, map(shutil.which, names)), None)
    about = _about(base) if base else {}
    if base is None or "prefix" not in about:
        found = f"{base} is too old or does not start." if base else "There is none on the path."
        raise WorkloadFailed("A Python to install packages for is needed.", found, "Install one.")
    return base, about


def _about(python: str) -> dict[str, Any]:
    """What a Python says of itself; empty when it says nothing."""
    command = [python, "-c", scripts.text("about_python.py")]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_ASK_S)  # noqa: S603 - ours
        told: dict[str, Any] = json.loads(done.stdout)
        return told
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}


def _known(known: Path) -> Path | None:
    """The Python of an environment that is whole: its folder's name is written down last."""
    try:
        python = known.with_name(known.read_text("utf-8")) / _PROGRAMS / "python"
    except (OSError, ValueError):
        return None
    return python if shutil.which(python) else None


def _make(
    base: str, about: dict[str, Any], requirements: str, project: Path, known: Path, until: float
) -> Path:
    # Under a name of its own: another cloudrun may make the same at the same time.
    folder = known.with_name(f"{known.name}.{secrets.token_hex(4)}")
    python = folder / _PROGRAMS / "python"
    log, listed = folder.with_suffix(".log"), folder / "requirements.txt"
    place = install_faults.Place("this machine", _dotted(about), str(log))
    done = False
    try:
        folder.mkdir(parents=True)
        if _run([base, "-m", "venv", str(folder)], project, log, until):
            raise WorkloadFailed(
                f"No virtual environment can be made with {base}.",
                _tail(log).strip()[-500:],
                "Debian and Ubuntu keep it in a package of its own: sudo apt install python3-venv",
            )
        _see_through(_about(str(python)), about["sites"])
        listed.write_text(requirements, "utf-8")
        if _run([str(python), "-m", "pip", "install", "-r", str(listed)], project, log, until):
            raise install_faults.explain(_tail(log), place, of_user=True)
        part = folder / "name"
        part.write_text(folder.name, "utf-8")
        os.replace(part, known)
        done = True
    finally:
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
    return python


def _see_through(fresh: dict[str, Any], sites: list[str]) -> None:
    """Let an environment see the packages of the Python that it is made with."""
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in sites]
    between = Path(fresh["purelib"], "cloudrun_between.pth")
    between.write_text("".join(lines), "utf-8")


def _run(command: list[str], folder: Path, log: Path, until: float) -> int:
    """Run one step, what it says going to the log; returns its exit status."""
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0"}
    with log.open("ab") as file:
        try:
            return subprocess.run(  # noqa: S603 - no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **quiet},
                timeout=max(0.0, until - time.monotonic()),
            ).returncode
        except subprocess.TimeoutExpired:
            raise DeadlineReached(
                "The time was over before your requirements were installed.",
                "What was being done was stopped.",
                "Give it more time with --ttl; what was downloaded is not downloaded again.",
            ) from None


def _tail(log: Path) -> str:
    return log.read_text("utf-8", errors="replace")[-_TAIL_CHARACTERS:]


def _dotted(about: dict[str, Any]) -> str:
    return "Python " + ".".join(map(str, about["version"]))
