"""Which reports a command is about: those that are named, or a whole store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cloudrun.cli import output
from cloudrun.errors import BadData
from cloudrun.reports.schema import Report
from cloudrun.reports.store import Entry, Store, read_file

_MOST_TOLD = 5


class Source(NamedTuple):
    """The reports that were named, else the whole store; where each was found; what is damaged."""

    store: Store
    named: tuple[Entry | Path, ...]
    places: dict[str, Entry | Path]
    damaged: dict[str, BadData]


def choose(store: Store, names: Iterable[str]) -> Source:
    """Take the reports of these names: ids, unique beginnings of them, files, `last`. None: all.

    Raises:
        WrongUsage: the store has no report of a name, or several.
    """
    named = tuple(_place(store, name) for name in dict.fromkeys(names))
    return Source(store, named, {}, {})


def is_file(name: str) -> bool:
    """Whether a report is named by its file."""
    return name.endswith(".json") or len(Path(name).parts) > 1


def _place(store: Store, name: str) -> Entry | Path:
    return Path(name) if is_file(name) else store.find(name)


def reports(source: Source) -> Iterator[Report]:
    """The reports, one by one, those of a whole store without their samples.

    Notes where each is, and which are damaged.
    """
    store, named = source.store, source.named
    found = ((place, _read(store, place)) for place in named) if named else _all(store)
    for place, report in found:
        if isinstance(report, BadData):
            source.damaged[str(place.path if isinstance(place, Entry) else place)] = report
        else:
            source.places.setdefault(report.id, place)
            yield report


def _all(store: Store) -> Iterator[tuple[Entry | Path, Report | BadData]]:
    yield from store.slim(store.entries())


def one(source: Source, name: str) -> Report:
    """The one report of a name, whole.

    Raises:
        WrongUsage: the store has none of this name, or several.
        BadData: it is damaged.
    """
    place = _place(source.store, name)
    report = _whole(source.store, place)
    source.places[report.id] = place
    return report


def file_of(store: Store, name: str) -> tuple[Path, Report]:
    """The file of one report, and what it holds.

    Raises:
        WrongUsage: the store has none of this name, or several.
        BadData: it is damaged.
    """
    place = _place(store, name)
    return path_of(store, place), _whole(store, place)


def path_of(store: Store, place: Entry | Path) -> Path:
    """The file of a report."""
    return place if isinstance(place, Path) else store.location / place.path


def whole(source: Source, report: str) -> Report:
    """A report that `reports` or `one` has given, by its id, with its samples.

    Raises:
        BadData: it is damaged meanwhile.
    """
    return _whole(source.store, source.places[report])


def _whole(store: Store, place: Entry | Path) -> Report:
    return read_file(place, str(place)) if isinstance(place, Path) else store.read(place)


def _read(store: Store, place: Entry | Path) -> Report | BadData:
    try:
        return _whole(store, place)
    except BadData as error:
        return error


def tell_damaged(damaged: dict[str, BadData]) -> None:
    """Say which reports are left out because they are damaged."""
    for error in list(damaged.values())[:_MOST_TOLD]:
        output.say(f"Left out: {error}")
    if len(damaged) > _MOST_TOLD:
        output.say(f"Left out: {len(damaged) - _MOST_TOLD} more that are damaged.")
