"""The smoke test for real, on this machine's CPU, and on machines that are broken in one way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cloudrun.workloads import smoke

# All that loads torch runs in one worker: two would fight for the cores.
pytestmark = pytest.mark.xdist_group("torch")
SCRIPT = smoke.__file__


def run_smoke(*arguments: str, **env: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def checks(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in lines if line["event"] == "check"}


@pytest.fixture(scope="module")
def whole() -> tuple[int, list[dict[str, Any]]]:
    return run_smoke("--device", "cpu")


def test_every_check_that_applies_to_a_cpu_is_made_in_order(
    whole: tuple[int, list[dict[str, Any]]],
) -> None:
    status, lines = whole
    applying = [check.name for check in smoke.CHECKS if "cpu" in check.devices]
    assert list(checks(lines)) == applying
    assert status == 0
    assert [line["event"] for line in lines].count("environment") == 1
    assert lines[-1]["event"] == "finished"


def test_on_a_healthy_machine_all_pass_but_what_is_not_there(
    whole: tuple[int, list[dict[str, Any]]],
) -> None:
    found = checks(whole[1])
    skipped = {name for name, check in found.items() if check["status"] == "skip"}
    assert {check["status"] for check in found.values()} <= {"pass", "skip"}
    assert skipped <= {"driver", "onnx", "compile"}
    assert all(check["detail"].endswith((".", "(4).")) for check in found.values())


def test_the_series_is_exact(whole: tuple[int, list[dict[str, Any]]]) -> None:
    assert "1.999999" in checks(whole[1])["autograd"]["detail"]


def _plant(folder: Path, name: str, text: str) -> dict[str, str]:
    """Put a module where Python finds it before the real one."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_a_torch_that_crashes_is_a_finding(tmp_path: Path) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    status, lines = run_smoke(**_plant(tmp_path, "torch/__init__.py", crash))
    found = checks(lines)
    assert status == 1
    assert found["torch"]["status"] == "fail"
    assert "SIGSEGV" in found["torch"]["detail"]
    assert found["torch"]["remedy"]
    assert found["matmul"]["status"] == "skip"
    assert "'torch' failed" in found["matmul"]["detail"]


def test_a_torch_that_cannot_be_imported_is_explained(tmp_path: Path) -> None:
    broken = "raise OSError('libcudart.so.13: cannot open shared object file')"
    status, lines = run_smoke(**_plant(tmp_path, "torch/__init__.py", broken))
    found = checks(lines)
    assert (status, found["torch"]["status"]) == (1, "fail")
    assert "libcudart.so.13" in found["torch"]["detail"]
    assert {
        check["status"] for name, check in found.items() if name not in ("driver", "torch")
    } == {"skip"}


def test_a_gpu_that_torch_cannot_use_is_a_failure_and_no_silent_cpu_run(tmp_path: Path) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'Tesla T4, 580.126.09, 7.5, 15360'\n")
    smi.chmod(0o755)
    status, lines = run_smoke(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = checks(lines)
    assert status == 1
    assert found["driver"]["status"] == "pass"
    assert found["device"]["status"] == "fail"
    assert "Tesla T4" in found["device"]["detail"]
    assert "cloudrun doctor" in found["device"]["remedy"]
    assert "environment" not in [line["event"] for line in lines]


_WRONG_MATMUL = """
import torch
_right = torch.Tensor.__matmul__
def _wrong(a, b):
    c = _right(a, b)
    if a.dtype == torch.float32:
        c = c.clone()
        c[0, 0] += 0.01
    return c
torch.Tensor.__matmul__ = _wrong
"""


def test_wrong_numbers_are_found(tmp_path: Path) -> None:
    env = _plant(tmp_path, "sitecustomize.py", _WRONG_MATMUL)
    status, lines = run_smoke("--device", "cpu", **env)
    found = checks(lines)
    assert status == 1
    assert found["matmul"]["status"] == "fail"
    assert "fp32" in found["matmul"]["detail"]
    assert found["convolution"]["status"] == "pass"
