from __future__ import annotations

import platform
from pathlib import Path

import msgspec
import pytest

from cloudrun.hosts import describe
from cloudrun.reports.schema import Environment


def test_this_machine_is_described_without_a_workload() -> None:
    seen = describe.here().environment
    assert seen.os == f"{platform.system()} {platform.release()}"
    assert seen.architecture == platform.machine()
    assert seen.python.startswith("3.")


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ("echo NVIDIA-SMI has failed; echo more; exit 9", "NVIDIA-SMI has failed"),
        ("exec sleep 60", "nvidia-smi did not answer within 1 s"),
    ],
)
def test_a_driver_that_does_not_work_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, trouble: str
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{said}\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(describe, "LIMIT_S", 1)
    seen = describe.here()
    assert (seen.trouble, seen.environment.device) == (trouble, "cpu")


def test_a_hostile_machine_gives_what_a_report_may_hold() -> None:
    said = b"cpu " + b"x" * 500 + b"\nos \xff\x1b[2J\ngpu " + b"y" * 500 + b", 1.2, 3\n"
    said += b"gpu A, 580.1, [N/A]\ngpu B, 580.1, 99999999999999999999\n" + b"gpu C, 1, 2\n" * 10**6
    seen = describe.read(said).environment
    assert msgspec.convert(msgspec.to_builtins(seen), Environment) == seen
    assert [(gpu.name, gpu.memory_bytes) for gpu in seen.gpus[:2]] == [
        ("A", None),
        ("C", 2 * 2**20),
    ]
    assert (seen.device, seen.driver, len(seen.gpus)) == ("cuda", "580.1", 64)
