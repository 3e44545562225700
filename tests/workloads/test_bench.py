"""The benchmark for real, in short, on this machine's CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
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


def test_each_keeps_its_samples_and_their_median(lines: list[dict[str, Any]]) -> None:
    for row in (line for line in lines if line["event"] == "measurement"):
        assert row["n"] == len(row["samples"]) >= 5
        ordered = sorted(row["samples"])
        assert ordered[0] <= row["p5"] <= row["value"] <= row["p95"] <= ordered[-1]
        middle = (ordered[(row["n"] - 1) // 2], ordered[row["n"] // 2])
        assert middle[0] <= row["value"] * 1.00001
        assert row["value"] <= middle[1] * 1.00001


def test_the_lines_are_what_a_report_takes(lines: list[dict[str, Any]]) -> None:
    findings = build.gather(json.dumps(line).encode() for line in lines)
    assert findings.notes == []
    assert len(findings.measurements) == 4 + len(FORMATS)


_WRONG_MM = """
import torch
_right = torch.mm
def _wrong(a, b, *, out):
    _right(a, b, out=out)
    out[0, 0] += 1
    return out
torch.mm = _wrong
"""


def test_no_number_without_a_right_result(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WRONG_MM)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    status, found = run_bench(PYTHONPATH=path)
    assert status == 1
    assert "matmul" not in [line["name"] for line in found if line["event"] == "measurement"]
    failed = [line for line in found if line.get("status") == "fail"]
    assert [line["name"] for line in failed] == [f"bench matmul {dtype}" for dtype in FORMATS]
    assert all("means nothing" in line["detail"] for line in failed)
    assert "training" in [line["name"] for line in found if line["event"] == "measurement"]


_CRASH = """
import torch
def _crash(*args, **kwargs):
    import os, signal
    os.kill(os.getpid(), signal.SIGSEGV)
torch.nn.Conv2d = _crash
"""


def test_a_crash_in_one_measurement_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_CRASH)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    status, found = run_bench(PYTHONPATH=path)
    assert status == 1
    names = [line["name"] for line in found if line["event"] == "measurement"]
    assert names[-1] == "training"
    assert "convolution" not in names
    (failed,) = [line for line in found if line.get("status") == "fail"]
    assert "SIGSEGV" in failed["detail"]
