"""The benchmark for real, in short, on this machine's CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from cloudrun.reports import build
from cloudrun.workloads import bench
from cloudrun.workloads.device import float_types

# All that loads torch runs in one worker: two would fight for the cores.
pytestmark = pytest.mark.xdist_group("torch")
# Older processors have no fast bf16, and it is left out there.
FORMATS = float_types(torch.device("cpu"))


def run_bench(*arguments: str, **env: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, bench.__file__, "--device", "cpu", *arguments],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    status, found = run_bench()
    assert status == 0
    return found


@pytest.mark.thorough
def test_every_measurement_of_a_cpu_is_made(lines: list[dict[str, Any]]) -> None:
    rows = [line for line in lines if line["event"] == "measurement"]
    names = [(row["name"], row["params"]["dtype"]) for row in rows]
    assert names == [
        *(("matmul", dtype) for dtype in FORMATS),
        ("memory_copy", "fp32"),
        ("memory_triad", "fp32"),
        ("convolution", "fp32"),
        ("training", "fp32"),
    ]
    assert lines[0]["event"] == "environment"
    assert lines[-1]["event"] == "finished"


@pytest.mark.thorough
def test_each_keeps_its_samples_and_their_median(lines: list[dict[str, Any]]) -> None:
    for row in (line for line in lines if line["event"] == "measurement"):
        assert row["n"] == len(row["samples"]) >= 5
        ordered = sorted(row["samples"])
        assert ordered[0] <= row["p5"] <= row["value"] <= row["p95"] <= ordered[-1]
        middle = (ordered[(row["n"] - 1) // 2], ordered[row["n"] // 2])
        assert middle[0] <= row["value"] * 1.00001
        assert row["value"] <= middle[1] * 1.00001


@pytest.mark.thorough
def test_the_lines_are_what_a_report_takes(lines: list[dict[str, Any]]) -> None:
    findings = build.gather(json.dumps(line).encode() for line in lines)
    assert findings.notes == []
    assert len(findings.measurements) == 4 + len(FORMATS)


# One run with two faults, since a run takes its time.
_WRONG_MATMUL_AND_CRASHING_CONVOLUTION = """
import torch
_right = torch.mm
def _wrong(a, b, *, out):
    _right(a, b, out=out)
    out[0, 0] += 1
    return out
torch.mm = _wrong

def _crash(*args, **kwargs):
    import os, signal
    os.kill(os.getpid(), signal.SIGSEGV)
torch.nn.Conv2d = _crash
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "sitecustomize.py").write_text(_WRONG_MATMUL_AND_CRASHING_CONVOLUTION)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    status, found = run_bench(PYTHONPATH=path)
    assert status == 1
    return found


def test_no_number_without_a_right_result(broken: list[dict[str, Any]]) -> None:
    assert "matmul" not in [line["name"] for line in broken if line["event"] == "measurement"]
    failed = [line for line in broken if "matmul" in line.get("name", "")]
    assert [line["name"] for line in failed] == [f"bench matmul {dtype}" for dtype in FORMATS]
    assert all(line["status"] == "fail" for line in failed)
    assert all("means nothing" in line["detail"] for line in failed)


def test_a_crash_in_one_measurement_leaves_the_others(broken: list[dict[str, Any]]) -> None:
    names = [line["name"] for line in broken if line["event"] == "measurement"]
    assert names == ["memory_copy", "memory_triad", "training"]
    (failed,) = [line for line in broken if line.get("name", "").startswith("bench convolution")]
    assert (failed["event"], failed["status"]) == ("check", "fail")
    assert "SIGSEGV" in failed["detail"]
