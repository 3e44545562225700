"""Files there and back: what each tool does, and what cloudrun promises for it."""

from __future__ import annotations

import filecmp
import os
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from over_ssh.measure import MEMORY, OURS, SECONDS, Case, Failed, Figures, Limit, Row, only, process
from over_ssh.server import ALIAS, WARM, Lab
from over_ssh.works import FLAT, PROGRAMS, remove

_FILES, _FILE = 200, 100_000
_BIG, _SMALL = 512 * 2**20, 2**20
# What rsync is for is nearly nothing to send; tar is there to see what everything takes.
_AGAIN = [Limit("rsync", 1.0), Limit("rsync, warm", 1.3)]


def first_push(lab: Lab) -> Row:
    """200 files of 20 MB in all, to a machine that has none of them."""
    cases = _pushes(lab, "first", lambda _folder, there: _forget(lab, there))
    return Row("200 files, 20 MB, first push", cases, [Limit("tar | ssh", 1.2)])


def nothing_changed(lab: Lab) -> Row:
    """The same again; the round that does not count was the first push."""
    cases = _pushes(lab, "again", lambda _folder, _there: None)
    return Row("the same again, nothing changed", cases, _AGAIN)


def one_changed(lab: Lab) -> Row:
    """The same again after one file got other contents of the same size."""

    def change(folder: Path, _there: Path) -> None:
        (folder / "part3" / "file3.bin").write_bytes(os.urandom(_FILE))

    return Row("the same again, one file changed", _pushes(lab, "one", change), _AGAIN)


def up(lab: Lab) -> Row:
    """512 MB in one file to the machine."""
    folder, small = _one_file(lab.here / "big", _BIG), _one_file(lab.here / "small", _SMALL)

    def case(tool: str, command: list[str], source: Path, there: Path, *figures: str) -> Case:
        return Case(
            tool,
            partial(_figures, command, lab, *figures),
            partial(_forget, lab, there),
            partial(_check_same, source, there),
        )

    ours, theirs, little = (lab.home / name for name in ("big-ours", "big-scp", "small-ours"))
    return Row(
        "512 MB in one file, there",
        [
            case(OURS, _ours("push", folder, ours.name), folder, ours, SECONDS, MEMORY),
            case("scp", _scp(lab, f"{folder}", f"{ALIAS}:{theirs}"), folder, theirs, SECONDS),
            case("cloudrun, 1 MB", _ours("push", small, little.name), small, little, MEMORY),
        ],
        [Limit("scp", 1.1), Limit("cloudrun, 1 MB", FLAT, MEMORY)],
    )


def down(lab: Lab) -> Row:
    """512 MB in one file back."""
    big, small = _one_file(lab.home / "big", _BIG), _one_file(lab.home / "small", _SMALL)

    def case(tool: str, command: list[str], source: Path, here: Path, *figures: str) -> Case:
        # What remembers on the machine what has been pulled already.
        marker = lab.home / f"{source.name}.pulled"
        return Case(
            tool,
            partial(_figures, command, lab, *figures),
            partial(remove, here, marker),
            partial(_check_same, source, here),
        )

    ours, theirs, little = (lab.here / name for name in ("big-ours", "big-scp", "small-ours"))
    return Row(
        "512 MB in one file, back",
        [
            case(OURS, _ours("pull", big.name, ours), big, ours, SECONDS, MEMORY),
            case("scp", _scp(lab, f"{ALIAS}:{big}", f"{theirs}"), big, theirs, SECONDS),
            case("cloudrun, 1 MB", _ours("pull", small.name, little), small, little, MEMORY),
        ],
        [Limit("scp", 1.1), Limit("cloudrun, 1 MB", FLAT, MEMORY)],
    )


def _pushes(lab: Lab, name: str, before: Callable[[Path, Path], None]) -> list[Case]:
    """The tools that push a folder, each with a folder of its own on both sides."""
    commands: dict[str, Callable[[Path, Path], list[str]]] = {
        OURS: lambda folder, there: _ours("push", folder, there.name),
        "tar | ssh": partial(_tar, lab),
        "rsync": partial(_rsync, lab, ALIAS),
        "rsync, warm": partial(_rsync, lab, WARM),
    }
    cases = []
    for number, (tool, command) in enumerate(commands.items()):
        folder, there = lab.here / f"{name}-{number}", lab.home / f"{name}-{number}"
        _many_files(folder)
        cases.append(
            Case(
                tool,
                partial(_figures, command(folder, there), lab, SECONDS),
                partial(before, folder, there),
                partial(_check_same, folder, there),
            )
        )
    return cases


def _ours(*words: str | Path) -> list[str]:
    """The one place that moves files by cloudrun: its host layer, in a process of its own."""
    return [sys.executable, str(PROGRAMS / "with_cloudrun.py"), *map(str, words)]


def _tar(lab: Lab, folder: Path, there: Path) -> list[str]:
    work = f"mkdir -p {there} && tar -xf - -C {there}"
    return ["sh", "-c", f"tar -cf - -C {folder} . | ssh -F {lab.config} {ALIAS} '{work}'"]


def _rsync(lab: Lab, host: str, folder: Path, there: Path) -> list[str]:
    return ["rsync", "-a", "-e", f"ssh -F {lab.config}", f"{folder}/", f"{host}:{there}/"]


def _scp(lab: Lab, source: str, target: str) -> list[str]:
    return ["scp", "-q", "-r", "-F", str(lab.config), source, target]


def _figures(command: list[str], lab: Lab, *figures: str) -> Figures:
    return only(process(command, lab.env), *figures)


def _forget(lab: Lab, there: Path) -> None:
    """Remove a folder that was pushed, and what cloudrun remembers of it there and here."""
    digests = Path(lab.env["CLOUDRUN_HOME"]) / "state" / "digests" / there.name
    remove(there, there.with_name(f".{there.name}.cloudrun"), digests)


def _many_files(folder: Path) -> None:
    """Files such as projects have: one half can be compressed well, the other not at all."""
    chance = random.Random(0)  # noqa: S311 - the same files each time
    for number in range(_FILES):
        part = folder / f"part{number % 10}"
        part.mkdir(parents=True, exist_ok=True)
        line = f"def function_{number}(argument):\n    return argument + {number}\n".encode()
        text = line * (_FILE // 2 // len(line) + 1)
        contents = text[: _FILE // 2] + chance.randbytes(_FILE // 2)
        (part / f"file{number}.bin").write_bytes(contents)


def _one_file(folder: Path, size: int) -> Path:
    """A folder with one file, which cannot be compressed."""
    folder.mkdir()
    with (folder / "file.bin").open("wb") as file:
        for _ in range(size // 2**20):
            file.write(os.urandom(2**20))
    return folder


def _check_same(one: Path, other: Path) -> None:
    """Whether two folders hold the same files with the same contents."""
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    found = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    if names != found or not all(
        filecmp.cmp(one / name, other / name, shallow=False) for name in names
    ):
        raise Failed("what came is not what was sent")
