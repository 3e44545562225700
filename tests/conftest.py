"""Every test has a home of its own, and nothing of the developer's settings reaches it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cloudrun = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for cloudrun, in a folder that holds no project."""
    for name in [name for name in os.environ if name.startswith("CLOUDRUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)
    folder = tmp_path / "home"
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("CLOUDRUN_HOME", str(folder))
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def cloudrun(home: Path) -> Cloudrun:
    """Run the command line as a process of its own, the home being the test's."""

    def run(*arguments: str, **more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cloudrun", *arguments],
            capture_output=True,
            encoding="utf-8",
            stdin=subprocess.DEVNULL,
            **more,  # type: ignore[call-overload]
        )

    return run
