"""The notebook services' clients as programs on the path, their services being folders."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.doubles import colab_server, kaggle_server

DOUBLES = Path(__file__).parent


# A folder of virtual environments, `colab` and `kaggle`, that have the real clients: with it,
# the tests run with those, too, and services on the loopback. See .ci/clients.
REAL = os.environ.get("REAL_CLIENTS")
KINDS = ("double", "real") if REAL else ("double",)


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


@contextlib.contextmanager
def installed(
    name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int = 1
) -> Iterator[Service]:
    """Have a client on the path of this process and its children, its user logged in."""
    folder = tmp_path / name
    (folder / "gpu").mkdir(parents=True)
    program(folder / "gpu" / "nvidia-smi", "\n".join(["echo 'GPU 0: Tesla T4'"] * gpus or [":"]))
    monkeypatch.setenv("PATH", f"{tmp_path / 'clients'}{os.pathsep}{os.environ['PATH']}")
    person = tmp_path / "person"
    token = person / ".config" / "colab-cli" / "token.json"
    token.parent.mkdir(parents=True, exist_ok=True)
    token.write_text("{}")
    monkeypatch.setenv("HOME", str(person))
    with contextlib.ExitStack() as servers:
        command = [sys.executable, DOUBLES / f"{name}_client.py"]
        if kind == "real":
            python = Path(REAL or "", name, "bin", "python")
            serve = colab_server.serving(folder, python) if name == "colab" else None
            address = servers.enter_context(serve or kaggle_server.serving(folder))
            command = [python, DOUBLES / f"real_{name}.py", address]
        words = " ".join(map(str, [*command, folder]))
        program(tmp_path / "clients" / name, f'exec {words} "$@"')
        yield Service(folder)


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def wait_for(path: Path) -> None:
    """Wait until a file is there, which another process makes."""
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.02)
