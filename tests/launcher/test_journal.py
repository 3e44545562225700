from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.errors import BadData, BadSettings
from cloudrun.launcher import journal as journals
from cloudrun.launcher.journal import Journal, RunLock, RunRow
from cloudrun.launcher.planner import make_plan
from cloudrun.model.need import GpuRequest, Need
from cloudrun.model.offer import Offer

NEED = Need(gpu=GpuRequest("T4", 2), max_cost_usd=1.5)
PLAN = make_plan(NEED, [Offer(provider="local", device="cpu")])


def row(run_id: str = "arun") -> RunRow:
    return RunRow(run_id, "2026-11-24T08:00:00.000Z", "launch", NEED, ("cloudrun",), "/store")


def test_what_was_written_is_read_back_whole(tmp_path: Path) -> None:
    with Journal(tmp_path / "state") as journal:
        journal.add_run(row())
        journal.set_plan("arun", PLAN)
        journal.add_step("arun", "plan", "intent")
        journal.add_step("arun", "plan", "done", "{}")
    with Journal(tmp_path / "state") as journal:
        (found,) = journal.open_runs()
        assert (found.need, found.argv, found.store) == (NEED, ("cloudrun",), "/store")
        assert found.plan == PLAN
        assert [(s.phase, s.state) for s in journal.steps("arun")] == [
            ("plan", "intent"),
            ("plan", "done"),
        ]


def test_an_ended_run_is_no_longer_open_and_ends_only_once(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add_run(row())
        journal.end_run("arun", "passed", "2026/x.json")
        journal.end_run("arun", "failed", None)
        assert journal.open_runs() == []
        found = journal.run("arun")
        assert isinstance(found, RunRow)
        assert (found.outcome, found.report) == ("passed", "2026/x.json")


def test_a_newer_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        path = journal.path
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(BadSettings, match="newer cloudrun.*version 99"):
        Journal(tmp_path)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)


def test_an_older_journal_is_brought_up_to_date_with_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path) as journal:
        journal.add_run(row())
    later = "ALTER TABLE runs ADD COLUMN mood TEXT NOT NULL DEFAULT 'calm';\nCREATE TABLE more (x);"
    monkeypatch.setattr(journals, "MIGRATIONS", (*journals.MIGRATIONS, later))
    with Journal(tmp_path) as journal:
        assert [found.id for found in journal.open_runs()] == ["arun"]
        path = journal.path
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT mood FROM runs").fetchone() == ("calm",)


def test_a_migration_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path) as journal:
        journal.add_run(row())
    broken = "CREATE TABLE half (x);\nSELECT nonsense FROM nowhere;"
    monkeypatch.setattr(journals, "MIGRATIONS", (*journals.MIGRATIONS, broken))
    with pytest.raises(BadSettings):
        Journal(tmp_path)
    monkeypatch.undo()
    with Journal(tmp_path) as journal:
        assert [found.id for found in journal.open_runs()] == ["arun"]
    with sqlite3.connect(journal.path) as db:
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    assert "half" not in names


def test_a_damaged_journal_is_bad_data(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(BadData, match=r"damaged.*journal.sqlite3.damaged"):
        Journal(tmp_path)


@pytest.mark.parametrize(
    ("column", "value"),
    [("need", '{"profile": "huge"}'), ("plan", '{"offers": 1}'), ("created", "x"), ("argv", "")],
)
def test_a_row_that_cannot_be_read_hides_no_other(tmp_path: Path, column: str, value: str) -> None:
    with Journal(tmp_path) as journal:
        journal.add_run(row("strange"))
        journal.add_run(row("known"))
        with sqlite3.connect(journal.path) as db:
            db.execute(f"UPDATE runs SET {column} = ? WHERE id = 'strange'", (value,))  # noqa: S608
        assert [found.id for found in journal.open_runs()] == ["known"]
        assert [found.id for found in journal.strange_runs()] == ["strange"]
        assert journal.is_open("known")


def test_a_journal_that_another_program_holds_is_said_to_be_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "_BUSY_S", 0.1)
    with Journal(tmp_path) as journal, sqlite3.connect(journal.path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BadSettings, match="held by another program"):
            journal.add_run(row())


def test_a_folder_that_cannot_be_made_is_bad_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadSettings, match="CLOUDRUN_HOME"):
        Journal(tmp_path / "file" / "state")


_WRITER = """
import sys
from pathlib import Path
from cloudrun.launcher.journal import Journal, RunRow
from cloudrun.model.need import Need
with Journal(Path(sys.argv[1])) as journal:
    for number in range(40):
        name = f"{sys.argv[2]}{number}"
        journal.add_run(RunRow(name, "2026-11-24T08:00:00.000Z", "launch", Need(), (), "/s"))
        journal.add_step(name, "plan", "intent")
"""


def test_several_processes_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), name]) for name in "abcd"
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    with Journal(tmp_path) as journal:
        found = journal.open_runs()
        assert len({run.id for run in found}) == 160
        assert all(len(journal.steps(run.id)) == 1 for run in found[:10])


_HOLDER = """
import sys
from pathlib import Path
from cloudrun.launcher.journal import RunLock
lock = RunLock(Path(sys.argv[1]))
print(lock.take(), flush=True)
sys.stdin.read()
"""


def test_a_lock_is_held_by_a_living_process_only(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == b"True"
    assert RunLock(tmp_path).take() is False
    assert RunLock(tmp_path).is_free() is False
    assert RunLock(tmp_path).holder() == holder.pid
    holder.kill()
    holder.communicate()
    lock = RunLock(tmp_path)
    assert lock.take() is True
    lock.release()
    assert RunLock(tmp_path).take() is True


_LOOKER = """
import sys, threading
from pathlib import Path
from cloudrun.launcher.journal import RunLock
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
print("on", flush=True)
while not over.is_set():
    assert RunLock(Path(sys.argv[1])).is_free()
"""


def test_who_only_looks_is_not_taken_for_a_follower(tmp_path: Path) -> None:
    looker = subprocess.Popen(
        [sys.executable, "-c", _LOOKER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert looker.stdout is not None
    assert looker.stdout.readline() == b"on\n"
    lock = RunLock(tmp_path)
    for _ in range(500):
        assert lock.is_free()
    # It asserts that nobody has it, which is over now.
    assert lock.take()
    looker.communicate()
    assert lock.holder() == os.getpid()
    lock.release()
    assert lock.take(is_follower=False)
    assert lock.holder() is None
    lock.release()


def test_the_first_versions_journal_is_brought_to_this_one(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite3") as db:
        db.executescript(journals.MIGRATIONS[0])
        db.execute("PRAGMA user_version = 1")
        db.execute(
            "INSERT INTO runs (id, created, command, need, argv, store) VALUES (?, ?, ?, ?, ?, ?)",
            ("old", "2026-11-24T08:00:00.000Z", "launch", "{}", "[]", "reports"),
        )
    db.close()
    with Journal(tmp_path) as journal:
        (row,) = journal.open_runs()
        assert (row.id, row.machine, row.job_deadline, row.kept_until) == ("old", None, None, None)
        journal.set_kept("old", "2026-11-25T08:00:00.000Z")
