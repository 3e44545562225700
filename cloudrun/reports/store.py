"""Where reports are kept: one immutable object a report, under a name that tells much (`names`).

An object appears whole or not at all and is never overwritten, so any number of
writers need no lock. What was read of it is remembered in an index, which is only
a cache (`index`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

import msgspec

from cloudrun import settings
from cloudrun.errors import BadData, WrongUsage
from cloudrun.model.words import nearest
from cloudrun.reports import facts, index
from cloudrun.reports.bucket import PATIENCE_S, SCHEMES, Bucket, open_bucket
from cloudrun.reports.folder import Folder, read_bytes
from cloudrun.reports.names import MONTH, RUNS, YEAR, Entry, entry_of, name_of
from cloudrun.reports.schema import MOST_BYTES, Report, check_size, decode, parse

T = TypeVar("T")

# So many objects are looked up, and read where need be, at a time.
_AT_ONCE = 200
# A scheme has two letters or more; one letter is a drive of Windows.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):(/{0,2})")


@dataclass(frozen=True)
class Store:
    """A store of reports; `place` keeps its objects."""

    place: Folder | Bucket

    @property
    def url(self) -> str:
        """What `--store` would name it: a folder's full path, or a bucket's URL."""
        return self.place.url

    def check_writable(self) -> None:
        """Make sure, before work starts, that a report can be written here.

        Raises:
            CloudrunError: it cannot.
        """
        self.place.check_writable()

    def show_command(self, report_id: str) -> str:
        """The command that shows a report of this store."""
        elsewhere = self.url != str(settings.places().store)
        where = f" --store {shlex.quote(self.url)}" if elsewhere else ""
        return f"cloudrun report show {report_id}{where}"

    def add(self, report: Report) -> str:
        """Write a report; returns its path in the store. The same once more is no error.

        Raises:
            CloudrunError: it cannot be written; nothing of it is left.
            BadData: another report of this name is there already.
        """
        path, data = name_of(report), report.to_json()
        try:
            self.place.put(path, data)
        except FileExistsError as error:
            # It may be our own: written by a call of which the answer was lost.
            if self.place.get(path) == data:
                return path
            raise BadData(
                f"The report {report.id} is in the store already.",
                "Reports are never overwritten.",
                f"Look at it: {self.show_command(report.id)}",
            ) from error
        return path

    def entries(self, since: str = "") -> Iterator[Entry]:
        """List what is in the store, newest first; objects of strange names come last.

        Only names are read, month by month, so whoever stops early has asked for little.

        Args:
            since: No report that was created before this (RFC 3339, UTC, milliseconds),
                as far as names tell.

        Raises:
            CloudrunError: the store cannot be read.
        """
        strange: list[Entry] = []
        folders: list[str] = []
        for year in self._newest_first("", YEAR, strange, folders):
            if year < since[:4]:
                break
            for month in self._newest_first(year, MONTH, strange, folders):
                if month < since[:7].replace("-", "/"):
                    break
                found = list(self.place.below(month))
                strange += [entry for entry in found if not entry.id]
                named = (entry for entry in found if entry.id and entry.created >= since)
                yield from sorted(named, key=lambda entry: entry.path, reverse=True)
        for folder in folders:
            strange += self.place.below(folder)
        yield from sorted(strange, key=lambda entry: entry.path)

    def _newest_first(
        self, prefix: str, ours: re.Pattern[str], strange: list[Entry], folders: list[str]
    ) -> list[str]:
        """The folders in `prefix` that are ours, newest first; the rest goes to the lists."""
        below, objects = self.place.level(prefix)
        strange += objects
        strangers = (folder for folder in below if not ours.fullmatch(folder))
        folders += sorted(folder for folder in strangers if folder != RUNS)
        return sorted((folder for folder in below if ours.fullmatch(folder)), reverse=True)

    def read(self, entry: Entry) -> Report:
        """Read one report.

        Raises:
            BadData: it is damaged, is no report, is another than its name says, or
                cannot be read.
        """
        return self.read_whole(entry)[0]

    def read_whole(self, entry: Entry) -> tuple[Report, bytes]:
        """As `read`, and the bytes that it was read from."""
        check_size(entry.size, entry.path)
        data = self.place.get(entry.path)
        return _checked(data, entry), data

    def slim(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Report | BadData]]:
        """Reports without their raw samples, in order, each with its entry; or what is wrong.

        What the index remembers is not read again. Some hundred are in memory at a time.

        Raises:
            CloudrunError: the store as a whole cannot be read.
        """
        return self._known(entries, "slim", _slim_of)

    def facts(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, dict[str, Any] | BadData]]:
        """As `slim`, what a list says of the reports (`reports.facts.facts`)."""
        return self._known(entries, "facts", _facts_of)

    def _known(
        self,
        entries: Iterable[Entry],
        column: index.Column,
        decode: Callable[[bytes], T | BadData],
    ) -> Iterator[tuple[Entry, T | BadData]]:
        waiting = iter(entries)
        with index.opened(self.url) as remembered:
            while some := list(islice(waiting, _AT_ONCE)):
                known = _decoded(remembered.get(column, some), decode)
                strange = [entry for entry in some if entry.path not in known]
                fresh = self.place.each(self._look, strange)
                remembered.put([look.row for look in fresh if look.lasts])
                known |= {look.row.entry.path: decode(getattr(look.row, column)) for look in fresh}
                for entry in some:
                    yield entry, known[entry.path]

    def _look(self, entry: Entry) -> _Look:
        """Read one object for the index."""
        try:
            check_size(entry.size, entry.path)
            data = self.place.get(entry.path)
        except BadData as error:
            # It may well be readable the next time.
            return _Look(_row_of_problem(entry, error), entry.size > MOST_BYTES)
        try:
            report = _checked(data, entry)
        except BadData as error:
            return _Look(_row_of_problem(entry, error), True)
        told = msgspec.json.encode(facts.facts(report))
        return _Look(index.Row(entry, told, _packed(facts.slim(report))), True)

    def find(self, wanted: str) -> Entry:
        """Find the entry of a report by its id, any unique beginning of it, or `last`.

        Raises:
            WrongUsage: there is none, or several.
        """
        entries = self.entries()
        if wanted == "last":
            for entry in entries:
                return entry
        fits: dict[str, Entry] = {}
        none = True
        for entry in self.identified(entries):
            none = False
            if wanted and entry.id.startswith(wanted):
                # Of several copies the newest name, and a name of ours, goes first.
                fits.setdefault(entry.id, entry)
        if wanted in fits or len(fits) == 1:
            return fits.get(wanted) or next(iter(fits.values()))
        if fits:
            raise WrongUsage(
                f"'{wanted}' could be any of {len(fits)} reports.",
                "",
                "Write more of its id: " + ", ".join(islice(fits, 5)),
            )
        raise WrongUsage(
            f"There is no report in {self.url} yet."
            if none
            else f"There is no report '{wanted}' in {self.url}.",
            "",
            "Make one: cloudrun launch" if none else "See what is there: cloudrun report list",
        )

    def identified(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The entries, those of strange names with what the reports themselves say."""
        for strange, some in groupby(entries, key=lambda entry: not entry.id):
            if not strange:
                yield from some
                continue
            for entry, report in self.slim(some):
                yield entry if isinstance(report, BadData) else _named(entry, report)


class _Look(NamedTuple):
    """What one object turned out to be; `lasts`: it will be the same the next time."""

    row: index.Row
    lasts: bool


def _checked(data: bytes, entry: Entry) -> Report:
    report = parse(data, entry.path)
    if entry.id not in ("", report.id):
        raise BadData(
            f"The report {entry.path} is another than its name says.",
            f"Within, it calls itself '{report.id}'.",
            "Take a fresh copy from where it was made.",
        )
    return report


def _named(entry: Entry, report: Report) -> Entry:
    """An entry with what its report's own name would tell."""
    told = entry_of(name_of(report), entry.size, entry.stamp)
    return replace(told, path=entry.path)


def _row_of_problem(entry: Entry, error: BadData) -> index.Row:
    sentences = [error.what, error.why, error.try_this]
    return index.Row(entry, msgspec.json.encode(sentences), _packed(sentences))


def _packed(value: Any) -> bytes:
    return zlib.compress(msgspec.json.encode(value), 1)


def _facts_of(data: bytes) -> dict[str, Any] | BadData:
    told = msgspec.json.decode(data, type=dict[str, Any] | list[str])
    return BadData(*told) if isinstance(told, list) else told


def _slim_of(data: bytes) -> Report | BadData:
    told = zlib.decompress(data)
    if told.startswith(b"["):
        return BadData(*msgspec.json.decode(told, type=list[str]))
    return decode(told)


def _decoded(
    found: dict[str, bytes], decode: Callable[[bytes], T | BadData]
) -> dict[str, T | BadData]:
    """What can be made of the index's bytes; what cannot is not known."""
    known = {}
    for path, data in found.items():
        with contextlib.suppress(msgspec.MsgspecError, zlib.error, TypeError):
            known[path] = decode(data)
    return known


def open_store(url: str, patience_s: float = PATIENCE_S) -> Store:
    """Open the store that `url` names; nothing is asked of anybody yet.

    Args:
        url: A folder's path, `file://` and its path, or a bucket: `s3://BUCKET/PREFIX`,
            and so `gs://` and `az://`.
        patience_s: How long a bucket that gives no answer is asked again, in seconds.

    Raises:
        WrongUsage: it names something that cannot be a store.
    """
    scheme = _SCHEME.match(url)
    if scheme and scheme[1] in SCHEMES and scheme[2] == "//":
        return Store(open_bucket(url, patience_s))
    rest = url[scheme.end() :] if scheme else url
    if scheme and (scheme[1] != "file" or scheme[2] != "//"):
        close = nearest(scheme[1], ["file", *SCHEMES])
        rest = rest.strip("/")
        raise WrongUsage(
            f"'{url}' is no store that this version of cloudrun can use.",
            "A store is a folder, or a bucket: s3://, gs:// or az://.",
            f"Did you mean '{close}://{'/' if close == 'file' else ''}{rest}'?"
            if close
            else "Write a folder, such as ./reports, or s3://BUCKET/PREFIX",
        )
    if scheme:
        host, _, below = rest.partition("/")
        if host not in ("", "localhost"):
            raise WrongUsage(
                f"'{url}' names a file on another machine, '{host}'.",
                "",
                f"Did you mean 'file:///{rest}'?",
            )
        rest = unquote(f"/{below}") if below else ""
    if not rest.strip() or "\0" in url:
        raise WrongUsage("The store has no name.", "", "Write a folder, such as ./reports")
    path = Path(os.path.expanduser(rest))
    if path.is_file():
        raise WrongUsage(
            f"The store '{url}' is a file.",
            "A store is a folder.",
            f"Did you mean '{path.parent}'?",
        )
    return Store(Folder(path.absolute()))


def read_file(path: Path, name: str) -> Report:
    """Read a report from a file; `name` is what an error calls it.

    Raises:
        BadData: it is damaged, is no report, too large, or cannot be read.
    """
    return parse(read_bytes(path, name), name)
