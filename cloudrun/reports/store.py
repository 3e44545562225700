"""Where reports are kept: one immutable object a report, named so that a listing tells much.

    2026/11/24/081251.204Z_local_cpu_passed_k3f9x2m7w0ab.json

The folders are the day of the run in UTC; then the time, the provider, the
GPU, the outcome and the report's id. An object appears whole or not at all
and is never overwritten, so any number of writers need no lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from msgspec.structs import replace as replace_fields

from cloudrun import settings
from cloudrun.errors import BadData, BadSettings, CloudrunError, WrongUsage
from cloudrun.model.run import rfc3339
from cloudrun.model.words import nearest
from cloudrun.reports.schema import MOST_BYTES, Report, parse

if TYPE_CHECKING:
    from obstore.store import LocalStore

_NAME = re.compile(
    r"^(?P<day>\d{4}/\d{2}/\d{2})/(?P<time>\d{6}\.\d{3}Z)"
    r"_(?P<provider>[a-z0-9-]+)_(?P<gpu>[a-z0-9-]+)"
    r"_(?P<outcome>passed|failed|partial)_(?P<id>[A-Za-z0-9_-]+)\.json$"
)
# A scheme has two letters or more; one letter is a drive of Windows.
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):(/{0,2})")
# Room for a report and its temporary twin; less than this is a full disk.
_ROOM_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Entry:
    """One object in a store, and what its name tells. An alien name tells nothing but itself."""

    path: str
    size: int
    id: str = ""
    created: str = ""
    provider: str = ""
    gpu: str = ""
    outcome: str = ""


@dataclass(frozen=True)
class Store:
    """A store of reports in a folder; `location` is the folder's full path."""

    location: Path

    def check_writable(self) -> None:
        """Make sure, before work starts, that a report can be written here.

        Raises:
            BadSettings: the folder cannot be made or written to, or the disk is full.
        """
        try:
            self.location.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.location) as probe:
                probe.write(b"\0" * _ROOM_BYTES)
                probe.flush()
                os.fsync(probe.fileno())
        except OSError as error:
            raise _cannot_write(self.location, error) from error

    def show_command(self, report_id: str) -> str:
        """The command that shows a report of this store."""
        elsewhere = self.location != settings.places().store
        where = f" --store {shlex.quote(str(self.location))}" if elsewhere else ""
        return f"cloudrun report show {report_id}{where}"

    def add(self, report: Report) -> str:
        """Write a report; returns its path in the store.

        Raises:
            BadSettings: it cannot be written; nothing of it is left.
            BadData: a report of this name is there already.
        """
        path = name_of(report)
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            self._objects().put(path, report.to_json(), mode="create")
        except AlreadyExistsError as error:
            raise BadData(
                f"The report {report.id} is in the store already.",
                "Reports are never overwritten.",
                f"Look at it: {self.show_command(report.id)}",
            ) from error
        except (BaseError, OSError) as error:
            raise _cannot_write(self.location, error) from error
        return path

    def entries(self) -> Iterator[Entry]:
        """List what is in the store, newest first; files of unknown names come last.

        Only names are read. An empty or missing folder has no entries.

        Raises:
            BadSettings: the folder cannot be read.
        """
        found = [_entry(path, size) for path, size in self._files()]
        yield from sorted(found, key=lambda entry: (entry.created, entry.path), reverse=True)

    def _files(self) -> Iterator[tuple[str, int]]:
        """The JSON files of the store and their sizes; what else lies there is not ours.

        Walked by hand: to obstore one name that no cloud could hold, or one
        folder that may not be read, is the end of the whole list.
        """

        def cannot_read(error: OSError) -> None:
            # A part that may not be read hides only itself; the whole is an error.
            if error.filename == str(self.location) and error.errno != errno.ENOENT:
                raise BadSettings(
                    f"The store {self.location} cannot be read.",
                    f"{_reason(error)}.",
                    "Look at the folder's permissions, or name another with --store.",
                ) from error

        for folder, _, names in os.walk(self.location, onerror=cannot_read):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if name.endswith(".json") and stat.S_ISREG(status.st_mode):
                        yield path.relative_to(self.location).as_posix(), status.st_size

    def read(self, entry: Entry) -> Report:
        """Read one report.

        Raises:
            BadData: it is damaged, is no report, is another than its name says, or
                cannot be read.
        """
        report = read_file(self.location / entry.path, entry.path)
        if entry.id not in ("", report.id):
            raise BadData(
                f"The report {entry.path} is another than its name says.",
                f"Within, it calls itself '{report.id}'.",
                "Take a fresh copy from where it was made.",
            )
        return report

    def slim(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, Report | BadData]]:
        """Read many reports without their samples; a damaged one comes as what is wrong with it."""
        for entry in entries:
            try:
                report = self.read(entry)
            except BadData as error:
                yield entry, error
                continue
            rows = tuple(replace_fields(row, samples=()) for row in report.measurements)
            yield entry, replace_fields(report, measurements=rows)

    def find(self, wanted: str) -> Entry:
        """Find the entry of a report by its id, any unique beginning of it, or `last`.

        Raises:
            WrongUsage: there is none, or several.
        """
        known = [self._identified(entry) for entry in self.entries()]
        if wanted == "last" and known:
            return known[0]
        fits = [entry for entry in known if wanted and entry.id.startswith(wanted)]
        exact = [entry for entry in fits if entry.id == wanted]
        if len(exact or fits) == 1:
            return (exact or fits)[0]
        if fits:
            raise WrongUsage(
                f"'{wanted}' could be any of {len(fits)} reports.",
                "",
                "Write more of its id: " + ", ".join(entry.id for entry in fits[:5]),
            )
        raise WrongUsage(
            f"There is no report '{wanted}' in {self.location}."
            if known
            else f"There is no report in {self.location} yet.",
            "",
            "See what is there: cloudrun report list" if known else "Make one: cloudrun launch",
        )

    def _identified(self, entry: Entry) -> Entry:
        """An entry whose name tells nothing, as the report in it has it, if it is one."""
        if entry.id:
            return entry
        try:
            report = self.read(entry)
        except BadData:
            return entry
        return replace(entry, id=report.id, created=rfc3339(datetime.fromisoformat(report.created)))

    def _objects(self) -> LocalStore:
        from obstore.store import LocalStore

        return LocalStore(self.location, mkdir=True)


def open_store(url: str) -> Store:
    """Open the store that `url` names: a folder's path, or `file://` and its path.

    Raises:
        WrongUsage: it names something that cannot be a store.
    """
    scheme = _SCHEME.match(url)
    rest = url[scheme.end() :] if scheme else url
    if scheme and (scheme[1] != "file" or scheme[2] != "//"):
        like_file = nearest(scheme[1], ["file"])
        raise WrongUsage(
            f"'{url}' is no store that this version of cloudrun can use.",
            "A store is a folder: a path, or file:// and a path.",
            f"Did you mean 'file:///{rest.strip('/')}'?"
            if like_file
            else "Write a folder, such as ./reports",
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
    return Store(path.absolute())


def read_file(path: Path, name: str) -> Report:
    """Read a report from a file; `name` is what an error calls it.

    Raises:
        BadData: it is damaged, is no report, too large, or cannot be read.
    """
    try:
        # Not a pipe and not a device: they may have no end.
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "There is no such file", str(path))
        with path.open("rb") as file:
            return parse(file.read(MOST_BYTES + 1), name)
    except OSError as error:
        raise BadData(
            f"The report {name} cannot be read.", f"{_reason(error)}.", "See: cloudrun report list"
        ) from error


def name_of(report: Report) -> str:
    """The path of a report in every store: see the module's docstring."""
    created = rfc3339(datetime.fromisoformat(report.created))
    day, _, time = created.partition("T")
    environment = report.environment
    gpu = environment.gpus[0].name if environment and environment.gpus else "cpu"
    parts = (
        time.replace(":", ""),
        _slug(report.machine.provider),
        _slug(gpu),
        report.outcome,
        report.id,
    )
    return f"{day.replace('-', '/')}/{'_'.join(parts)}.json"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unknown"


def _entry(path: str, size: int) -> Entry:
    told = _NAME.match(path)
    if told is None:
        return Entry(path, size)
    time = told["time"]
    created = f"{told['day'].replace('/', '-')}T{time[0:2]}:{time[2:4]}:{time[4:]}"
    return Entry(path, size, told["id"], created, told["provider"], told["gpu"], told["outcome"])


def _cannot_write(location: Path, error: BaseException) -> CloudrunError:
    return BadSettings(
        f"Reports cannot be written to {location}.",
        f"{_reason(error)}.",
        "Free some room or name another folder with --store, or set CLOUDRUN_HOME.",
    )


def _reason(error: BaseException) -> str:
    """The system's own word for what is wrong: `No space left on device`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    quoted = re.search(r'message: "([^"]+)"', str(error))
    return quoted[1] if quoted else str(error).splitlines()[0].rstrip(".")
