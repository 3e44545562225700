"""One OpenSSH server on loopback, and two homes: the clients' and that of its only user.

Nothing of the developer's is used or touched: keys, known hosts, configuration
and homes are made anew below one temporary folder. Everybody reaches the server
through the same address and port, which with a delay are those of a long way.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import timing

from over_ssh import longway

HOST, ALIAS, WARM = "127.0.0.1", "bench", "bench-warm"
_SERVER = """\
ListenAddress {host}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
LogLevel ERROR
MaxStartups 256
Subsystem sftp internal-sftp
# Else commands would find the developer's home.
SetEnv "HOME={home}" "PATH={path}"
"""
_CLIENT = """\
Host {alias} {warm}
  HostName {host}
  Port {port}
  User {user}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
Host {warm}
  ControlPath {folder}/warm
"""


@dataclass(frozen=True)
class Lab:
    """What the rows need: the clients' environment, and where things are.

    `home` is the machine's, `here` is for the clients' files. `peers` is a
    Python that has Fabric, asyncssh and parallel-ssh. `delay_s` is added to
    each round trip by `way`.
    """

    home: Path
    here: Path
    config: Path
    env: dict[str, str]
    peers: str
    delay_s: float
    way: str


@contextlib.contextmanager
def lab(folder: Path, peers: str, delay_s: float) -> Iterator[Lab]:
    """Start the server, and the long way where there is a delay; end both at the end."""
    for name in ("machine", "here", "client/.ssh"):
        (folder / name).mkdir(parents=True)
    for name in ("key", "host_key"):
        _make_key(folder / name)
    with contextlib.ExitStack() as stack:
        near = far = HOST
        if delay_s and longway.is_possible():
            near, far = stack.enter_context(_prints("longway.py", str(delay_s)))
        port = stack.enter_context(_server(folder, near))
        if delay_s and near == HOST:
            (shown,) = stack.enter_context(_prints("relay.py", str(port), str(delay_s)))
            port = int(shown)
        config, env = _client(folder, far, port)
        way = "a relay" if near == HOST else "a network of its own"
        yield Lab(folder / "machine", folder / "here", config, env, peers, delay_s, way)


def ssh(lab: Lab, *command: str, to: str = ALIAS) -> list[str]:
    """The command line of OpenSSH's client."""
    return ["ssh", "-F", str(lab.config), to, *command]


@contextlib.contextmanager
def warm(lab: Lab) -> Iterator[None]:
    """A multiplexed connection that stands, for whoever goes to the host WARM."""
    master = subprocess.Popen(
        ssh(lab, "-M", "-N", to=WARM),
        env=lab.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(lambda: _has_master(lab), master, "the multiplexed connection")
        yield
    finally:
        master.terminate()
        master.wait()


def _has_master(lab: Lab) -> bool:
    asked = subprocess.run(ssh(lab, "-O", "check", to=WARM), env=lab.env, capture_output=True)
    return asked.returncode == 0


def _make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True)


@contextlib.contextmanager
def _server(folder: Path, host: str) -> Iterator[int]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        raise SystemExit("There is no sshd here: install OpenSSH's server.")
    if os.geteuid() == 0:
        # Where a server of root's shuts its unprivileged half in.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    # The machine's `python3` is the one that runs this, without its virtual environment.
    path = f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}"
    text = _SERVER.format(host=host, port=port, folder=folder, home=folder / "machine", path=path)
    config = folder / "sshd_config"
    config.write_text(text)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        _wait_for(lambda: _answers(host, port), process, f"sshd (see {log.name})")
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port)) as connection:
        return connection.recv(4) == b"SSH-"
    return False


@contextlib.contextmanager
def _prints(program: str, *words: str) -> Iterator[list[str]]:
    """Start a program of ours; gives the words that it prints when it is ready."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(program)), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker
    try:
        yield process.stdout.readline().decode().split()
    finally:
        process.terminate()
        process.wait()


def _client(folder: Path, host: str, port: int) -> tuple[Path, dict[str, str]]:
    """The clients' configuration and environment, with a home of their own."""
    user, known = getpass.getuser(), folder / "known_hosts"
    known.write_text(f"[{host}]:{port} {(folder / 'host_key.pub').read_text()}")
    config = folder / "client" / ".ssh" / "config"
    config.write_text(
        _CLIENT.format(alias=ALIAS, warm=WARM, host=host, port=port, user=user, folder=folder)
    )
    env = timing.environment(folder / "client")
    for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "PYTHONPATH"):
        env.pop(name, None)
    place = {"host": host, "port": port, "user": user, "key": str(folder / "key")}
    env |= {
        "HOME": str(folder / "client"),
        # Read by the programs with_*.py.
        "BENCH_PLACE": json.dumps({**place, "known_hosts": str(known)}),
    }
    return config, env


def _wait_for(is_there: Callable[[], bool], process: subprocess.Popen[bytes], what: str) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        if is_there():
            return
        time.sleep(0.05)
    raise SystemExit(f"{what} did not start.")
