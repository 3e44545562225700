"""Every test has a home of its own, and nothing of the developer's settings reaches it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudrun.hosts.connection import Connection, connect
from cloudrun.hosts.link import Link
from tests.doubles import aws, gce, machines
from tests.doubles.machines import Machine, hop, trust

Cloudrun = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for cloudrun, in a folder that holds no project."""
    for name in [name for name in os.environ if name.startswith("CLOUDRUN_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)
    _forget_clouds(monkeypatch)
    folder = tmp_path / "home"
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("CLOUDRUN_HOME", str(folder))
    monkeypatch.chdir(work)
    return folder


def _forget_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no cloud of the developer's be found, by tests or by what they start."""
    clouds = ("AWS_", "AZURE_", "CLOUDSDK_", "GOOGLE_", "KAGGLE_", "STORAGE_")
    for name in list(os.environ):
        if name.startswith(clouds):
            monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "CLOUDSDK_CONFIG"):
        monkeypatch.setenv(name, "/nonexistent")
    for name in ("AWS_EC2_METADATA_DISABLED", "NO_GCE_CHECK"):
        monkeypatch.setenv(name, "true")


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


@pytest.fixture(scope="session")
def bridge() -> Iterator[str | None]:
    """The network that this worker's machines hang on; None where they are on the loopback."""
    if not machines.is_possible():
        pytest.skip("needs openssh-server")
    if not machines.namespaces_are_possible():
        yield None
        return
    with machines.network() as name:
        yield name


@pytest.fixture
def disk() -> str:
    """How much the machine can store; a test's own fixture of this name makes it less."""
    return machines.DISK


@pytest.fixture
def machine(
    request: pytest.FixtureRequest,
    bridge: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    disk: str,
) -> Iterator[Machine]:
    """A real machine with an SSH server; no agent of the developer's opens it."""
    needs = request.node.get_closest_marker("needs_namespaces")
    if needs and bridge is None:
        pytest.skip(f"needs namespaces: {needs.args[0]}")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with machines.machine(bridge, 11, tmp_path / "machine", disk=disk) as started:
        yield started


@pytest.fixture
def connection(machine: Machine, tmp_path: Path) -> Iterator[Connection]:
    """An open connection to the machine."""
    known = tmp_path / "known_hosts"
    trust(machine, known)
    with connect([hop(machine)], known) as connected:
        yield connected


@pytest.fixture
def link(machine: Machine, tmp_path: Path) -> Iterator[Link]:
    """The way to the machine, which is opened again when it is lost."""
    known = tmp_path / "known_hosts"
    trust(machine, known)
    made = Link(lambda: connect([hop(machine)], known), lambda _text: None)
    yield made
    made.drop()


@pytest.fixture
def cloud(
    bridge: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[aws.RackedCloud]:
    """A simulated AWS with real machines; this process and its children are to use no other."""
    if bridge is None:
        pytest.skip("needs namespaces: its machines are made and ended")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with aws.cloud(bridge, tmp_path / "aws") as started:
        for name, value in started.environment().items():
            monkeypatch.setenv(name, value)
        yield started


@pytest.fixture
def google(bridge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[gce.Cloud]:
    """A simulated Google Cloud with real machines, likewise."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with gce.cloud(bridge, tmp_path / "google") as started:
        for name, value in started.environment().items():
            monkeypatch.setenv(name, value)
        yield started
