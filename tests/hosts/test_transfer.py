"""Folders to real machines and back: see tests/doubles/machines.py."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import (
    AccessDenied,
    BadData,
    BadSettings,
    HostUnreachable,
    Unavailable,
    WrongUsage,
)
from cloudrun.hosts import transfer
from cloudrun.hosts.archive import Limits
from cloudrun.hosts.connection import Connection, connect
from cloudrun.hosts.transfer import Pulled, Pushed, pull, push
from cloudrun.model.events import Event, Noted
from tests.doubles import machines
from tests.doubles.machines import Machine, hop, trust

THERE = "~/project"
LIMITS = Limits(2**30, 10_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project folder with one of everything."""
    folder = tmp_path / "project"
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "train.py").write_text("print('hello')\n")
    (folder / "src" / "deep" / "data.bin").write_bytes(os.urandom(100_000))
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "secret").write_text("x")
    (folder / "secret").chmod(0o600)
    (folder / "latest").symlink_to("src/deep")
    (folder / "src" / "up").symlink_to("../train.py")
    for name in ("näme 数据", "-rf", "a\nb", "it's", " ", "$HOME", "*"):
        (folder / name).write_text(name)
    (folder / os.fsdecode(b"bad\xff")).write_text("x")
    (folder / ("long" * 60)).write_text("x")
    return folder


def tree(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    """What a folder holds: kind, mode and contents of each thing."""
    found: dict[str, tuple[str, int, bytes]] = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = ("link", 0, os.readlink(os.fsencode(path)))
        elif path.is_dir():
            found[name] = ("folder", status.st_mode & 0o7777, b"")
        else:
            found[name] = ("file", status.st_mode & 0o7777, path.read_bytes())
    return found


def there(machine: Machine) -> Path:
    return machine.home / "project"


def beside(machine: Machine) -> list[str]:
    """What lies beside the folder, the states' names without their digest."""
    return sorted(
        path.name.partition(".")[0] for path in (machine.home / ".project.cloudrun").iterdir()
    )


def on(connection: Connection, script: str) -> bytes:
    done = connection.run_script(f"cd ~/project; {script}")
    assert done.status == 0, done.err
    return done.out


def test_everything_arrives_and_then_nothing_is_sent(
    connection: Connection, machine: Machine, root: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    pushed = push(connection, root, THERE, cache=cache)
    files = [entry for entry in tree(root).values() if entry[0] == "file"]
    assert pushed == Pushed(len(files), sum(len(entry[2]) for entry in files), 0)
    assert tree(there(machine)) == tree(root)
    assert beside(machine) == ["manifest", "state"]
    assert push(connection, root, THERE, cache=cache) == Pushed()
    assert push(connection, root, THERE) == Pushed()
    assert there(machine).joinpath("train.py").stat().st_uid == 2001


def test_what_changed_is_sent_and_what_went_is_removed(
    connection: Connection, machine: Machine, root: Path
) -> None:
    push(connection, root, THERE)
    untouched = there(machine).joinpath("run.sh").stat().st_ino
    (root / "train.py").write_text("print('hallo')\n")  # as long as it was
    (root / "secret").chmod(0o640)
    (root / "latest").unlink()
    (root / "latest").symlink_to("src")
    (root / "-rf").unlink()
    (root / "src" / "deep" / "data.bin").unlink()
    (root / "src" / "deep").rmdir()
    (root / "new" / "er").mkdir(parents=True)
    (root / "new" / "er" / "file").write_text("new")
    assert push(connection, root, THERE) == Pushed(2, 15 + 3, 3)
    assert tree(there(machine)) == tree(root)
    assert there(machine).joinpath("run.sh").stat().st_ino == untouched


def test_a_file_becomes_a_folder_and_the_other_way_round(
    connection: Connection, machine: Machine, root: Path
) -> None:
    push(connection, root, THERE)
    (root / "train.py").unlink()
    (root / "train.py").mkdir()
    (root / "train.py" / "inside").write_text("x")
    (root / "src" / "deep" / "data.bin").unlink()
    (root / "src" / "deep").rmdir()
    (root / "src" / "deep").write_text("flat")
    (root / "empty").rmdir()
    (root / "empty").symlink_to("src")
    (root / "src" / "up").unlink()
    (root / "src" / "up").mkdir()
    push(connection, root, THERE)
    assert tree(there(machine)) == tree(root)


def test_what_a_job_changed_is_mended_and_what_it_made_stays(
    connection: Connection, machine: Machine, root: Path
) -> None:
    push(connection, root, THERE)
    on(
        connection,
        "echo more >> run.sh; touch -r secret run.sh; rm ./-rf; chmod 777 empty; echo x > made;"
        "mv src moved; mkdir elsewhere; echo precious > elsewhere/up; ln -s elsewhere src;"
        "mkdir results; echo 1 > results/loss; rm \"it's\"; mkdir \"it's\"; echo x > \"it's/mine\"",
    )
    push(connection, root, THERE, leave_out=["results"])
    assert tree(root).items() <= tree(there(machine)).items()
    assert (there(machine) / "made").read_text() == "x\n"
    assert (there(machine) / "elsewhere" / "up").read_text() == "precious\n"
    assert (there(machine) / "results" / "loss").read_text() == "1\n"
    (aside,) = there(machine).glob("it's.aside-*")
    assert (aside / "mine").read_text() == "x\n"
    assert push(connection, root, THERE, leave_out=["results"]) == Pushed()


def test_nothing_is_removed_through_a_link_that_a_job_made(
    connection: Connection, machine: Machine, root: Path
) -> None:
    push(connection, root, THERE)
    on(connection, "mv src/deep ~/kept; ln -s ~/kept src/deep")
    (root / "src" / "deep" / "data.bin").unlink()
    (root / "src" / "deep").rmdir()
    push(connection, root, THERE)
    assert (machine.home / "kept" / "data.bin").exists()
    assert not os.path.lexists(there(machine) / "src" / "deep")


def test_a_folder_that_is_gone_on_the_machine_is_sent_again(
    connection: Connection, machine: Machine, root: Path
) -> None:
    push(connection, root, THERE)
    assert connection.run_script("rm -rf ~/project").status == 0
    push(connection, root, THERE)
    assert tree(there(machine)) == tree(root)


def test_a_folder_that_others_have_filled_keeps_what_is_theirs(
    connection: Connection, machine: Machine, root: Path
) -> None:
    connection.run_script("mkdir -p ~/project/src; echo x > ~/project/src/theirs")
    push(connection, root, THERE)
    assert tree(root).items() <= tree(there(machine)).items()
    assert (there(machine) / "src" / "theirs").exists()


def test_an_absolute_folder_with_an_odd_name_and_an_empty_one(
    connection: Connection, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    name = f"{machine.home.relative_to(machine.home.parents[1])}/it's $(touch oops) 数"
    push(connection, tmp_path / "nothing", f"/{name}/deeper")
    assert (machine.home / "it's $(touch oops) 数" / "deeper").is_dir()
    assert not (machine.home / "oops").exists()
    for wrong in ("project", "~", "/", "~/", ""):
        with pytest.raises(WrongUsage, match="no folder on a machine"):
            push(connection, tmp_path / "nothing", wrong)


def test_two_thousand_small_files(
    connection: Connection, machine: Machine, tmp_path: Path
) -> None:
    root = tmp_path / "many"
    for number in range(2000):
        path = root / f"d{number % 40}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    cache = tmp_path / "cache"
    assert push(connection, root, THERE, cache=cache).files == 2000
    assert tree(there(machine)) == tree(root)
    for path in root.rglob("*.txt"):
        path.write_text("x" + path.read_text())
    assert push(connection, root, THERE, cache=cache).files == 2000
    assert tree(there(machine)) == tree(root)


def test_a_slow_link_is_compressed_for(
    connection: Connection, machine: Machine, root: Path, tmp_path: Path
) -> None:
    connection.round_trip_s = 0.05
    (root / "zeros").write_bytes(bytes(2**24))
    before = connection.transport.packetizer._Packetizer__sent_bytes  # type: ignore[attr-defined]
    push(connection, root, THERE)
    sent = connection.transport.packetizer._Packetizer__sent_bytes - before  # type: ignore[attr-defined]
    assert sent < 2**20
    assert tree(there(machine)) == tree(root)
    pull(connection, THERE, tmp_path / "back", marker="~/marker", limits=LIMITS)
    assert (tmp_path / "back" / "zeros").stat().st_size == 2**24
