"""Runs at Kaggle, through a program that behaves as Kaggle's client does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.launcher import lifecycle
from cloudrun.model.need import Need
from cloudrun.notebooks import kaggle as provider
from cloudrun.notebooks import payload
from tests.doubles import clients
from tests.doubles.clients import Service
from tests.doubles.notebooks import scripted_programs

CLOUDRUN = (sys.executable, "-m", "cloudrun")
ON = ("--on", "kaggle", "--yes")
SMOKE = Need(targets=("kaggle",), workload="smoke")


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workloads that find everything in order, at once."""
    monkeypatch.setattr(payload, "WORKLOADS", scripted_programs(tmp_path / "w", "good.py"))


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    provider._user.cache_clear()
    return clients.install("kaggle", tmp_path, monkeypatch, gpus=2)


def kernels(kaggle: Service) -> list[str]:
    return [path.name for path in (kaggle.folder / "kernels").glob("*")]


@pytest.mark.parametrize("fault", ["", "drops"])
def test_a_launch_gives_a_report_and_leaves_no_notebook(
    kaggle: Service, short: None, fault: str
) -> None:
    kaggle.goes_wrong(fault)
    report = lifecycle.launch(SMOKE)
    assert report.outcome == "passed"
    assert [check.name for check in report.checks] == ["torch"]
    assert kernels(kaggle) == []


def test_a_command_speaks_and_ends_as_it_does_here_and_its_results_come_home(
    kaggle: Service,
) -> None:
    Path("train.py").write_text(
        "import os, sys\n"
        "os.makedirs('results')\n"
        "open('results/model.bin', 'wb').write(bytes(range(256)))\n"
        "sys.stdout.buffer.write(b'a bar: 10%\\r100%\\xff, no end of line')\n"
        "print('to stderr', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run([*CLOUDRUN, "run", *ON, "--", "python", "train.py"], capture_output=True)
    assert done.returncode == 7, done.stderr
    assert done.stdout == b"a bar: 10%\r100%\xff, no end of line"
    assert b"to stderr" in done.stderr
    assert Path("results/model.bin").read_bytes() == bytes(range(256))
    assert kernels(kaggle) == []
