"""A simulated AWS whose instances are real machines in network namespaces.

Each reads its user data as cloud-init would, but strictly: what it does not know
fails the test.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import yaml
from botocore.config import Config

from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.wire import Refused
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


class BadBoot(Exception):
    """A machine did not start, or has user data that cloud-init, or this double, does not take."""


class Rack:
    """Gives instances machines. `boot_s` is how long their sshd takes to come up after bootcmd."""

    def __init__(self, bridge: str, folder: Path) -> None:
        self.bridge, self.folder = bridge, folder
        self.boot_s: float = 0
        self.cloud: Cloud | None = None
        self.failures: list[str] = []
        self._machines: dict[str, Machine] = {}
        self._started: dict[str, threading.Event] = {}
        self._stopped: set[str] = set()
        self._threads: list[threading.Thread] = []
        # The lower ones are the other doubles' machines.
        self._numbers = itertools.count(20)

    def start(
        self, instance_id: str, user_data: bytes, *, region: str, instance_type: str, image: str
    ) -> str:
        """Begin to start a machine; returns its address."""
        folder, number = self.folder / instance_id, next(self._numbers)
        try:
            _sow(folder / "seed", user_data, image, self.boot_s)
        except BadBoot as error:
            self.failures.append(f"{instance_id}: {error}")
            raise Refused("InvalidUserData", f"cloud-init would not take it: {error}") from error
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
        """Wait for the machines to be gone."""
        for thread in self._threads:
            thread.join(30)

    def _live(self, instance_id: str, number: int, folder: Path) -> None:
        try:
            self._be(instance_id, number, folder)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            self.failures.append(f"{instance_id}: {error!r}")
            # So that who launched it does not wait for it.
            assert self.cloud is not None
            self.cloud.fail(instance_id)
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


class RackedCloud(Cloud):
    """The simulated AWS, and the rack that has its machines."""

    def __init__(self, rack: Rack) -> None:
        super().__init__(machines=rack)
        self.rack = rack
        rack.cloud = self


@contextlib.contextmanager
def cloud(bridge: str, folder: Path) -> Iterator[RackedCloud]:
    """A simulated AWS with machines on the bridge; raises at the end what went wrong in a boot."""
    rack = Rack(bridge, folder)
    with RackedCloud(rack) as started:
        yield started
    rack.join()
    if rack.failures:
        raise BadBoot("; ".join(rack.failures))


def client(cloud: Cloud, service: str, region: str = "us-east-1", **config: Any) -> Any:
    """boto3's own client of the cloud, that tries once only if `config` does not say otherwise."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=cloud.url,
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="none",  # noqa: S106
        config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
    )


def _sow(seed: Path, user_data: bytes, image: str, boot_s: float) -> None:
    """Lay out what the machine finds when it boots."""
    config = _read(user_data)
    seed.mkdir(parents=True)
    for name, script in (("init", "instance.sh"), ("power", "power.sh"), ("sudo", "sudo.sh")):
        shutil.copy(_HERE / script, seed / name)
        (seed / name).chmod(0o755)
    (seed / "bootcmd").write_text(_pythons(image) + _shell(config.get("bootcmd", [])))
    (seed / "runcmd").write_text(_shell(config.get("runcmd", [])))
    (seed / "write_files").write_text("".join(map(_file, config.get("write_files", []))))
    (seed / "authorized_keys").write_text("".join(f"{key}\n" for key in _keys(config)))
    (seed / "delay").write_text(str(boot_s))
    _host_key(seed / "host_key", config.get("ssh_keys", {}))


def _read(user_data: bytes) -> dict[str, Any]:
    """https://docs.cloud-init.io/en/latest/explanation/about-cloud-config.html."""
    text = user_data.decode()
    if text.split("\n", 1)[0].rstrip() != "#cloud-config":
        raise BadBoot(f"it must begin with #cloud-config, not with {text[:20]!r}")
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadBoot(str(error)) from error
    if not isinstance(config, dict):
        raise BadBoot("it must be a mapping")
    for key, value in config.items():
        if key not in _KNOWN:
            raise BadBoot(f"this double knows no {key}")
        if not isinstance(value, _KNOWN[key]):
            raise BadBoot(f"{key} must be a {_KNOWN[key].__name__}")
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
            raise BadBoot(f"a command must be text or a list of texts, not {each!r}")
    return "".join(f"{line}\n" for line in lines)


def _file(spec: dict[str, Any]) -> str:
    """https://docs.cloud-init.io/en/latest/reference/modules.html#write-files."""
    if unknown := set(spec) - _FILE_KEYS:
        raise BadBoot(f"write_files: this double knows no {min(unknown)}")
    if spec.get("encoding", "text/plain") not in ("b64", "base64", "text/plain"):
        raise BadBoot(f"write_files: this double knows no encoding {spec['encoding']}")
    content = str(spec.get("content", "")).encode()
    if spec.get("encoding", "text/plain") != "text/plain":
        content = base64.b64decode(content, validate=True)
    permissions = spec.get("permissions", "0644")
    if not isinstance(permissions, str):
        raise BadBoot("write_files: permissions must be text, such as '0644'")
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
                raise BadBoot(f"users: this double has {USER} only, not {user!r}")
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
        raise BadBoot(f"ssh_keys: this double takes ed25519 keys only, not {sorted(keys)}")
    path.write_text(keys["ed25519_private"])
    path.chmod(0o600)
    path.with_suffix(".pub").write_text(keys["ed25519_public"].strip() + "\n")
    told = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True)
    if told.stdout.split()[:2] != keys["ed25519_public"].split()[:2]:
        raise BadBoot(f"ssh_keys: the two do not belong together: {told.stderr}")


def _pythons(image: str) -> str:
    """What an image brings: Ubuntu's Python, and in PyTorch's images the one with torch.

    Both are the Python that runs the tests.
    """
    places = ["/usr/local/bin/python3"]
    if "PyTorch" in image:
        places.append("/opt/pytorch/bin/python")
    lines = []
    for place in places:
        lines.append(f"mkdir -p {Path(place).parent}; rm -f {place}")
        lines.append(f"printf '#!/bin/sh\\nexec {sys.executable} \"$@\"\\n' >{place}")
        lines.append(f"chmod 755 {place}")
    return "".join(f"{line}\n" for line in lines)
