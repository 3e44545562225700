"""The journal: what cloudrun is about to do and what it did, on disk before it acts.

SQLite in WAL mode: safe against kill -9 and power cuts, shared by any number
of cloudrun processes, readable by any tool. A run's process holds a lock file
for as long as it lives; the system releases it however the process ends, so a
free lock is a dead run, without a guess about process ids.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import msgspec

from cloudrun.errors import BadData, BadSettings, CloudrunError
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer, Plan
from cloudrun.model.run import now

# One script for each version of the journal: script N brings version N to N + 1.
MIGRATIONS = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        created TEXT NOT NULL,
        command TEXT NOT NULL,
        need TEXT NOT NULL,
        argv TEXT NOT NULL,
        store TEXT NOT NULL,
        plan TEXT,
        ended TEXT,
        outcome TEXT,
        report TEXT
    );
    CREATE INDEX runs_open ON runs (created) WHERE ended IS NULL;
    CREATE TABLE steps (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL REFERENCES runs (id),
        at TEXT NOT NULL,
        phase TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('intent', 'done', 'failed')),
        detail TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX steps_of_run ON steps (run, number);
    """,
    """
    ALTER TABLE runs ADD COLUMN machine TEXT;
    ALTER TABLE runs ADD COLUMN job_deadline TEXT;
    ALTER TABLE runs ADD COLUMN kept_until TEXT;
    """,
    """
    CREATE TABLE attempts (
        run TEXT NOT NULL REFERENCES runs (id),
        number INTEGER NOT NULL,
        at TEXT NOT NULL,
        offer TEXT NOT NULL,
        refused TEXT,
        PRIMARY KEY (run, number)
    );
    """,
)
_BUSY_S = 10.0
# Longer than any look at a lock takes.
_LOOKED_AT_S = 0.5
_OPEN = "WHERE ended IS NULL ORDER BY created"


@dataclass(frozen=True)
class RunRow:
    """One run as the journal knows it. `ended` None: it is live, or its process died.

    `machine` is the one that it has. `job_deadline` (RFC 3339, UTC) is there when
    a job was started on it that goes on without us, `kept_until` when the run is
    over and its machine was left as it is until then.
    """

    id: str
    created: str
    command: str
    need: Need
    argv: tuple[str, ...]
    store: str
    plan: Plan | None = None
    ended: str | None = None
    outcome: str | None = None
    report: str | None = None
    machine: Machine | None = None
    job_deadline: str | None = None
    kept_until: str | None = None


@dataclass(frozen=True)
class StrangeRow:
    """A run whose row this version cannot read: a newer cloudrun wrote it, or it is damaged."""

    id: str


@dataclass(frozen=True)
class StepRow:
    """One step of a run: the intent to do a phase, or how it went (`detail`: its timing)."""

    at: str
    phase: str
    state: str
    detail: str


@dataclass(frozen=True)
class Attempt:
    """One try to get a machine, written down before it is made; `refused` says why in vain."""

    number: int
    offer: Offer
    refused: str | None = None


class Journal:
    """The journal in `folder` (made when it is not there).

    Raises:
        BadSettings: it cannot be opened, or belongs to a newer cloudrun.
        BadData: the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "journal.sqlite3"
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            _log_ahead(self._db)
            self._db.execute("PRAGMA synchronous = FULL")
            self._migrate()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()

    def add_run(self, row: RunRow) -> None:
        """Put a run into the journal, before anything is done for it."""
        values = (
            row.id,
            row.created,
            row.command,
            _to_json(row.need),
            _to_json(row.argv),
            row.store,
        )
        with self._errors():
            self._db.execute(
                "INSERT INTO runs (id, created, command, need, argv, store)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )

    def set_plan(self, run: str, plan: Plan) -> None:
        """Write down what the run is going to do."""
        with self._errors():
            self._db.execute("UPDATE runs SET plan = ? WHERE id = ?", (_to_json(plan), run))

    def add_attempt(self, run: str, attempt: Attempt) -> None:
        """Write down that a machine of this offer is about to be created for the run."""
        values = (run, attempt.number, now(), _to_json(attempt.offer))
        with self._errors():
            self._db.execute(
                "INSERT INTO attempts (run, number, at, offer) VALUES (?, ?, ?, ?)", values
            )

    def set_refused(self, run: str, number: int, why: str) -> None:
        """Write down that an attempt was in vain."""
        with self._errors():
            self._db.execute(
                "UPDATE attempts SET refused = ? WHERE run = ? AND number = ?", (why, run, number)
            )

    def attempts(self, run: str) -> list[Attempt]:
        """The attempts of a run, in order."""
        with self._errors():
            found = self._db.execute(
                "SELECT number, offer, refused FROM attempts WHERE run = ? ORDER BY number", (run,)
            )
            return [
                Attempt(number, msgspec.json.decode(offer, type=Offer), refused)
                for number, offer, refused in found
            ]

    def set_machine(self, run: str, machine: Machine) -> None:
        """Write down the machine that the run has."""
        with self._errors():
            self._db.execute("UPDATE runs SET machine = ? WHERE id = ?", (_to_json(machine), run))

    def set_job(self, run: str, deadline: str | None) -> None:
        """Write down that a job is about to be started that goes on without us, or is no more."""
        with self._errors():
            self._db.execute("UPDATE runs SET job_deadline = ? WHERE id = ?", (deadline, run))

    def set_kept(self, run: str, until: str | None) -> None:
        """Write down that the run's machine is left as it is until then, or no longer."""
        with self._errors():
            self._db.execute("UPDATE runs SET kept_until = ? WHERE id = ?", (until, run))

    def kept_runs(self) -> list[RunRow]:
        """The runs that are over and whose machine was left, oldest first."""
        kept = self._runs("WHERE ended IS NOT NULL AND kept_until IS NOT NULL ORDER BY created")
        return [row for row in kept if isinstance(row, RunRow)]

    def add_step(self, run: str, phase: str, state: str, detail: str = "") -> None:
        """Write down that a phase is about to be done (`intent`), is `done`, or has `failed`."""
        with self._errors():
            self._db.execute(
                "INSERT INTO steps (run, at, phase, state, detail) VALUES (?, ?, ?, ?, ?)",
                (run, now(), phase, state, detail),
            )

    def end_run(self, run: str, outcome: str, report: str | None) -> None:
        """Write down that nothing of the run is left, how it ended, and its report's path."""
        with self._errors():
            self._db.execute(
                "UPDATE runs SET ended = ?, outcome = ?, report = ? WHERE id = ? AND ended IS NULL",
                (now(), outcome, report, run),
            )

    def open_runs(self) -> list[RunRow]:
        """The runs that have not ended, oldest first: live ones, and those whose process died."""
        return [row for row in self._runs(_OPEN) if isinstance(row, RunRow)]

    def strange_runs(self) -> list[StrangeRow]:
        """Those of the runs that have not ended which this version cannot read."""
        return [row for row in self._runs(_OPEN) if isinstance(row, StrangeRow)]

    def run(self, run_id: str) -> RunRow | StrangeRow | None:
        """The run with this id."""
        rows = self._runs("WHERE id = ?", run_id)
        return rows[0] if rows else None

    def known(self, run_id: str) -> RunRow:
        """The run with this id, which is there."""
        row = self.run(run_id)
        if not isinstance(row, RunRow):
            raise BadData(f"The journal {self.path} is damaged.", f"Run {run_id} has gone from it.")
        return row

    def runs_since(self, moment: str, but: str) -> list[RunRow]:
        """The other runs that were alive at `moment` (RFC 3339, UTC) or began later."""
        since = self._runs("WHERE id != ? AND (ended IS NULL OR ended > ?)", but, moment)
        return [row for row in since if isinstance(row, RunRow)]

    def recent(self) -> list[RunRow]:
        """All runs, the newest first."""
        return [row for row in self._runs("ORDER BY created DESC") if isinstance(row, RunRow)]

    def is_open(self, run_id: str) -> bool:
        """Whether the run has not ended, as of now."""
        row = self.run(run_id)
        return isinstance(row, RunRow) and row.ended is None

    def steps(self, run: str) -> list[StepRow]:
        """The steps of a run, oldest first."""
        with self._errors():
            found = self._db.execute(
                "SELECT at, phase, state, detail FROM steps WHERE run = ? ORDER BY number", (run,)
            )
            return [StepRow(*row) for row in found]

    def run_folder(self, run_id: str) -> Path:
        """The folder that holds a run's lock, its workload's lines and its log."""
        return self.folder / "runs" / run_id

    def _runs(self, where: str, *values: str) -> list[RunRow | StrangeRow]:
        columns = (
            "id, created, command, need, argv, store, plan, ended, outcome, report,"
            " machine, job_deadline, kept_until"
        )
        with self._errors():
            found = self._db.execute(f"SELECT {columns} FROM runs {where}", values)  # noqa: S608
            return [_run_row(*row) for row in found]

    def _migrate(self) -> None:
        """Bring the journal to this version, once, whoever comes first."""
        if self._version() == len(MIGRATIONS):
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            version = self._version()
            if version > len(MIGRATIONS):
                raise BadSettings(
                    f"The journal {self.path} belongs to a newer cloudrun.",
                    f"It is of version {version}; this cloudrun knows {len(MIGRATIONS)}.",
                    "Update cloudrun, or set CLOUDRUN_HOME to another folder.",
                )
            for script in MIGRATIONS[version:]:
                for statement in script.split(";\n"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the disk's and SQLite's errors into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise self._unusable(error) from error
            raise BadSettings(
                f"The journal {self.path} is held by another program.",
                f"It did not let go of it within {_BUSY_S:.0f} s.",
                "End that program, or try again.",
            ) from error
        except OSError as error:
            raise self._unusable(error) from error
        except sqlite3.DatabaseError as error:
            raise BadData(
                f"The journal {self.path} is damaged.",
                f"{_reason(error)}.",
                f"Move it away and start afresh: rename it to {self.path.name}.damaged",
            ) from error

    def _unusable(self, error: Exception) -> BadSettings:
        return BadSettings(
            f"The journal {self.path} cannot be used.",
            f"{_reason(error)}.",
            "Make its folder writable and free some room, or set CLOUDRUN_HOME to another folder.",
        )


def _run_row(*columns: Any) -> RunRow | StrangeRow:
    row = RunRow(*columns)
    try:
        datetime.fromisoformat(row.created)
        return dataclasses.replace(
            row,
            need=msgspec.json.decode(str(row.need), type=Need),
            argv=msgspec.json.decode(str(row.argv), type=tuple[str, ...]),
            plan=msgspec.json.decode(str(row.plan), type=Plan) if row.plan else None,
            machine=msgspec.json.decode(str(row.machine), type=Machine) if row.machine else None,
        )
    except (TypeError, ValueError, msgspec.MsgspecError):
        return StrangeRow(row.id)


def _log_ahead(db: sqlite3.Connection) -> None:
    """Let readers and a writer not wait for each other.

    While another one changes the same just now, SQLite says so at once instead of waiting.
    """
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


class RunLock:
    """The lock that the process of a run holds for as long as it lives.

    Who only looks whether there is one shares it for a moment, and disturbs nobody.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._file: IO[bytes] | None = None

    def is_free(self) -> bool:
        """Whether no living process has it."""
        file = self._try(shared=True)
        if file is not None:
            file.close()
        return file is not None

    def take(self, *, is_follower: bool = True) -> bool:
        """Take the lock; False when another living process has it.

        `is_follower`: this process follows the run, and ends it when it is asked to.
        """
        self._file = self._try(shared=False)
        if self._file is not None:
            pid = str(os.getpid()) if is_follower else ""
            self._path.with_name("pid").write_text(pid)
        return self._file is not None

    def _try(self, *, shared: bool) -> IO[bytes] | None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = open(self._path, "ab")  # noqa: SIM115 - it is held beyond this function
        # Others may look at it just now.
        until = time.monotonic() + (0.0 if shared else _LOOKED_AT_S)
        while True:
            try:
                _lock(file, shared)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                    file.close()
                    raise
                if time.monotonic() > until:
                    file.close()
                    return None
                time.sleep(0.01)
            else:
                return file

    def holder(self) -> int | None:
        """The process that follows the run, or did so last; None while it is only tidied up."""
        try:
            return int(self._path.with_name("pid").read_text())
        except (OSError, ValueError):
            return None

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes], shared: bool) -> None:  # noqa: ARG001 - Windows has none to share
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes], shared: bool) -> None:
        fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _reason(error: BaseException) -> str:
    if isinstance(error, CloudrunError):
        return error.what
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".")
