"""Which reports a command is about: those that are named, or a whole store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cloudrun.cli import output
from cloudrun.errors import BadData
from cloudrun.reports.bucket import Bucket
from cloudrun.reports.folder import Folder, read_bytes
from cloudrun.reports.names import Entry
from cloudrun.reports.schema import Report, parse
from cloudrun.reports.store import Store

_MOST_TOLD = 5


class Spot(NamedTuple):
    """Where a report is: in which place, under which path; `entry` where that is the store."""

    place: Folder | Bucket
    path: str
    name: str
    entry: Entry | None = None


class Source(NamedTuple):
    """The reports that were named, else the whole store; where each was found; what is damaged."""

    store: Store
    named: tuple[Spot, ...]
    spots: dict[str, Spot]
    damaged: dict[str, BadData]


def choose(store: Store, names: Iterable[str]) -> Source:
    """Take the reports of these names: ids, unique beginnings of them, files, `last`. None: all.

    Raises:
        WrongUsage: the store has no report of a name, or several.
    """
    named = tuple(spot(store, name) for name in dict.fromkeys(names))
    return Source(store, named, {}, {})


def is_file(name: str) -> bool:
    """Whether a report is named by its file."""
    return name.endswith(".json") or len(Path(name).parts) > 1


def spot(store: Store, name: str) -> Spot:
    """Where the one report of a name is.

    Raises:
        WrongUsage: the store has none of this name, or several.
    """
    if is_file(name):
        path = Path(name).absolute()
        return Spot(Folder(path.parent), path.name, name)
    return _in_store(store, store.find(name))


def _in_store(store: Store, entry: Entry) -> Spot:
    return Spot(store.place, entry.path, entry.path, entry)


def reports(source: Source) -> Iterator[Report]:
    """The reports, one by one, those of a whole store without their samples.

    Notes where each is, and which are damaged.
    """
    store, named = source.store, source.named
    found = ((each, _read(store, each)) for each in named) if named else _all(store)
    for each, report in found:
        if isinstance(report, BadData):
            source.damaged[each.name] = report
        else:
            source.spots.setdefault(report.id, each)
            yield report


def _all(store: Store) -> Iterator[tuple[Spot, Report | BadData]]:
    for entry, report in store.slim(store.entries()):
        yield _in_store(store, entry), report


def one(source: Source, name: str) -> Report:
    """The one report of a name, whole.

    Raises:
        WrongUsage: the store has none of this name, or several.
        BadData: it is damaged.
    """
    found = spot(source.store, name)
    report, _ = read(source.store, found)
    source.spots[report.id] = found
    return report


def whole(source: Source, report: str) -> Report:
    """A report that `reports` or `one` has given, by its id, with its samples.

    Raises:
        BadData: it is damaged meanwhile.
    """
    return read(source.store, source.spots[report])[0]


def read(store: Store, found: Spot) -> tuple[Report, bytes]:
    """A report, and the bytes that it was read from.

    Raises:
        BadData: it is damaged.
    """
    if found.entry is not None:
        return store.read_whole(found.entry)
    data = read_bytes(Path(found.name), found.name)
    return parse(data, found.name), data


def _read(store: Store, found: Spot) -> Report | BadData:
    try:
        return read(store, found)[0]
    except BadData as error:
        return error


def tell_damaged(damaged: dict[str, BadData]) -> None:
    """Say which reports are left out because they are damaged."""
    for error in list(damaged.values())[:_MOST_TOLD]:
        output.say(f"Left out: {error}")
    if len(damaged) > _MOST_TOLD:
        output.say(f"Left out: {len(damaged) - _MOST_TOLD} more that are damaged.")
