"""Preparing real machines: Pythons with stand-in torches, and a package index of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import (
    BadData,
    CloudrunError,
    DeadlineReached,
    Refused,
    Unavailable,
    WorkloadFailed,
)
from cloudrun.hosts import dialogue, remote_python
from cloudrun.hosts.base import JobEnd, Ready, Work
from cloudrun.hosts.connection import Connection, connect
from cloudrun.hosts.link import Link
from cloudrun.hosts.remote_python import prepare
from cloudrun.hosts.scripts import text
from cloudrun.hosts.ssh import SshHost, project_folder
from cloudrun.model.need import Command, Need
from tests.doubles import pythons
from tests.doubles.machines import USER, Machine, hop
from tests.doubles.pythons import Index, gpu, loaded, put, take_away, torch, use_index, venv

# Which Pythons and torches a machine has, and what its pip asks, is laid out for each test.
pytestmark = pytest.mark.needs_namespaces("the machine has Pythons of its own")

KERNEL = (
    "CUDA error: no kernel image is available for execution on the device\\n"
    "CUDA kernel errors might be asynchronously reported"
)
ENVIRONMENTS = f"/home/{USER}/.cloudrun/environments/"


@pytest.fixture(autouse=True)
def small_torches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins are small, and the disks of the machines that run the tests may be."""
    monkeypatch.setattr(remote_python, "CUDA_BYTES", 2_000_000)
    monkeypatch.setattr(remote_python, "CPU_BYTES", 1_000_000)


@pytest.fixture
def index(bridge: str, machine: Machine, tmp_path: Path) -> Iterator[Index]:
    """A package index that the machine's pip asks."""
    with pythons.index(bridge, tmp_path / "index") as served:
        use_index(machine, served.url)
        yield served


class Told(list[str]):
    """What was told, and how many programs were run for it."""

    orders = 0


def ready(
    connection: Connection,
    requirements: str | None = None,
    need_torch: bool = True,
    told: Told | None = None,
    limit_s: float = 100,
) -> Ready:
    sink = Told() if told is None else told
    asked = connection.open_script

    def count(script: str) -> object:
        sink.orders += 1
        return asked(script)

    connection.open_script = count  # type: ignore[method-assign,assignment]
    try:
        return prepare(
            connection,
            need_torch=need_torch,
            requirements=requirements,
            tell=sink.append,
            until=time.monotonic() + limit_s,
        )
    finally:
        connection.open_script = asked  # type: ignore[method-assign]


def failure(
    connection: Connection,
    kind: type[CloudrunError],
    requirements: str | None = None,
    need_torch: bool = True,
) -> CloudrunError:
    with pytest.raises(CloudrunError) as caught:
        ready(connection, requirements, need_torch)
    assert type(caught.value) is kind, caught.value
    return caught.value


def output(connection: Connection, python: str, code: str) -> str:
    done = connection.run_script(f'"{python}" -c "{code}"')
    assert done.status == 0, done.err
    return done.out.decode().strip()


def own_torch(machine: Machine, version: str = "2.9.0+cu129", fault: str = "") -> str:
    """An image's own torch; returns the path of its Python."""
    torch(machine, venv(machine, "/opt/pytorch"), version, fault)
    return "/opt/pytorch/bin/python"


def quick(machine: Machine) -> None:
    """Environments without a pip of their own, which is most of the time that they take."""
    take_away(machine, "usr/lib/python3*/ensurepip")


def leftovers(machine: Machine) -> list[str]:
    """What is in the folder of environments beside logs and locks."""
    folder = machine.home / ".cloudrun/environments"
    return [path.name for path in folder.iterdir() if path.suffix not in (".log", ".lock", ".used")]


def processes(connection: Connection) -> list[str]:
    """What runs for the user on the machine beside sshd and this very question."""
    script = (
        "for p in /proc/[0-9]*; do [ -O $p ] && [ ${p#/proc/} != $$ ] "
        '&& tr "\\0" " " <$p/cmdline 2>/dev/null && echo; done; true'
    )
    lines = connection.run_script(script).out.decode().splitlines()
    return [line for line in lines if "python" in line or "pip" in line]


# ---- a torch that is there


def test_nothing_is_asked_where_nothing_is_needed(connection: Connection) -> None:
    told = Told()
    assert ready(connection, "\n# nothing\n", need_torch=False, told=told) == Ready("", "")
    assert (told, told.orders) == ([], 0)


def test_a_torch_that_computes_is_used_and_remembered(
    machine: Machine, connection: Connection
) -> None:
    gpu(machine)
    python = own_torch(machine)
    put(machine, f"/home/{USER}/.bashrc", "echo Welcome to this machine\n")
    first, second = Told(), Told()
    assert ready(connection, told=first) == Ready(python, "2.9.0+cu129")
    assert python in first[0]
    assert ready(connection, told=second) == Ready(python, "2.9.0+cu129")
    assert (first.orders, second.orders, second) == (2, 1, [])
    assert len(loaded(machine)) == 1
    gpu(machine, "Tesla T4, 595.45.04, 7.5, 15360")
    ready(connection)
    assert len(loaded(machine)) == 2, "another driver is another question"


def test_a_torch_without_kernels_for_the_gpu_is_passed_over(
    machine: Machine, connection: Connection
) -> None:
    gpu(machine)
    own_torch(machine, fault=KERNEL)
    torch(machine, venv(machine, f"/home/{USER}/miniconda3/envs/good"), "2.5.1")
    assert ready(connection).python == f"/home/{USER}/miniconda3/envs/good/bin/python"
    assert len(loaded(machine)) == 2


def test_where_there_is_no_gpu_the_cpu_is_the_device(
    machine: Machine, connection: Connection
) -> None:
    python = own_torch(machine, "2.9.0+cpu")
    assert ready(connection) == Ready(python, "2.9.0+cpu")


def test_a_torch_for_the_users_own_site_counts(machine: Machine, connection: Connection) -> None:
    packages = f"/home/{USER}/.local/lib/{pythons.python_name()}/site-packages"
    torch(machine, packages, "2.9.0")
    assert ready(connection) == Ready("/usr/bin/python3", "2.9.0")


def test_a_gpu_that_nothing_installed_could_cure_is_told_at_once(
    machine: Machine, connection: Connection
) -> None:
    gpu(machine)
    own_torch(machine, fault="CUDA error: out of memory")
    error = failure(connection, Unavailable)
    assert "another program may be using it" in error.why
    assert "nvidia-smi" in error.try_this


def test_a_gpu_without_any_build_of_torch_is_told(machine: Machine, connection: Connection) -> None:
    gpu(machine, "Tesla K80, 470.256.02, 3.7, 11441")
    own_torch(machine, fault=KERNEL)
    error = failure(connection, Unavailable)
    assert "compute capability 3.7" in error.why
    assert "no code for this GPU's generation" in error.why


def test_a_dead_driver_is_told(machine: Machine, connection: Connection) -> None:
    said = (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running."
    )
    put(machine, "/usr/local/bin/nvidia-smi", f'#!/bin/sh\necho "{said}"\nexit 9\n')
    own_torch(machine)
    error = failure(connection, Unavailable)
    assert "installed but not loaded" in error.why
    assert "Restart the machine" in error.try_this


def test_a_machine_without_python_is_told(machine: Machine, connection: Connection) -> None:
    take_away(machine, "usr/bin/python*")
    error = failure(connection, WorkloadFailed)
    assert "There is no Python" in error.what
    assert "apt install python3" in error.try_this


def test_a_python_that_is_too_old_is_told_with_its_version(
    machine: Machine, connection: Connection
) -> None:
    take_away(machine, "usr/bin/python*")
    put(machine, "/usr/bin/python3", "#!/bin/sh\necho 3.6.9\n")
    error = failure(connection, WorkloadFailed)
    assert "too old: 3.6.9" in error.what


# ---- an environment of ours


def test_an_environment_is_made_once(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    gpu(machine)
    index.torch("2.15.0")
    index.wheel("gadget", "1.0")
    told, again = Told(), Told()
    made = ready(connection, "gadget>=1\n", told=told)
    assert made.torch == "2.15.0"
    assert made.python.startswith(ENVIRONMENTS)
    assert output(connection, made.python, "import gadget, torch; print(gadget.__version__)")
    assert any("torch with CUDA (a download of about 3 GB" in line for line in told)
    assert ready(connection, "gadget>=1\n", told=again) == made
    assert (again.orders, again) == (1, [])
    # torch lies in an environment of its own, so a changed list does not bring it again.
    index.asked.clear()
    other = ready(connection, "gadget\n")
    assert other.python != made.python
    assert not any("torch" in path for path in index.asked)
    assert ready(connection).python not in (made.python, other.python)


def test_the_scripts_of_an_environment_work(
    machine: Machine, connection: Connection, index: Index
) -> None:
    index.wheel("gadget", "1.0")
    made = ready(connection, "gadget\n", need_torch=False)
    # They hold their path: it must be one that lasts.
    assert connection.run_script(f"{made.python.removesuffix('python')}pip --version").status == 0


def test_torchs_siblings_come_from_its_own_index(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    put(machine, "/etc/resolv.conf", "nameserver 127.0.0.1\n")
    own_torch(machine)
    index.wheel("torchvision", "0.24.0")
    made = ready(connection, "torchvision\n")
    log = machine.root / f"{made.python.removesuffix('/bin/python')}.log".lstrip("/")
    assert " --extra-index-url https://download.pytorch.org/whl/cu129\n" in log.read_text()


def test_what_did_not_work_is_not_tried_again_next_to_what_did(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    gpu(machine)
    own_torch(machine, fault=KERNEL)
    index.torch("2.15.0")
    made = ready(connection)
    assert made.python.startswith(ENVIRONMENTS)
    assert len(loaded(machine)) == 2
    again = Told()
    assert ready(connection, told=again) == made
    assert again.orders == 1
    assert len(loaded(machine)) == 2
    gpu(machine, "Tesla T4, 595.45.04, 7.5, 15360")
    index.asked.clear()
    assert ready(connection) == made, "with another driver it is tried again, not made again"
    assert index.asked == []


RECORDER = """#!/bin/sh
echo "$*" >>"$HOME/uv-said"
if [ "$1" = venv ]; then shift 3; exec /usr/bin/python3 -m venv --without-pip "$1"; fi
site=$(echo "$(dirname "$(dirname "$4")")"/lib/python3*/site-packages)
cp -r /opt/torch/. "$site"
"""


@pytest.mark.parametrize(
    ("row", "arguments"),
    [
        ("", "torch --index-url https://download.pytorch.org/whl/cpu"),
        (
            "Tesla T4, 550.54.15, 7.5, 15360",
            "torch==2.14.* --index-url https://download.pytorch.org/whl/cu126",
        ),
    ],
)
def test_uv_is_told_which_torch_fits(
    machine: Machine, connection: Connection, row: str, arguments: str
) -> None:
    if row:
        gpu(machine, row)
    put(machine, "/usr/local/bin/uv", RECORDER)
    torch(machine, "/opt/torch", "2.14.1+cu126")
    made = ready(connection, "torchvision\n")
    said = (machine.home / "uv-said").read_text().splitlines()
    folder = said[0].rpartition(" ")[2]
    assert said[0] == f"venv --python /usr/bin/python3 {folder}"
    assert said[1] == f"pip install --python {folder}/bin/python {arguments}"
    url = arguments.rpartition(" ")[2]
    # The user's own come from both indexes, and torch stays as it is.
    assert said[2] == (
        f"pip install --python {folder}/bin/python -r {folder}.tmp/requirements.txt "
        f"-c {folder}.tmp/constraints.txt --extra-index-url {url} "
        "--index-strategy unsafe-best-match"
    )
    assert made.torch == "2.14.1+cu126"
    assert not (machine.root / f"{folder}.tmp").exists()


@pytest.mark.parametrize("pinned", ["torch==2.3.1", "torch ~= 2.3.0  # as in the paper"])
def test_a_torch_that_the_user_pins_is_the_one(
    machine: Machine, connection: Connection, pinned: str
) -> None:
    put(machine, "/usr/local/bin/uv", RECORDER)
    torch(machine, "/opt/torch", "2.3.1+cpu")
    ready(connection, pinned, need_torch=False)
    said = (machine.home / "uv-said").read_text().splitlines()
    which = pinned.partition("#")[0].replace(" ", "")
    assert f" {which} --index-url https://download.pytorch.org/whl/cpu" in said[1]


@pytest.mark.parametrize("below", ["a virtual environment", "the system's Python"])
def test_requirements_go_on_top_of_a_torch_that_works(
    machine: Machine, connection: Connection, index: Index, below: str
) -> None:
    quick(machine)
    gpu(machine)
    if below == "a virtual environment":
        packages = venv(machine, "/opt/pytorch")
    else:
        packages = f"/home/{USER}/.local/lib/{pythons.python_name()}/site-packages"
    torch(machine, packages, "2.9.0+cu129")
    index.torch("2.15.0")
    index.wheel("trainer", "1.0", requires=("torch>=2", "gadget"))
    index.wheel("gadget", "1.0")
    before = sorted((machine.root / packages.lstrip("/")).iterdir())
    told = Told()
    made = ready(connection, "trainer\n", told=told)
    assert made.python.startswith(ENVIRONMENTS)
    assert made.torch == "2.9.0+cu129"
    where = output(connection, made.python, "import gadget, trainer, torch; print(torch.__file__)")
    assert where == f"{packages}/torch/__init__.py"
    assert not any(path.endswith(".whl") and "torch" in path for path in index.asked)
    assert sorted((machine.root / packages.lstrip("/")).iterdir()) == before
    assert any("on top of" in line for line in told)
    again = Told()
    assert ready(connection, "trainer\n", told=again) == made
    assert again.orders == 1


def test_requirements_that_replace_torch_with_one_that_fails_are_told(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    gpu(machine)
    own_torch(machine)
    index.torch("2.3.0", fault=KERNEL)
    error = failure(connection, Unavailable, "torch==2.3.0\n")
    assert "no code for this GPU's generation" in error.why
    assert leftovers(machine) == []
    assert ready(connection).python == "/opt/pytorch/bin/python", "the image's own is untouched"


def test_a_torch_that_comes_along_unasked_is_tried_too(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    gpu(machine)
    index.torch("2.15.0", fault=KERNEL)
    index.wheel("trainer", "1.0", requires=("torch",))
    error = failure(connection, Unavailable, "trainer\n", need_torch=False)
    assert "Name torch in your requirements" in error.try_this


def test_faults_of_the_requirements_are_told(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    own_torch(machine, "2.9.0")
    error = failure(connection, BadData, "gaget\n")
    assert "has no gaget" in error.why
    assert "spelling" in error.try_this
    log = error.why.rpartition(" ")[2]
    assert log.startswith(ENVIRONMENTS)
    assert (
        "No matching distribution found for gaget" in (machine.root / log.lstrip("/")).read_text()
    )
    index.wheel("gadget", "1.0")
    index.wheel("left", "1.0", requires=("gadget<1",))
    assert "contradict" in failure(connection, BadData, "left\ngadget>=1\n").why
    index.torch("9.0")
    assert "torch==2.9.0" in failure(connection, BadData, "torch>=9\n").why
    index.source("built", "1.0", "raise SystemExit(\"command 'gcc' failed: No such file\")")
    error = failure(connection, WorkloadFailed, "built\n")
    assert "no compiler" in error.why
    assert "build-essential" in error.try_this
    assert leftovers(machine) == []


def test_no_internet_is_told(machine: Machine, connection: Connection) -> None:
    quick(machine)
    use_index(machine, "https://nowhere.invalid/simple")
    put(machine, "/etc/resolv.conf", "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
    error = failure(connection, WorkloadFailed)
    assert error.what.startswith("torch could not be installed")
    assert "no internet access" in error.why


def test_a_python_without_venv_is_told(machine: Machine, connection: Connection) -> None:
    take_away(machine, "usr/lib/python3*/ensurepip", "usr/lib/python3/dist-packages/pip*")
    error = failure(connection, WorkloadFailed)
    assert "apt install python3-venv" in error.try_this


def small_disk(machine: Machine, megabytes: int) -> None:
    """Let our folder on the machine lie on a disk of its own, that is small."""
    folder = put(machine, f"/home/{USER}/.cloudrun/disk/README", "").parent
    folder.parent.joinpath("environments").symlink_to("disk")
    enter = ["nsenter", "--target", str(machine._init()), "--mount", "--root"]
    disk = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs"]
    place = f"/home/{USER}/.cloudrun/disk"
    subprocess.run([*enter, *disk, place], check=True)
    subprocess.run([*enter, "chown", "2001", place], check=True)


def test_a_disk_too_small_is_told_before_the_download(
    machine: Machine, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_python, "CPU_BYTES", 1_500_000_000)
    small_disk(machine, 600)
    error = failure(connection, WorkloadFailed)
    assert "needs about 1.5 GB" in error.why
    assert "0.6 GB are free" in error.why
    assert leftovers(machine) == []


def test_a_disk_that_becomes_full_is_told(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    small_disk(machine, 4)
    index.wheel("large", "1.0", {"large.txt": "0" * 2**23})
    error = failure(connection, WorkloadFailed, "large\n", need_torch=False)
    assert "disk became full" in error.why
    assert leftovers(machine) == []


# ---- killed, late, two at once


def test_a_build_that_takes_too_long_is_stopped_there(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    index.open.clear()
    with pytest.raises(DeadlineReached) as caught:
        ready(connection, "gadget\n", need_torch=False, limit_s=3)
    assert "was stopped" in caught.value.why
    assert index.asked, "it was in the middle of the installation"
    assert processes(connection) == []
    assert leftovers(machine) == []


def test_a_build_whose_giver_is_gone_is_stopped_there(
    machine: Machine, connection: Connection, index: Index, tmp_path: Path
) -> None:
    quick(machine)
    index.open.clear()

    def leave(sentence: str) -> None:
        if "Installing" in sentence:
            raise KeyboardInterrupt

    with (
        connect([hop(machine)], tmp_path / "known_hosts") as other,
        pytest.raises(KeyboardInterrupt),
    ):
        until = time.monotonic() + 60
        prepare(other, need_torch=False, requirements="gadget\n", tell=leave, until=until)
    until = time.monotonic() + 20
    while processes(connection) or leftovers(machine):
        assert time.monotonic() < until, (processes(connection), leftovers(machine))


def test_what_a_killed_build_left_is_not_taken_and_taken_away(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    index.wheel("gadget", "1.0")
    made = ready(connection, "gadget\n", need_torch=False)
    assert made.torch == ""
    other = ready(connection, "gadget>=1\n", need_torch=False)
    assert other.python != made.python, "another recipe, another environment"
    link = machine.root / made.python.removesuffix("/bin/python").lstrip("/")
    half = link.with_name(f"{link.name}.0badcafe")
    (link.parent / link.readlink()).rename(half)
    link.unlink()
    assert ready(connection, "gadget\n", need_torch=False) == made
    assert not half.exists()
    # Nor is one that broke later, when its Python went.
    python = link / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/nothing")
    assert ready(connection, "gadget\n", need_torch=False) == made
    assert output(connection, made.python, "import gadget; print(1)") == "1"


def test_two_at_once_make_one_environment(
    machine: Machine, connection: Connection, index: Index, tmp_path: Path
) -> None:
    quick(machine)
    index.wheel("gadget", "1.0")
    index.open.clear()
    made: list[Ready] = []
    waits = threading.Event()

    def second(sentence: str) -> None:
        if "Another run" in sentence:
            waits.set()

    def make(connected: Connection, tell: object) -> None:
        until = time.monotonic() + 60
        made.append(
            prepare(connected, need_torch=False, requirements="gadget\n", tell=tell, until=until)  # type: ignore[arg-type]
        )

    with connect([hop(machine)], tmp_path / "known_hosts") as other:
        threads = [
            threading.Thread(target=make, args=(each, second)) for each in (connection, other)
        ]
        for thread in threads:
            thread.start()
        assert waits.wait(30)
        index.open.set()
        for thread in threads:
            thread.join(60)
    assert made[0] == made[1]
    assert len([path for path in index.asked if path.endswith(".whl")]) == 1
    assert len(leftovers(machine)) == 2, "the environment and its name"


def age(machine: Machine, made: Ready, days: float) -> Path:
    """Let it be so long ago that an environment was used; gives its place, seen from here."""
    place = machine.root / made.python.removesuffix("/bin/python").lstrip("/")
    then = time.time() - days * 86400
    os.utime(f"{place}.used", (then, then))
    return place


@pytest.mark.thorough
def test_environments_that_nothing_used_for_long_go_when_one_is_made(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    index.wheel("gadget", "1.0")
    wanted = {"old": 31, "used": 29, "busy": 31, "on a path": 31, "undated": 31}
    made = {
        name: ready(connection, f"gadget>={number / 10}\n", need_torch=False)
        for number, name in enumerate(wanted)
    }
    places = {name: age(machine, made[name], days) for name, days in wanted.items()}
    programs = made["on a path"].python.removesuffix("/python")
    channels = [
        connection.open_script(f"{made['busy'].python} -c 'print(1, flush=True); input()'"),
        connection.open_script(f'PATH={programs}:$PATH sh -c "echo 1; read _"'),
    ]
    places["undated"].with_suffix(".used").unlink()
    for channel in channels:
        assert next(connection.receive(channel, 10)) == (1, b"1\n")
    told = Told()
    ready(connection, "gadget\n", need_torch=False, told=told)
    assert [name for name, place in places.items() if not os.path.lexists(place)] == ["old"]
    assert any("Removed 1 environment that cloudrun had made there" in line for line in told)
    assert not list(places["old"].parent.glob(f"{places['old'].name}.[0-9a-f]*"))
    age(machine, made["undated"], 31)
    for channel in channels:
        connection.send(channel, b"\n")
        list(connection.receive(channel, 10))
    ready(connection, "gadget==1.0\n", need_torch=False, told=told)
    assert [name for name, place in places.items() if os.path.lexists(place)] == ["used"]
    assert any("Removed 3 environments" in line for line in told)


def test_an_environment_below_one_that_is_used_stays(
    machine: Machine, connection: Connection, index: Index
) -> None:
    quick(machine)
    gpu(machine)
    index.torch("2.15.0")
    index.wheel("gadget", "1.0")
    below, top = ready(connection), ready(connection, "gadget\n")
    age(machine, below, 31)
    age(machine, top, 29)
    ready(connection, "gadget>=1\n", need_torch=False)
    assert (
        output(connection, top.python, "import gadget, torch; print(torch.__version__)") == "2.15.0"
    )


def test_a_job_that_begins_in_an_environment_uses_it(
    machine: Machine, connection: Connection, index: Index, link: Link, tmp_path: Path
) -> None:
    quick(machine)
    index.wheel("gadget", "1.0")
    made = ready(connection, "gadget\n", need_torch=False)
    place = age(machine, made, 29)
    host = SshHost([hop(machine)], tmp_path / "known_hosts")
    need = Need(command=Command(argv=("python", "-c", "import gadget"), folder=str(tmp_path)))
    job = host.start(made, need, Work("arun", need.command.argv, 60))
    assert connection.run_script(f"mkdir -p {project_folder(need.command)}").status == 0
    assert list(job.read(time.monotonic() + 30)) == []
    assert job.end() == JobEnd(0)
    assert time.time() - Path(f"{place}.used").stat().st_mtime < 60
    host.close()


# ---- a machine that is not what it seems


SEEN = {"is": "seen", "system": "Linux", "machine": "x86_64", "python": "/usr/bin/python3"}
SEEN |= {"nvidia": None, "pythons": [], "environments": [], "folder": "/x", "uv": None}  # type: ignore[dict-item]


STRANGE = [
    ("echo 'cloudrun: {'", "truncated"),
    ("echo 'cloudrun: [1, 2]'", "Expected `object`"),
    (f"echo 'cloudrun: {json.dumps({**SEEN, 'free_bytes': -1})}'", ">= 0"),
    (f"echo 'cloudrun: {json.dumps({**SEEN, 'free_bytes': 1, 'uv': 'uv'})}'", "uv"),
    ('echo \'cloudrun: {"is": "built", "path": "/x", "torch": "2"}\'', "It said Built"),
    ("echo hello", "nothing that could be understood"),
    ("printf '\\033[2Jthe end\\n' >&2; exit 3", "status 3. ?[2Jthe end"),
    ("head -c 20000000 /dev/zero", "says more than"),
    ("yes", "says more than"),
    ("printf 'cloudrun: \\377\\n'", "malformed"),
]


def test_a_machine_that_answers_strangely_is_refused(
    machine: Machine, connection: Connection
) -> None:
    for answer, why in STRANGE:
        script = f"#!/bin/sh\ncase $1 in -c) echo 3.11.0; exit;; esac\n{answer}\n"
        put(machine, "/usr/local/bin/python3", script)
        error = failure(connection, Refused)
        assert why in error.why, answer
        assert error.why.isprintable()


@pytest.mark.parametrize("babble", ['echo \'cloudrun: {"is": "beat"}\'', "true"])
def test_a_machine_that_never_ends_is_left_in_time(
    machine: Machine, connection: Connection, babble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue, "_STOPPING_S", 0.2)
    loop = f"while :; do {babble}; sleep 0.1; done"
    script = f"#!/bin/sh\ncase $1 in -c) echo 3.11.0; exit;; esac\n{loop}\n"
    put(machine, "/usr/local/bin/python3", script)
    with pytest.raises(DeadlineReached) as caught:
        ready(connection, limit_s=0.5)
    assert "has not said that it did" in caught.value.why
    assert connection.is_alive


# ---- without a machine


def test_the_probe_computes_with_a_real_torch() -> None:
    command = [sys.executable, "-c", text("probe_torch.py"), "auto"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert json.loads(done.stdout) == {"ok": True}, done.stderr
