"""The notebook services' clients as programs on the path, their services being folders."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

DOUBLES = Path(__file__).parent


@dataclass(frozen=True)
class Service:
    """A service that is a folder: its calls, its machines, its faults."""

    folder: Path

    def goes_wrong(self, fault: str) -> None:
        (self.folder / "fault").write_text(fault)

    def calls(self) -> list[list[str]]:
        """What the client was called with, without the file of its state."""
        lines = (self.folder / "calls").read_text().splitlines()
        calls = [json.loads(line) for line in lines]
        return [call[2:] if call[0] == "--config" else call for call in calls]

    def machines(self) -> list[str]:
        return [path.parent.name for path in self.folder.glob("*/machine.json")]

    def wait_until_one_is_given_back(self) -> None:
        """The service says so through a pipe that has a name."""
        os.mkfifo(self.folder / "given back")
        (self.folder / "given back").read_text()


def install(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int = 1) -> Service:
    """Put a client on the path of this process and its children, and log its user in."""
    folder = tmp_path / name
    (folder / "gpu").mkdir(parents=True)
    program(folder / "gpu" / "nvidia-smi", "\n".join(["echo 'GPU 0: Tesla T4'"] * gpus or [":"]))
    programs = tmp_path / "clients"
    programs.mkdir(exist_ok=True)
    client = DOUBLES / f"{name}_client.py"
    program(programs / name, f'exec {sys.executable} {client} {folder} "$@"')
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    person = tmp_path / "person"
    token = person / ".config" / "colab-cli" / "token.json"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("{}")
    monkeypatch.setenv("HOME", str(person))
    return Service(folder)


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def wait_for(path: Path) -> None:
    """Wait until a file is there, which another process makes."""
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)
