"""Real machines in network namespaces for the instances of a simulated cloud.

Each reads its user data as cloud-init would, but strictly: what it does not know
fails the test.
"""

from __future__ import annotations

import base64
import itertools
import shlex
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.doubles import machines
from tests.doubles.machines import USER, Machine

_HERE = Path(__file__).parent
_KNOWN = {
    "bootcmd": list,
    "package_update": bool,
    "package_upgrade": bool,
    "runcmd": list,
    "ssh_authorized_keys": list,
    "ssh_deletekeys": bool,
    "ssh_keys": dict,
    "users": list,
    "write_files": list,
}
_FILE_KEYS = {"append", "content", "encoding", "owner", "path", "permissions"}


class BadUserData(Exception):
    """User data that cloud-init, or this double of it, does not take."""


class Cloud(Protocol):
    """The cloud whose instances the machines are."""

    console: dict[str, str]

    def powered_off(self, instance_id: str) -> None:
        """A machine went off from inside."""


@dataclass(frozen=True)
class Boot:
    """What a machine boots with.

    `config` is cloud-init's; `script` runs once the sshd is up; `pythons` are the
    paths of Pythons, each of which is the one that runs the tests. Its clock is `ahead_s`.
    """

    config: dict[str, Any] = field(default_factory=dict)
    script: str = ""
    pythons: tuple[str, ...] = ("/usr/local/bin/python3",)
    ahead_s: int = 0


class Rack:
    """Gives instances machines. `boot_s` is how long their sshd takes to come up after bootcmd.

    `first` is the number of the first machine's address; lower ones are the other doubles'.
    """

    def __init__(self, bridge: str, folder: Path, first: int) -> None:
        self.bridge, self.folder = bridge, folder
        self.boot_s: float = 0
        self.cloud: Cloud | None = None
        self.failures: list[str] = []
        self._machines: dict[str, Machine] = {}
        self._started: dict[str, threading.Event] = {}
        self._stopped: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._numbers = itertools.count(first)

    def begin(self, instance_id: str, boot: Boot) -> str:
        """Begin to start a machine; returns its address.

        Raises:
            BadUserData: it would not boot with that.
        """
        folder, number = self.folder / instance_id, next(self._numbers)
        _sow(folder / "seed", boot, self.boot_s)
        self._started[instance_id] = threading.Event()
        live = threading.Thread(target=self._live, args=(instance_id, number, folder))
        self._threads.append(live)
        live.start()
        return f"10.99.{self.bridge.removeprefix('crbr')}.{number}"

    def stop(self, instance_id: str) -> None:
        """Pull the plug of a machine."""
        self._stopped.add(instance_id)
        machine = self._machines.get(instance_id)
        if machine is not None:
            machine.process.kill()

    def machine(self, instance_id: str) -> Machine:
        """The machine of an instance, once it is there; its sshd may not be."""
        self._started[instance_id].wait(30)
        return self._machines[instance_id]

    def join(self) -> None:
        """Wait for the machines to be gone.

        Raises:
            BadUserData: one could not boot.
        """
        for thread in self._threads:
            thread.join(30)
        if self.failures:
            raise BadUserData("; ".join(self.failures))

    def _live(self, instance_id: str, number: int, folder: Path) -> None:
        try:
            self._be(instance_id, number, folder)
        except Exception as error:
            self.failures.append(f"{instance_id}: {error!r}")
            raise
        finally:
            self._started[instance_id].set()

    def _be(self, instance_id: str, number: int, folder: Path) -> None:
        seed = folder / "seed"
        with machines.machine(self.bridge, number, folder / "machine", seed=seed) as machine:
            self._machines[instance_id] = machine
            machine.alive.wait(30)
            self._started[instance_id].set()
            if instance_id in self._stopped:
                machine.process.kill()
            machine.process.wait()
        assert self.cloud is not None
        self.cloud.console.setdefault(instance_id, "".join(machine.log))
        if instance_id not in self._stopped:
            self.cloud.powered_off(instance_id)


def _sow(seed: Path, boot: Boot, boot_s: float) -> None:
    """Lay out what the machine finds when it boots."""
    config = boot.config
    seed.mkdir(parents=True)
    for name, script in (("init", "instance.sh"), ("power", "power.sh"), ("sudo", "sudo.sh")):
        shutil.copy(_HERE / script, seed / name)
        (seed / name).chmod(0o755)
    (seed / "bootcmd").write_text(
        _pythons(boot.pythons) + _clock(boot.ahead_s) + _shell(config.get("bootcmd", []))
    )
    (seed / "runcmd").write_text(_shell(config.get("runcmd", [])) + boot.script)
    (seed / "write_files").write_text("".join(map(_file, config.get("write_files", []))))
    (seed / "authorized_keys").write_text("".join(f"{key}\n" for key in _keys(config)))
    (seed / "delay").write_text(str(boot_s))
    _host_key(seed / "host_key", config.get("ssh_keys", {}))


def read(user_data: bytes) -> dict[str, Any]:
    """Read user data, checked strictly.

    https://docs.cloud-init.io/en/latest/explanation/about-cloud-config.html

    Raises:
        BadUserData: cloud-init would not take it, or this double of it knows no such key.
    """
    text = user_data.decode()
    if text.split("\n", 1)[0].rstrip() != "#cloud-config":
        raise BadUserData(f"it must begin with #cloud-config, not with {text[:20]!r}")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadUserData(str(error)) from error
    if not isinstance(config, dict):
        raise BadUserData("it must be a mapping")
    for key, value in config.items():
        if key not in _KNOWN:
            raise BadUserData(f"this double knows no {key}")
        if not isinstance(value, _KNOWN[key]):
            raise BadUserData(f"{key} must be a {_KNOWN[key].__name__}")
    return config


def _shell(commands: list[Any]) -> str:
    """One script of all commands: text as it is, lists quoted. A failing one stops nothing."""
    lines = []
    for each in commands:
        if isinstance(each, str):
            lines.append(each)
        elif isinstance(each, list) and all(isinstance(part, str | int) for part in each):
            lines.append(shlex.join(map(str, each)))
        else:
            raise BadUserData(f"a command must be text or a list of texts, not {each!r}")
    return "".join(f"{line}\n" for line in lines)


def _file(spec: dict[str, Any]) -> str:
    """https://docs.cloud-init.io/en/latest/reference/modules.html#write-files."""
    if unknown := set(spec) - _FILE_KEYS:
        raise BadUserData(f"write_files: this double knows no {min(unknown)}")
    if spec.get("encoding", "text/plain") not in ("b64", "base64", "text/plain"):
        raise BadUserData(f"write_files: this double knows no encoding {spec['encoding']}")
    content = str(spec.get("content", "")).encode()
    if spec.get("encoding", "text/plain") != "text/plain":
        content = base64.b64decode(content, validate=True)
    permissions = spec.get("permissions", "0644")
    if not isinstance(permissions, str):
        raise BadUserData("write_files: permissions must be text, such as '0644'")
    path, into = shlex.quote(spec["path"]), ">>" if spec.get("append") else ">"
    return (
        f'mkdir -p "$(dirname {path})"\n'
        f"echo {base64.b64encode(content).decode()} | base64 -d {into} {path}\n"
        f"chmod {permissions} {path}\n"
        f"chown {shlex.quote(spec.get('owner', 'root:root'))} {path}\n"
    )


def _keys(config: dict[str, Any]) -> list[str]:
    """Who may come in as the default user."""
    keys = list(config.get("ssh_authorized_keys", []))
    users = config.get("users", ["default"])
    if "default" not in users and not any(_is_ours(user) for user in users):
        return []
    for user in users:
        if user != "default":
            if not _is_ours(user):
                raise BadUserData(f"users: this double has {USER} only, not {user!r}")
            keys += user.get("ssh_authorized_keys", [])
    return keys


def _is_ours(user: object) -> bool:
    return isinstance(user, dict) and user.get("name") == USER


def _host_key(path: Path, keys: dict[str, str]) -> None:
    """The key given, or a new one as cloud-init makes it."""
    if not keys:
        machines.make_key(path)
        return
    if set(keys) != {"ed25519_private", "ed25519_public"}:
        raise BadUserData(f"ssh_keys: this double takes ed25519 keys only, not {sorted(keys)}")
    path.write_text(keys["ed25519_private"])
    path.chmod(0o600)
    path.with_suffix(".pub").write_text(keys["ed25519_public"].strip() + "\n")
    told = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True)
    if told.stdout.split()[:2] != keys["ed25519_public"].split()[:2]:
        raise BadUserData(f"ssh_keys: the two do not belong together: {told.stderr}")


def _clock(ahead_s: int) -> str:
    """A `date` that is ahead of the true one."""
    if not ahead_s:
        return ""
    place = "/usr/local/bin/date"
    program = f'#!/bin/sh\\nexec /bin/date -d "{ahead_s} seconds" "$@"\\n'
    return f"printf '{program}' >{place}; chmod 755 {place}\n"


def _pythons(places: tuple[str, ...]) -> str:
    """What an image brings: Pythons, each of which is the one that runs the tests."""
    lines = []
    for place in places:
        lines.append(f"mkdir -p {Path(place).parent}; rm -f {place}")
        lines.append(f"printf '#!/bin/sh\\nexec {sys.executable} \"$@\"\\n' >{place}")
        lines.append(f"chmod 755 {place}")
    return "".join(f"{line}\n" for line in lines)
