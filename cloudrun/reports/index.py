"""The index of a store: a cache of what was read out of its reports.

An SQLite file of this user's for each store. It holds no truth: where it is
damaged, of another version, or cannot be written, the reports are read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from cloudrun import __version__, settings
from cloudrun.reports.names import Entry

# Another version of cloudrun reads reports in another way: its rows are not ours.
_VERSION = zlib.crc32(f"1 {__version__}".encode()) & 0x7FFFFFFF
_BUSY_S = 2.0
_TABLES = ("facts", "slim")
Column = Literal["facts", "slim"]


class Row(NamedTuple):
    """What is to be remembered of an object: both as bytes, of whatever meaning."""

    entry: Entry
    facts: bytes
    slim: bytes


class Index:
    """The index of one store. Without a file that can be used it remembers nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = _opened(path)

    def get(self, column: Column, entries: Sequence[Entry]) -> dict[str, bytes]:
        """What is remembered of these objects as they are now, by their paths."""
        if self._db is None or not entries:
            return {}
        stamps = {entry.path: entry.stamp for entry in entries}
        marks = ",".join("?" * len(stamps))
        query = f"SELECT path, stamp, data FROM {column} WHERE path IN ({marks})"  # noqa: S608
        try:
            found = self._db.execute(query, list(stamps)).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            self._go_without(error)
            return {}
        return {path: data for path, stamp, data in found if stamp == stamps.get(path)}

    def put(self, rows: Sequence[Row]) -> None:
        """Remember these."""
        if self._db is None or not rows:
            return
        try:
            with self._db:
                for table in _TABLES:
                    self._db.executemany(
                        f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)",  # noqa: S608
                        [(row.entry.path, row.entry.stamp, getattr(row, table)) for row in rows],
                    )
        except (sqlite3.Error, UnicodeError) as error:
            self._go_without(error)

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            with contextlib.suppress(sqlite3.Error):
                self._db.close()
        self._db = None

    def _go_without(self, error: Exception) -> None:
        self.close()
        if _is_damage(error):
            _remove(self._path)


@contextlib.contextmanager
def opened(url: str) -> Iterator[Index]:
    """The index of the store of this URL, open."""
    index = Index(path_of(url))
    try:
        yield index
    finally:
        index.close()


def path_of(url: str) -> Path:
    """Where the index of the store of this URL lies."""
    name = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    return settings.places().cache / "stores" / f"{name}.sqlite3"


def _opened(path: Path) -> sqlite3.Connection | None:
    """The file, made anew when it is damaged; None when it cannot be had."""
    for _ in range(2):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _connected(path)
        except (sqlite3.Error, OSError) as error:
            if not _is_damage(error):
                return None
            _remove(path)
    return None


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        if not _is_ours(db):
            _lay_out(db)
    except BaseException:
        db.close()
        raise
    return db


def _is_ours(db: sqlite3.Connection) -> bool:
    return bool(db.execute("PRAGMA user_version").fetchone() == (_VERSION,))


def _lay_out(db: sqlite3.Connection) -> None:
    """Make the tables anew, once, whoever comes first."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        if _is_ours(db):
            return
        for table in _TABLES:
            db.execute(f"DROP TABLE IF EXISTS {table}")
            db.execute(f"CREATE TABLE {table} (path TEXT PRIMARY KEY, stamp TEXT, data BLOB)")
        db.execute(f"PRAGMA user_version = {_VERSION}")


def _is_damage(error: Exception) -> bool:
    """Whether the file itself is bad: not held by another, not on a full disk, not read-only."""
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(
        error, sqlite3.OperationalError
    )


def _remove(path: Path) -> None:
    """Remove an index, and first what SQLite would put into the next one."""
    for name in (f"{path.name}-wal", f"{path.name}-shm", path.name):
        with contextlib.suppress(OSError):
            path.with_name(name).unlink()
