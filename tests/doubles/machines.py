"""Real machines to reach over SSH: each in namespaces of its own, with a real OpenSSH server.

A machine has its own network (10.99.0.0/16), processes, host name, user and
view of the files, and starts in about a tenth of a second. This needs root and
the packages openssh-server and iproute2.

Where no namespaces can be made, a machine is an OpenSSH server on a port of the
loopback that runs as the current user, with a home folder and a folder of
programs of its own. It has no network to cut, nor a power cord, another user or
a view of the files of its own: a test that needs one says so by the marker
`needs_namespaces`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloudrun.hosts.route import Hop

USER = "ubuntu"
DISK = "4g"
_SCRIPT = Path(__file__).parent / "machine.sh"
_CONFIG = """
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
LogLevel VERBOSE
Subsystem sftp internal-sftp
"""
_IN_NAMESPACES = f"""
Port 22
HostKey /run/sshd/host_key
AllowUsers {USER}
AuthorizedKeysFile .ssh/authorized_keys
"""
# sshd takes home and shell from the system's list of users, and begins in that home.
_ON_LOOPBACK = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
SetEnv HOME={home} PATH={programs}:/usr/local/bin:/usr/bin:/bin
ForceCommand exec env -u SHLVL bash -c 'cd; eval "${{SSH_ORIGINAL_COMMAND:-exec bash -l}}"'
"""
_END_S = 10.0


@dataclass
class Machine:
    """A running machine. `key` is the private key that opens it, `host_key` its public one.

    `name` is its host name; `own_home` the user's home folder as the machine calls it.
    `alive` is set when its first process runs, `listening` when its sshd does, and
    both when it is gone.
    """

    name: str
    address: str
    port: int
    user: str
    own_home: str
    folder: Path
    key: Path
    host_key: str
    process: subprocess.Popen[str]
    in_namespaces: bool
    log: list[str] = field(default_factory=list)
    alive: threading.Event = field(default_factory=threading.Event)
    listening: threading.Event = field(default_factory=threading.Event)

    @property
    def home(self) -> Path:
        """The user's home folder on the machine, seen from here."""
        return self.root / "home" / self.user

    @property
    def root(self) -> Path:
        """The machine's file system, seen from here: through its init, where it has one."""
        return Path(f"/proc/{self._init()}/root") if self.in_namespaces else self.folder / "root"

    @property
    def known_name(self) -> str:
        """Its name in a file of known hosts."""
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

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

    def signal_sessions(self, number: signal.Signals) -> None:
        """Send a signal to the sshd processes that serve the user's connections."""
        found = [pid for pid in _below(self._server()) if b"sshd" in _read(pid, "cmdline")]
        assert found
        for pid in found:
            # The first to go takes others with it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

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

    def _server(self) -> int:
        return self._init() if self.in_namespaces else self.process.pid

    def _init(self) -> int:
        return _children(self.process.pid)[0]

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
    bridge: str | None,
    number: int,
    folder: Path,
    config: str = "",
    authority: Path | None = None,
    disk: str = DISK,
    seed: Path | None = None,
) -> Iterator[Machine]:
    """Start a machine at 10.99.x.`number`; without a bridge, one on the loopback.

    `config` is added to its sshd's configuration; `authority` is a key that
    signs its host key; `disk` is how much it can store. `seed` is a folder that
    the machine finds as /run/seed: `init` there is its first process, `host_key`
    its key and `authorized_keys` who may come in. Such a machine is not waited for.
    """
    if bridge is None:
        assert disk == DISK, "its disk would be this machine's: the test needs namespaces"
        with _on_loopback(folder, config, authority) as started:
            yield started
        return
    with _in_namespaces(bridge, number, folder, config, authority, disk, seed) as started:
        yield started


@contextlib.contextmanager
def _in_namespaces(
    bridge: str,
    number: int,
    folder: Path,
    config: str,
    authority: Path | None,
    disk: str,
    seed: Path | None,
) -> Iterator[Machine]:
    subnet = bridge.removeprefix("crbr")
    name, address = f"crv{subnet}-{number}", f"10.99.{subnet}.{number}"
    (folder / "disk").mkdir(parents=True)
    _lay_out(folder, config + _IN_NAMESPACES, authority, Path("/run/sshd"), seed)
    # The bridge's number is ours alone: what bears it is left of tests that were killed.
    with contextlib.suppress(RuntimeError):
        _ip("netns", "delete", name)
    _ip("netns", "add", name)
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", bridge, "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        command = ["ip", "netns", "exec", name, "unshare", "--mount", "--pid", "--uts", "--ipc"]
        command += ["--fork", "--kill-child", "--", "bash", str(_SCRIPT), str(folder)]
        command += [name, USER, disk, sys.prefix]
        about = {"port": 22, "user": USER, "own_home": f"/home/{USER}", "in_namespaces": True}
        started = _start(command, folder, name=name, address=address, **about)
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


@contextlib.contextmanager
def _on_loopback(folder: Path, config: str, authority: Path | None) -> Iterator[Machine]:
    user = getpass.getuser()
    home, programs = folder / "root" / "home" / user, folder / "root" / "usr/local/bin"
    for path in (home, programs):
        path.mkdir(parents=True)
    if os.geteuid() == 0:
        # sshd locks what is not logged in yet into this folder when it is root.
        Path("/run/sshd").mkdir(exist_ok=True)
    port = _free_port()
    own = _ON_LOOPBACK.format(port=port, folder=folder, home=home, programs=programs)
    _lay_out(folder, config + own, authority, folder)
    server = shutil.which("sshd", path=_PATH) or ""
    command = [server, "-D", "-e", "-f", str(folder / "sshd_config")]
    about = {"port": port, "user": user, "own_home": str(home), "in_namespaces": False}
    started = _start(command, folder, name=socket.gethostname(), address="127.0.0.1", **about)
    try:
        _wait_for_sshd(started)
        yield started
    finally:
        _end(started)


def _end(machine: Machine) -> None:
    """End the server and all that runs in the machine's home, as a power-off does elsewhere."""
    sessions = _below(machine.process.pid)
    machine.power_off()
    ends = time.monotonic() + _END_S
    while left := [pid for pid in (*sessions, *_at_home(machine)) if _read(pid, "cmdline")]:
        assert time.monotonic() < ends, [_read(pid, "cmdline") for pid in left]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def hop(machine: Machine, **changes: object) -> Hop:
    """The way to the machine, as cloudrun takes it."""
    fields = {
        "host": machine.address,
        "port": machine.port,
        "user": machine.user,
        "keys": (machine.key,),
    }
    return Hop(**{**fields, **changes})  # type: ignore[arg-type]


def trust(machine: Machine, known: Path) -> None:
    """Write the machine's host key into a file of known hosts."""
    known.write_text(f"{machine.known_name} {machine.host_key}\n")


def processes(machine: Machine) -> str:
    """The command lines of the machine's processes."""
    if not machine.in_namespaces:
        return "\n".join(_words(_read(pid, "cmdline")) for pid in _at_home(machine))
    lines = []
    for folder in (machine.root / "proc").iterdir():
        # One may end while we look.
        with contextlib.suppress(OSError):
            if folder.name.isdigit():
                lines.append(_words((folder / "cmdline").read_bytes()))
    return "\n".join(lines)


def _at_home(machine: Machine) -> list[int]:
    """The processes whose home is the machine's, which nobody else's is."""
    mark = f"\0HOME={machine.own_home}\0".encode()
    found = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in found if mark in b"\0" + _read(pid, "environ")]


def _below(pid: int) -> list[int]:
    children = _children(pid)
    return [*children, *(below for child in children for below in _below(child))]


def _children(pid: int) -> list[int]:
    return [int(child) for child in _read(pid, f"task/{pid}/children").split()]


def _read(pid: int, what: str) -> bytes:
    """A file of /proc about a process; empty when the process is over, or not ours."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


def _words(command_line: bytes) -> str:
    return command_line.replace(b"\0", b" ").decode()


def make_key(path: Path) -> str:
    """Make an ed25519 key pair; returns the public key's type and base64."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True
    )
    return path.with_suffix(".pub").read_text().strip()


def is_possible() -> bool:
    """Whether there is an OpenSSH server for a machine."""
    return shutil.which("sshd", path=_PATH) is not None


@functools.cache
def namespaces_are_possible() -> bool:
    """Whether this process may make namespaces, seen by making some, and the programs are there."""
    if os.geteuid() != 0 or not shutil.which("ip", path=_PATH):
        return False
    try:
        command = ["unshare", "--mount", "--net", "--pid", "--fork", "true"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _lay_out(
    folder: Path, config: str, authority: Path | None, keys: Path, seed: Path | None = None
) -> None:
    """Make keys and configuration; `keys` is the folder where sshd sees its own."""
    (folder / "root").mkdir(parents=True, exist_ok=True)
    if seed:
        shutil.copytree(seed, folder / "seed")
        for name in ("authorized_keys", "host_key", "host_key.pub"):
            shutil.copy(seed / name, folder / name)
    else:
        make_key(folder / "host_key")
        public = make_key(folder / "key")
        (folder / "authorized_keys").write_text(public + "\n")
    (folder / "host_key.txt").write_text((folder / "host_key.pub").read_text().strip())
    if authority:
        _certify(folder / "host_key.pub", authority)
        config += f"HostCertificate {keys}/host_key-cert.pub\n"
    # sshd takes the first value it finds, so what a test adds comes first.
    (folder / "sshd_config").write_text(config + _CONFIG)


def _certify(public: Path, authority: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-s", str(authority), "-I", "host", "-h", str(public)], check=True
    )


def _start(command: list[str], folder: Path, **about: Any) -> Machine:
    """Start a machine's first process."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={"PATH": _PATH, "LANG": "C.UTF-8"},
        preexec_fn=_die_with_us,
    )
    key, host_key = folder / "key", (folder / "host_key.txt").read_text()
    started = Machine(folder=folder, key=key, host_key=host_key, process=process, **about)
    threading.Thread(target=started._follow_log, daemon=True).start()
    return started


def _wait_for_sshd(started: Machine) -> None:
    started.listening.wait(30)
    if started.process.poll() is not None:
        raise RuntimeError("the machine did not start: " + "".join(started.log))


def _die_with_us() -> None:
    """Let a machine go when the tests are killed (prctl: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _free_bridge() -> str:
    """Make a bridge that nobody has: test runs beside each other get different ones."""
    for number in range(10, 250):
        if any(Path("/run/netns").glob(f"crv{number}-*")):
            # What a test run that was killed has left there would be in the way.
            continue
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
