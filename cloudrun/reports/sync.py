"""Copy reports and their signatures from one store to another: what is missing, byte for byte.

Each copy is whole or not there, so that a sync that was cut off is simply made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal, NamedTuple

from cloudrun.errors import BadData, WrongUsage
from cloudrun.reports import signing, vouching
from cloudrun.reports.bucket import Bucket
from cloudrun.reports.folder import Folder
from cloudrun.reports.names import Entry, name_of
from cloudrun.reports.store import Store

_AT_ONCE = 200


class Row(NamedTuple):
    """What became of one object of the source: `path` there, and the report's id if it is one."""

    path: str
    report: str | None
    status: Literal["copied", "known", "skipped"]
    problem: BadData | None = None


def missing(source: Store, target: Store) -> tuple[list[Entry], int]:
    """What the target does not have, and how many the source has in all.

    Raises:
        CloudrunError: a store cannot be read, or the source is not there.
    """
    if isinstance(source.place, Folder) and not source.place.location.is_dir():
        raise WrongUsage(f"There is no folder {source.url}.", "", "Look at how it is written.")
    there = {entry.id for entry in target.identified(target.entries())}
    here = list(source.identified(source.entries()))
    return [entry for entry in here if not entry.id or entry.id not in there], len(here)


def copy(source: Store, target: Store, entries: Iterable[Entry]) -> Iterator[Row]:
    """Copy these of the source, in order. What is damaged is skipped, and told.

    Raises:
        CloudrunError: a store gives no answer; what was copied by then is there.
    """
    waiting, slower = iter(entries), _slower(source, target)
    while some := list(islice(waiting, _AT_ONCE)):
        yield from slower.each(lambda entry: _copy(source, target, entry), some)


def _slower(source: Store, target: Store) -> Bucket | Folder:
    return source.place if isinstance(source.place, Bucket) else target.place


def _copy(source: Store, target: Store, entry: Entry) -> Row:
    try:
        report, data = source.read_whole(entry)
    except BadData as error:
        return Row(entry.path, entry.id or None, "skipped", error)
    try:
        # The name that the report itself has, whatever it was called.
        target.place.put(name_of(report), data)
    except FileExistsError:
        return Row(entry.path, report.id, "known")
    return Row(entry.path, report.id, "copied")


def copy_signatures(source: Store, target: Store) -> int:
    """Copy the signatures of reports that both have, and that are good; returns how many.

    Raises:
        CloudrunError: a store gives no answer; what was copied by then is there.
    """
    found = vouching.beside(source.place, below=True)
    if not found:
        return 0
    reports = {entry.id: entry.path for entry in target.identified(target.entries()) if entry.id}
    known = set(target.place.names("", below=True))
    wanted = [
        (signature, reports[entry.id], reports[entry.id] + signature.removeprefix(entry.path))
        for entry in source.identified(source.entries())
        for signature in found.get(entry.path, ())
        if entry.id in reports
    ]
    fresh = [each for each in wanted if each[2] not in known]
    slower = _slower(source, target)
    return sum(slower.each(lambda each: _copy_signature(source, target, *each), fresh))


def _copy_signature(source: Store, target: Store, path: str, report: str, name: str) -> bool:
    try:
        data = source.place.get(path)
        signing.check(target.place.get(report), signing.read(data, path), path)
        target.place.put(name, data)
    except (BadData, FileExistsError):
        return False
    return True
