"""A rehearsal: the whole of a launch at AWS, without an account, a network or a bill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Cloudrun
from tests.e2e.conftest import Start


def rehearse(
    cloudrun: Cloudrun, fault: str, *command: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    option = f"--rehearse={fault}" if fault else "--rehearse"
    done = cloudrun("run", option, "--gpu", "T4", "--", *command)
    return done, " ".join(done.stderr.split())


def test_it_is_a_launch_with_a_pretended_bill(cloudrun: Cloudrun, project: Path) -> None:
    done, said = rehearse(cloudrun, "", "sh", "-c", "echo hello; exit 3")
    assert (done.returncode, done.stdout) == (3, "hello\n"), said
    assert "$0.53 an hour" in said
    assert "nothing is rented" in said
    report = json.loads(cloudrun("report", "show", "last", "--json").stdout)
    assert report["machine"]["provider"] == "rehearsal"
    assert report["machine"]["instance_type"] == "g4dn.xlarge"
    assert report["cost"]["usd"] > 0
    assert "pretended" in report["cost"]["basis"]
    assert "pretended" in cloudrun("report", "show", "last").stdout


def test_it_needs_no_credentials_and_uses_none(
    cloudrun: Cloudrun, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    # Whatever is asked of any other place is refused.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    done, said = rehearse(cloudrun, "", "true")
    assert done.returncode == 0, said


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        pytest.param("stockout", 0, "no machine of this type here now", marks=pytest.mark.thorough),
        pytest.param("quota", 0, "Your quota at AWS does not allow", marks=pytest.mark.thorough),
        ("spot-interruption", 68, "takes the spot machine"),
    ],
)
def test_it_acts_up_as_it_is_told(
    cloudrun: Cloudrun, project: Path, fault: str, status: int, words: str
) -> None:
    seconds = "60" if fault == "spot-interruption" else "0"
    done, said = rehearse(cloudrun, fault, "sleep", seconds)
    assert done.returncode == status, said
    assert words in said
    report = json.loads(cloudrun("report", "show", "last", "--json").stdout)
    zones = {"stockout": "us-east-1c", "quota": "us-west-2a"}
    assert report["machine"]["zone"] == zones.get(fault, report["machine"]["zone"])
    assert report["outcome"] == ("partial" if status else "passed")


def test_an_unknown_fault_names_the_known_ones(cloudrun: Cloudrun) -> None:
    done = cloudrun("launch", "--rehearse=fire")
    assert (done.returncode, "stockout" in done.stderr) == (2, True)


@pytest.mark.thorough
def test_ctrl_c_leaves_nothing(cloudrun: Cloudrun, start: Start, project: Path) -> None:
    process = start("run", "--rehearse", "--gpu", "T4", "--", "sh", "-c", "echo ready; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert cloudrun("ps").stdout == ""
