"""Packages for a command on this machine: real environments, and wheels in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudrun import settings
from cloudrun.errors import DeadlineReached, WorkloadFailed
from cloudrun.hosts.local_python import prepare
from tests.conftest import Cloudrun
from tests.doubles.pythons import Index


@pytest.fixture
def listed(tmp_path: Path) -> str:
    """A list that asks for a package, which is to be had without a network."""
    index = Index(tmp_path / "index")
    index.wheel("gadget", "1.0")
    return f"--no-index\n--find-links {index.folder}/simple/gadget\ngadget\n"


def environments() -> list[Path]:
    folder = settings.places().cache / "environments"
    return [path for path in folder.glob("*") if path.suffix != ".log"]


def test_a_named_list_is_installed_once_and_beside_what_is_the_users(
    cloudrun: Cloudrun, listed: str
) -> None:
    Path("requirements.txt").write_text(listed)
    command = ("--", "python3", "-c", "import gadget; print(gadget.__version__)")
    asked = ("run", "--requirements", "requirements.txt", *command)
    first = cloudrun(*asked)
    assert (first.returncode, first.stdout) == (0, "1.0\n"), first.stderr
    assert "Installing your requirements" in first.stderr
    again = cloudrun(*asked)
    assert (again.returncode, again.stdout) == (0, "1.0\n")
    assert "Installing" not in again.stderr
    assert cloudrun("run", *command).returncode == 1, "what nobody named is not installed here"


def test_what_the_users_python_has_is_seen(
    listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "mine.py").write_text("")
    monkeypatch.setenv("PATH", f"{venv}/bin{os.pathsep}{os.environ['PATH']}")
    made = prepare(listed, tmp_path, print, time.monotonic() + 100)
    subprocess.run([made.python, "-c", "import gadget, mine"], check=True)
    assert list(packages.iterdir()) == [packages / "mine.py"]


def test_a_list_that_cannot_be_installed_is_told_and_leaves_a_log(
    cloudrun: Cloudrun, listed: str
) -> None:
    Path("list.txt").write_text(listed.replace("\ngadget", "\ngaget"))
    done = cloudrun("run", "--requirements", "list.txt", "--", "true")
    assert done.returncode == 65
    assert "has no gaget" in " ".join(done.stderr.split())
    assert environments() == []
    (log,) = (settings.places().cache / "environments").glob("*.log")
    assert "No matching distribution found for gaget" in log.read_text()


def test_a_time_that_is_over_leaves_nothing(listed: str, tmp_path: Path) -> None:
    with pytest.raises(DeadlineReached, match="--ttl"):
        prepare(listed, tmp_path, print, time.monotonic() + 0.1)
    assert environments() == []


def test_where_there_is_no_python_it_is_told(
    listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkloadFailed, match="none on the path"):
        prepare(listed, tmp_path, print, time.monotonic() + 10)
