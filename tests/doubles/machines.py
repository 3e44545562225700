"""Real machines to reach over SSH: each in namespaces of its own, with a real OpenSSH server.

A machine has its own network (10.99.0.0/16), processes, host name, user and
view of the files, and starts in about a tenth of a second. Needs root and the
packages openssh-server and iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.hosts.sshconfig import Hop

USER = "ubuntu"
_SCRIPT = Path(__file__).parent / "machine.sh"
_CONFIG = f"""
Port 22
HostKey /run/sshd/host_key
AllowUsers {USER}
AuthorizedKeysFile .ssh/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""


@dataclass
class Machine:
    """A running machine. `key` is the private key that opens it, `host_key` its public one.

    `alive` is set when its first process runs, `listening` when its sshd does, and
    both when it is gone.
    """

    name: str
    address: str
    folder: Path
    key: Path
    host_key: str
    process: subprocess.Popen[str]
    log: list[str] = field(default_factory=list)
    alive: threading.Event = field(default_factory=threading.Event)
    listening: threading.Event = field(default_factory=threading.Event)

    @property
    def home(self) -> Path:
        """The user's home folder on the machine, seen from here through its init's root."""
        return self.root / "home" / USER

    @property
    def root(self) -> Path:
        """The machine's file system, seen from here."""
        return Path(f"/proc/{self._init()}/root")

    def give_python(self) -> None:
        """Let `python3` on the machine be the Python that runs the tests, and its packages."""
        python = self.root / "usr/local/bin/python3"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.unlink(missing_ok=True)
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)

    def run(self, *command: str) -> None:
        """Run a command on the machine as its root, without its sshd."""
        inside = ["nsenter", "--target", str(self._init()), "--all", "--root", "--wd"]
        subprocess.run([*inside, *command], check=True)

    def power_off(self) -> None:
        """Pull the plug: every process of the machine is gone at once."""
        self.process.kill()
        self.process.wait()

    def cut(self) -> None:
        """Cut the link; packets are lost without a word."""
        _ip("link", "set", self.name, "down")

    def mend(self) -> None:
        """Mend the link."""
        _ip("link", "set", self.name, "up")

    def _init(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def _follow_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            self.alive.set()
            if "Server listening" in line:
                self.listening.set()
        self.alive.set()
        self.listening.set()


@contextlib.contextmanager
def network() -> Iterator[str]:
    """A bridge for machines to hang on, in a free subnet 10.99.x.0/24. Gives its name, crbrx."""
    bridge = _free_bridge()
    try:
        number = bridge.removeprefix("crbr")
        _sweep(number)
        _ip("address", "add", f"10.99.{number}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield bridge
    finally:
        _ip("link", "delete", bridge)


@contextlib.contextmanager
def machine(
    bridge: str,
    number: int,
    folder: Path,
    config: str = "",
    authority: Path | None = None,
    disk: str = "4g",
    seed: Path | None = None,
) -> Iterator[Machine]:
    """Start a machine at 10.99.x.`number`.

    `config` is added to its sshd's configuration; `authority` is a key that
    signs its host key; `disk` is how much it can store. `seed` is a folder that
    the machine finds as /run/seed: `init` there is its first process, `host_key`
    its key and `authorized_keys` who may come in. Such a machine is not waited for.
    """
    subnet = bridge.removeprefix("crbr")
    name, address = f"crv{subnet}-{number}", f"10.99.{subnet}.{number}"
    _lay_out(folder, config, seed)
    if authority:
        _certify(folder / "host_key.pub", authority)
    _ip("netns", "add", name)
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", bridge, "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        started = _start(name, address, folder, disk)
        try:
            if seed is None:
                _wait_for_sshd(started)
            yield started
        finally:
            started.power_off()
            # The system tidies up a namespace later; its link's name must be free now.
            _ip("link", "delete", name)
    finally:
        _ip("netns", "delete", name)


def hop(machine: Machine, **changes: object) -> Hop:
    """The way to the machine, as cloudrun takes it."""
    fields = {
        "host": machine.address,
        "port": 22,
        "user": USER,
        "name": machine.address,
        "keys": (machine.key,),
    }
    return Hop(**{**fields, **changes})  # type: ignore[arg-type]


def trust(machine: Machine, known: Path) -> None:
    """Write the machine's host key into a file of known hosts."""
    known.write_text(f"{machine.address} {machine.host_key}\n")


def processes(machine: Machine) -> str:
    """The command lines of the machine's processes."""
    lines = []
    for folder in (machine.root / "proc").iterdir():
        # One may end while we look.
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                lines.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return "\n".join(lines)


def make_key(path: Path) -> str:
    """Make an ed25519 key pair; returns the public key's type and base64."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True
    )
    return path.with_suffix(".pub").read_text().strip()


def is_possible() -> bool:
    """Whether this process may make namespaces, and the programs are there."""
    programs = all(shutil.which(name, path=_PATH) for name in ("ip", "unshare", "sshd"))
    return programs and os.geteuid() == 0


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _lay_out(folder: Path, config: str, seed: Path | None) -> None:
    for name in ("disk", "root"):
        (folder / name).mkdir(parents=True)
    if seed:
        shutil.copytree(seed, folder / "seed")
        for name in ("authorized_keys", "host_key", "host_key.pub"):
            shutil.copy(seed / name, folder / name)
        host_key = (folder / "host_key.pub").read_text().strip()
        (folder / "host_key.txt").write_text(host_key)
        (folder / "sshd_config").write_text(config + _CONFIG)
        return
    host_key = make_key(folder / "host_key")
    public = make_key(folder / "key")
    (folder / "authorized_keys").write_text(public + "\n")
    (folder / "host_key.txt").write_text(host_key)
    # sshd takes the first value it finds, so what a test adds comes first.
    (folder / "sshd_config").write_text(config + _CONFIG)


def _certify(public: Path, authority: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-s", str(authority), "-I", "host", "-h", str(public)], check=True
    )


def _start(name: str, address: str, folder: Path, disk: str) -> Machine:
    command = ["ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--uts", "--ipc"]
    command += ["--fork", "--kill-child", "--", "bash", str(_SCRIPT), str(folder)]
    command += [name, USER, disk, sys.prefix]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={"PATH": _PATH, "LANG": "C.UTF-8"},
        preexec_fn=_die_with_us,
    )
    key, host_key = folder / "key", (folder / "host_key.txt").read_text()
    started = Machine(name, address, folder, key, host_key, process)
    threading.Thread(target=started._follow_log, daemon=True).start()
    return started


def _wait_for_sshd(started: Machine) -> None:
    started.listening.wait(30)
    if started.process.poll() is not None:
        raise RuntimeError("the machine did not start: " + "".join(started.log))


def _die_with_us() -> None:
    """Let a machine go when the tests are killed (prctl: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _free_bridge() -> str:
    """Make a bridge that nobody has: test runs beside each other get different ones."""
    for number in range(10, 250):
        with contextlib.suppress(RuntimeError):
            _ip("link", "add", f"crbr{number}", "type", "bridge")
            return f"crbr{number}"
    raise RuntimeError("no bridge can be made; are there 240 already?")


def _sweep(number: str) -> None:
    """Clear away what tests that were killed left of this subnet, which is ours now."""
    for left in Path("/run/netns").glob(f"crv{number}-*"):
        _ip("netns", "delete", left.name)
        with contextlib.suppress(RuntimeError):
            _ip("link", "delete", left.name)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, encoding="utf-8")
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
