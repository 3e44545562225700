"""The command line on a real machine over SSH, as its user would use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cloudrun
from tests.doubles.machines import USER, Machine

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def box(machine: Machine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine as a target: its key is known, and ours opens it."""
    machine.give_python()
    user_home = tmp_path / "user"
    ssh = user_home / ".ssh"
    ssh.mkdir(parents=True)
    (ssh / "known_hosts").write_text(f"{machine.address} {machine.host_key}\n")
    (ssh / "config").write_text(f"Host box\n  HostName {machine.address}\n  User {USER}\n"
                                f"  IdentityFile {machine.key}\n")  # fmt: skip
    monkeypatch.setenv("HOME", str(user_home))
    return "ssh://box"


@pytest.mark.xdist_group("torch")
def test_a_launch_gives_the_same_report_as_here(cloudrun: Cloudrun, box: str) -> None:
    done = cloudrun("launch", "--on", box, "--workload", "smoke", "--json")
    report = json.loads(done.stdout)
    assert done.returncode in (0, 1), done.stderr
    assert report["environment"]["torch"].startswith("2.")
    assert report["machine"]["provider"] == "ssh"
    assert {"autograd", "matmul"} <= {check["name"] for check in report["checks"]}


def test_a_shell_opens_on_the_machine_of_a_run(cloudrun: Cloudrun, box: str) -> None:
    launched = cloudrun("launch", "--on", box, "--workload", "smoke", "--ttl", "1s")
    assert launched.returncode == 75, launched.stderr
    shell = subprocess.run(
        [sys.executable, "-m", "cloudrun", "ssh", "last"],
        input="stty size; echo on $(hostname); exit 7\n",
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": "91", "LINES": "17"},
    )
    assert shell.returncode == 7, shell.stderr
    assert "on crv" in shell.stdout
    assert "17 91" in shell.stdout


def test_without_a_machine_of_its_own_there_is_no_shell(cloudrun: Cloudrun) -> None:
    assert cloudrun("ssh", "last").returncode == 2
