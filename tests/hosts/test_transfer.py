"""Folders to real machines and back: see tests/doubles/machines.py."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
from cloudrun.hosts.archive import Limits, Writer
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
    assert there(machine).joinpath("train.py").stat().st_uid == machine.home.stat().st_uid


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
        "touch -r train.py ref; printf PRINT | dd conv=notrunc of=train.py; touch -r ref train.py;"
        "mv src moved; mkdir elsewhere; echo precious > elsewhere/up; ln -s elsewhere src;"
        'mkdir results; echo 1 > results/loss; rm "it\'s"; mkdir "it\'s"; echo x > "it\'s/mine"',
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
    (root / "flat").mkdir()
    (root / "flat" / "file").write_text("x")
    push(connection, root, THERE)
    on(connection, "rm -r flat; echo theirs > flat")
    (root / "flat" / "file").unlink()
    (root / "flat").rmdir()
    push(connection, root, THERE)
    assert (there(machine) / "flat").read_text() == "theirs\n"
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
    name = f"{machine.own_home}/it's $(touch oops) 数"
    push(connection, tmp_path / "nothing", f"{name}/deeper")
    assert (machine.home / "it's $(touch oops) 数" / "deeper").is_dir()
    assert not (machine.home / "oops").exists()
    for wrong in ("project", "~", "/", "~/", ""):
        with pytest.raises(WrongUsage, match="no folder on a machine"):
            push(connection, tmp_path / "nothing", wrong)


def test_two_thousand_small_files(connection: Connection, machine: Machine, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("shrinks", [True, False])
def test_only_what_shrinks_is_compressed(
    connection: Connection,
    machine: Machine,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shrinks: bool,
) -> None:
    seen = []

    def spy(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            seen.append(named.get("packed", arguments[-1]))
            return function(*arguments, **named)

        return call

    monkeypatch.setattr(transfer, "Writer", spy(Writer))
    monkeypatch.setattr(transfer, "extract", spy(transfer.extract))
    connection.round_trip_s = 0.05
    (root / "much").write_bytes(bytes(2**22) if shrinks else os.urandom(2**22))
    push(connection, root, THERE)
    pull(connection, THERE, tmp_path / "back", marker="~/marker", limits=LIMITS)
    assert seen == [shrinks, shrinks]
    assert (tmp_path / "back" / "much").read_bytes() == (root / "much").read_bytes()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead link is noticed, and a lock taken over, in a second or two."""
    monkeypatch.setattr("cloudrun.hosts.dial.DEAD_S", 2)
    monkeypatch.setattr("cloudrun.hosts.dial.KEEPALIVE_S", 1)
    monkeypatch.setattr(transfer, "PATIENCE_S", 1)


@pytest.fixture
def another(machine: Machine, quick: None, tmp_path: Path) -> Iterator[Connection]:
    """A second connection."""
    known = tmp_path / "known_too"
    trust(machine, known)
    with connect([hop(machine)], known) as connected:
        yield connected


def at_megabyte(number: int, act: Callable[[], object]) -> Callable[[int], None]:
    """A listener to progress that acts once, when so much has gone."""
    gone = [0]

    def progress(count: int) -> None:
        before, gone[0] = gone[0], gone[0] + count
        if before < number * 2**20 <= gone[0]:
            act()

    return progress


@pytest.mark.parametrize(
    "end",
    [pytest.param("link", marks=pytest.mark.needs_namespaces("its network is cut")), "client"],
)
def test_a_push_that_is_cut_changes_nothing_and_the_next_mends(
    connection: Connection, another: Connection, machine: Machine, root: Path, end: str
) -> None:
    push(connection, root, THERE)
    before = tree(there(machine))
    (root / "big").write_bytes(os.urandom(2**24))
    (root / "train.py").write_text("new")
    (root / "secret").unlink()
    act = machine.cut if end == "link" else another.transport.close
    with pytest.raises(HostUnreachable, match="lost"):
        push(another, root, THERE, progress=at_megabyte(8, act))
    assert tree(there(machine)) == before
    if end == "link":
        machine.mend()
    push(connection, root, THERE)
    assert tree(there(machine)) == tree(root)
    assert beside(machine) == ["manifest", "state"]


@pytest.mark.needs_namespaces("it is switched off")
def test_a_machine_that_is_switched_off_in_a_push_is_told(
    connection: Connection, machine: Machine, root: Path
) -> None:
    (root / "big").write_bytes(bytes(2**24))
    with pytest.raises(HostUnreachable, match="lost"):
        push(connection, root, THERE, progress=at_megabyte(4, machine.power_off))


@pytest.mark.needs_namespaces("all processes of its user are killed")
def test_a_machine_that_dies_while_things_are_moved_is_mended(
    connection: Connection, another: Connection, machine: Machine, root: Path
) -> None:
    push(connection, root, THERE)
    (root / "passing").write_text("x")
    (root / "more").mkdir()
    (root / "more" / "file").write_text("x")
    (root / "train.py").write_text("a new one")
    (root / "src" / "added").write_text("x")
    # A tool that takes all of the user's processes with it when the files are to be moved.
    fake = machine.root / "usr/local/bin/mv"
    fake.write_text(
        '#!/bin/sh\nmv() { /usr/bin/mv "$@"; }\nmv "$@"\n'
        'case "$*" in *./passing*) kill -9 -1 ;; esac\n'
    )
    fake.chmod(0o755)
    with pytest.raises(HostUnreachable):
        push(another, root, THERE)
    fake.unlink()
    assert (there(machine) / "passing").exists()
    assert not (there(machine) / "src" / "added").exists()
    assert "coming" in beside(machine)
    (root / "passing").unlink()
    (root / "train.py").write_text("print('hello')\n")
    trust(machine, root.parent / "known")
    with connect([hop(machine)], root.parent / "known") as connected:
        push(connected, root, THERE)
    assert tree(there(machine)) == tree(root)
    assert beside(machine) == ["manifest", "state"]


def small_disk(machine: Machine, megabytes: int) -> None:
    """Mount a small disk at ~/small on the machine."""
    folder = machine.home / "small"
    folder.mkdir()
    into = ["nsenter", f"--target={machine._init()}", "--mount", "--root"]
    options = f"size={megabytes}m,uid=2001,gid=2001"
    mount = ["mount", "-t", "tmpfs", "-o", options, "small", "/home/ubuntu/small"]
    subprocess.run([*into, *mount], check=True)


@pytest.mark.needs_namespaces("its disk is filled")
@pytest.mark.parametrize("many", [True, False])
def test_a_full_disk_leaves_the_folder_as_it_was(
    connection: Connection, machine: Machine, tmp_path: Path, many: bool
) -> None:
    small_disk(machine, 4)
    root = tmp_path / "root"
    root.mkdir()
    (root / "kept").write_text("old")
    push(connection, root, "~/small/project")
    (root / "kept").write_text("new")
    if many:
        # Their sizes tell nothing; each takes a page of memory.
        for number in range(1500):
            (root / str(number)).write_text("x")
    else:
        (root / "big").write_bytes(os.urandom(2**23))
    words = r"disk of ubuntu@.* is full.*to go there\. .*as it was.*Make room"
    if not many:
        words = words.replace("there", r"there, \d MiB are free")
    with pytest.raises(Unavailable, match=words):
        push(connection, root, "~/small/project")
    assert tree(machine.home / "small" / "project") == {"kept": ("file", 0o644, b"old")}
    assert not list((machine.home / "small" / ".project.cloudrun").glob("new.*"))
    assert not os.path.lexists(machine.home / "small" / ".project.cloudrun" / "lock")
    for path in root.iterdir():
        if path.name != "kept":
            path.unlink()
    push(connection, root, "~/small/project")
    assert (machine.home / "small" / "project" / "kept").read_text() == "new"


@pytest.mark.needs_namespaces("it has a small disk of its own")
def test_a_folder_that_cannot_be_written_or_is_a_disks_own_is_told(
    connection: Connection, machine: Machine, root: Path
) -> None:
    with pytest.raises(AccessDenied, match="cannot be written to"):
        push(connection, root, "/etc/project")
    small_disk(machine, 4)
    with pytest.raises(BadSettings, match="where a disk begins"):
        push(connection, root, "~/small")
    with pytest.raises(BadSettings, match="no folder"):
        push(connection, root / "missing", THERE)


def test_an_archive_without_its_end_changes_nothing(
    connection: Connection, machine: Machine, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(connection, root, THERE)
    before = tree(there(machine))
    add = Writer.add_bytes
    monkeypatch.setattr(
        Writer,
        "add_bytes",
        lambda writer, name, data: None if name == "manifest" else add(writer, name, data),
    )
    (root / "train.py").write_text("new")
    with pytest.raises(Unavailable, match="its end is missing"):
        push(connection, root, THERE)
    assert tree(there(machine)) == before


def test_a_rekey_of_the_servers_in_a_large_transfer(bridge: str | None, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(2**20) * 96)
    with machines.machine(bridge, 14, tmp_path / "m", "RekeyLimit 16M\n") as machine:
        trust(machine, tmp_path / "known")
        with connect([hop(machine)], tmp_path / "known") as connected:
            push(connected, root, THERE)
            assert tree(there(machine)) == tree(root)
            pull(connected, THERE, tmp_path / "back", marker="~/marker", limits=LIMITS)
            assert tree(tmp_path / "back") == tree(root)


LIVE = "mkdir -p ~/.project.cloudrun; cd ~/.project.cloudrun; ln -s $(uname -n):$$ lock; echo up;"


def test_a_push_beside_another_is_refused(
    connection: Connection, another: Connection, root: Path
) -> None:
    channel = connection.open_script(
        LIVE + "while :; do echo $$ >> file; head -c 100000 /dev/zero >> grows; sleep 0.05; done"
    )
    assert next(iter(connection.receive(channel, 5))) == (1, b"up\n")
    with pytest.raises(Unavailable, match="under way.*at work there"):
        push(another, root, THERE)


@pytest.mark.parametrize("owner", ["dead", "stuck"])
def test_a_lock_is_not_held_for_ever(
    connection: Connection, another: Connection, machine: Machine, root: Path, owner: str
) -> None:
    channel = connection.open_script(LIVE + ("exit" if owner == "dead" else "cat"))
    assert next(iter(connection.receive(channel, 5))) == (1, b"up\n")
    if owner == "dead":
        list(connection.receive(channel, 5))
    began = time.monotonic()
    push(another, root, THERE)
    took = time.monotonic() - began
    assert took < 0.9 if owner == "dead" else took > 0.9
    assert tree(there(machine)) == tree(root)


def test_of_two_pushes_at_once_none_is_mixed_into_the_other(
    connection: Connection, another: Connection, machine: Machine, tmp_path: Path
) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    for folder in roots:
        for number in range(50):
            path = folder / f"d{number % 7}" / (folder.name * (number % 2) + str(number))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(folder.name * 1000)
    errors: list[Exception] = []

    def work(which: Connection, folder: Path) -> None:
        for number in range(5):
            (folder / "counter").write_text(f"{folder.name}{number}")
            try:
                push(which, folder, THERE)
            except Unavailable as error:
                errors.append(error)

    threads = [
        threading.Thread(target=work, args=pair)
        for pair in zip((connection, another), roots, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tree(there(machine)) in [tree(folder) for folder in roots]
    assert [str(error) for error in errors if "all the time" not in str(error)] == []


def test_a_file_that_changes_while_it_is_sent_is_told_and_sent_again(
    connection: Connection, machine: Machine, root: Path
) -> None:
    (root / "big").write_bytes(bytes(2**22))
    said: list[Event] = []

    def shrink() -> None:
        os.truncate(root / "big", 2**21)

    push(connection, root, THERE, listener=said.append, progress=at_megabyte(2, shrink))
    assert any(isinstance(event, Noted) and "big changed" in event.text for event in said)
    push(connection, root, THERE)
    assert tree(there(machine)) == tree(root)


def test_results_are_pulled_once_and_again_when_they_change(
    connection: Connection, machine: Machine, tmp_path: Path
) -> None:
    back = tmp_path / "back"

    def pulled() -> Pulled:
        return pull(connection, THERE, back, marker="~/.marks/1", limits=LIMITS)

    assert pulled() == Pulled()
    connection.run_script(
        "mkdir -p ~/project/sub/empty; cd ~/project; echo 1 > loss; ln loss sub/same;"
        "echo x > ./-x; ln -s loss link; ln -s /etc/passwd out; mkfifo pipe;"
        "printf x > 'a\nb'; chmod 700 loss;"
        "printf x > \"$(printf 'bad\\377')\""
    )
    first = pulled()
    assert (first.files, first.bytes) == (5, 8)
    assert first.notes == ["out leads out of its folder, to /etc/passwd: left out."]
    assert (back / "sub" / "same").read_text() == "1\n"
    assert (back / "loss").stat().st_mode & 0o777 == 0o700
    assert (back / "link").readlink() == Path("loss")
    assert (back / "sub" / "empty").is_dir()
    assert not (back / "pipe").exists()
    assert pulled() == Pulled()
    connection.run_script("cd ~/project; echo 2 > next; mv next loss; touch -d 1990-01-01 loss")
    # The other name of the old file counts one link less, which changes it too.
    assert pulled().files == 2
    assert (back / "loss").read_text() == "2\n"
    assert [path.name for path in (machine.home / ".marks").iterdir()] == ["1"]


def test_what_was_removed_here_comes_again(
    connection: Connection, machine: Machine, tmp_path: Path
) -> None:
    back = tmp_path / "back"
    on(connection, "mkdir ~/project; echo 1 > ~/project/model")
    for _ in range(2):
        assert pull(connection, THERE, back, marker="~/mark", limits=LIMITS).files == 1
        assert pull(connection, THERE, back, marker="~/mark", limits=LIMITS).files == 0
        (back / "model").unlink()


def test_a_pull_that_fails_brings_the_same_again(
    connection: Connection, another: Connection, machine: Machine, tmp_path: Path
) -> None:
    back = tmp_path / "back"
    connection.run_script("mkdir ~/project; cd ~/project; head -c 3000000 /dev/urandom > a")
    with pytest.raises(BadData, match="more than 2999999 bytes"):
        pull(another, THERE, back, marker="~/mark", limits=Limits(2_999_999, 10))
    assert list(back.iterdir()) == []
    assert not (machine.home / "mark").exists()
    assert pull(connection, THERE, back, marker="~/mark", limits=LIMITS).files == 1
    assert not list(machine.home.glob("mark.*"))


def test_what_the_machine_cannot_read_is_told(
    connection: Connection, machine: Machine, tmp_path: Path
) -> None:
    if machine.user == "root":
        pytest.skip("needs namespaces: root can read everything")
    connection.run_script("mkdir ~/project; cd ~/project; echo 1 > a; echo 2 > b; chmod 0 a")
    done = pull(connection, THERE, tmp_path / "b", marker="~/m", limits=LIMITS, leave_out=["c"])
    assert done.files == 1
    assert any("./a" in note and "Permission denied" in note for note in done.notes)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_other_shells_and_tools_without_gnus_words_serve_too(
    connection: Connection, machine: Machine, root: Path, tmp_path: Path, shell: str
) -> None:
    system = machine.root
    (system / "usr/local/bin/find").write_text(
        '#!/bin/sh\ncase "$*" in *-printf*) exit 1 ;; esac\nexec /usr/bin/find "$@"\n'
    )
    (system / "usr/local/bin/find").chmod(0o755)
    (system / "usr/local/bin/sh").symlink_to(f"/usr/bin/{shell}")
    first = push(connection, root, THERE)
    on(connection, "echo more >> train.py; rm run.sh; echo mine > made")
    (root / "secret").unlink()
    assert push(connection, root, THERE) == Pushed(first.files - 1, first.bytes - 1, 1)
    assert set(tree(there(machine))) - set(tree(root)) == {"made"}
    assert tree(root).items() <= tree(there(machine)).items()
    for _ in range(2):
        done = pull(connection, THERE, tmp_path / "back", marker="~/mark", limits=LIMITS)
        assert done.files == first.files
    assert tree(root).keys() <= tree(tmp_path / "back").keys()
