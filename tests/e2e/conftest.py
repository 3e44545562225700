"""What the tests share that use cloudrun as its user does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Popen = subprocess.Popen[str]
Start = Callable[..., Popen]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the project's, and the present one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    """Start the command line and go on."""
    started: list[Popen] = []

    def begin(*arguments: str) -> Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloudrun", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def wait(until: Callable[[], object], what: str, limit_s: float = 60) -> None:
    """Wait for something that another process brings about."""
    end = time.monotonic() + limit_s
    while not until():
        assert time.monotonic() < end, what
        time.sleep(0.05)
