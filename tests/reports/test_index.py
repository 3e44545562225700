from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.errors import BadData
from cloudrun.reports import index
from cloudrun.reports.folder import Folder
from cloudrun.reports.store import Store, open_store
from tests.doubles.reports import document, report


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "reports"))
    store.add(report(id="old", created="2026-10-30T07:00:00.000Z"))
    store.add(report(id="new", created="2026-11-24T09:00:00.000Z"))
    return store


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the objects that were read, in order."""
    paths: list[str] = []
    get = Folder.get

    def noted(place: Folder, path: str) -> bytes:
        paths.append(path)
        return get(place, path)

    monkeypatch.setattr(Folder, "get", noted)
    return paths


def told(store: Store) -> list[object]:
    """What the list says of each: its id, or what is wrong with it."""
    return [
        fact.what if isinstance(fact, BadData) else fact["report"]
        for _, fact in store.facts(store.entries())
    ]


def test_a_report_is_read_once_for_the_list_and_the_slim_one(store: Store, read: list[str]) -> None:
    assert told(store) == told(store) == ["new", "old"]
    slim = [found for _, found in store.slim(store.entries())]
    assert len(read) == 2
    assert isinstance(slim[0], type(report()))
    assert slim[0].checks == report().checks
    assert slim[0].measurements[0].value == 0.2
    assert slim[0].measurements[0].samples == ()


def test_one_that_is_changed_in_place_is_read_again(store: Store, read: list[str]) -> None:
    told(store)
    path = store.place.location / store.find("new").path
    path.write_bytes(path.read_bytes()[:300])
    assert "damaged" in str(told(store)[0])
    read.clear()
    assert "damaged" in str(told(store)[0])
    assert read == []


def test_one_that_could_not_be_read_is_tried_again(store: Store, read: list[str]) -> None:
    entry = store.find("new")
    path = store.place.location / entry.path
    aside = path.rename(path.with_suffix(".aside"))
    assert [type(found) for _, found in store.slim([entry])] == [BadData]
    aside.rename(path)
    assert [type(found) for _, found in store.slim([entry])] != [BadData]


def test_one_that_is_far_too_large_is_not_read(store: Store, read: list[str]) -> None:
    with (store.place.location / "huge.json").open("wb") as file:
        file.truncate(2**40)
    assert "1048576 MiB" in str(told(store)[2])
    assert "huge.json" not in read


@pytest.mark.parametrize("damage", ["noise", "header", "page", "foreign", "folder", "alien tables"])
def test_an_index_that_cannot_be_used_harms_nothing(store: Store, damage: str) -> None:
    expected = told(store)
    path = index.path_of(store.url)
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "foreign":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE facts (something)")
    elif damage == "alien tables":
        path.write_bytes(whole)
        with sqlite3.connect(path) as db:
            db.execute("DROP TABLE slim")
            db.execute("UPDATE facts SET data = 'text'")
    else:
        noise = {"noise": (0, len(whole)), "header": (16, 100), "page": (4096, len(whole))}[damage]
        path.write_bytes(whole[: noise[0]] + os.urandom(noise[1] - noise[0]) + whole[noise[1] :])
    for _ in range(2):
        assert told(store) == expected
        assert [found.id for _, found in store.slim(store.entries())] == expected
    if damage not in ("folder", "alien tables"):
        with index.opened(store.url) as mended:
            assert len(mended.get("slim", list(store.entries()))) == 2


def test_an_index_of_another_version_is_made_anew(
    store: Store, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (store.place.location / "future.json").write_text(json.dumps(document(schema="new")))
    told(store)
    read.clear()
    monkeypatch.setattr(index, "_VERSION", 7)
    told(store)
    assert len(read) == 3


def test_an_index_that_another_process_holds_is_gone_without(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_BUSY_S", 0.1)
    expected = told(store)
    holder = sqlite3.connect(index.path_of(store.url))
    holder.execute("BEGIN EXCLUSIVE")
    store.add(report(id="newer", created="2026-11-25T09:00:00.000Z"))
    assert told(store) == ["newer", *expected]
    holder.close()


def test_where_no_index_can_be_written_reports_are_read(
    store: Store, home: Path, read: list[str]
) -> None:
    home.mkdir()
    (home / "cache").write_text("a file where the folder should be")
    assert told(store) == told(store) == ["new", "old"]
    assert len(read) == 4


def test_many_processes_at_once_fill_one_index(store: Store) -> None:
    code = (
        "import sys; from cloudrun.reports.store import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "for _ in range(20): print([fact['report'] for _, fact in store.facts(store.entries())])"
    )
    many = [
        subprocess.Popen([sys.executable, "-c", code, store.url], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in many:
        said, _ = process.communicate()
        assert process.returncode == 0
        assert set(said.splitlines()) == {"['new', 'old']"}
    with index.opened(store.url) as filled:
        assert len(filled.get("facts", list(store.entries()))) == 2


def test_only_what_is_asked_for_is_looked_at(store: Store, read: list[str]) -> None:
    first, _ = next(iter(store.slim(iter([next(store.entries())]))))
    assert first.id == "new"
    assert read == [first.path]
