"""A folder that keeps the objects of a store."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cloudrun.errors import BadData, BadSettings
from cloudrun.reports.names import Entry, entry_of
from cloudrun.reports.schema import MOST_BYTES

T = TypeVar("T")
A = TypeVar("A")

# Room for a report and its temporary twin; less than this is a full disk.
_ROOM_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Folder:
    """The objects below `location`, a full path. It is walked by hand.

    To obstore, one name that no cloud could hold, or one folder that may not be
    read, is the end of the whole list.
    """

    location: Path

    @property
    def url(self) -> str:
        """How the store is named: the folder's full path."""
        return str(self.location)

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
            raise self._cannot_write(error) from error

    def put(self, path: str, data: bytes) -> None:
        """Write an object, whole or not at all.

        Raises:
            FileExistsError: there is one of this name.
            BadSettings: it cannot be written; nothing of it is left.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError
        from obstore.store import LocalStore

        try:
            LocalStore(self.location, mkdir=True).put(path, data, mode="create")
        except AlreadyExistsError as error:
            raise FileExistsError(path) from error
        except (BaseError, OSError) as error:
            raise self._cannot_write(error) from error

    def put_file(self, path: str, file: Path) -> None:
        """Copy a file of any size to an object, whole or not at all; an earlier one goes.

        Raises:
            BadSettings: it cannot be written.
        """
        there = self.location / path
        part = there.with_name(f".{there.name}.{os.getpid()}.part")
        try:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, part)
            part.replace(there)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise self._cannot_write(error) from error

    def get(self, path: str) -> bytes:
        """Read an object, as far as a report can be long, and one byte more.

        Raises:
            BadData: it cannot be read.
        """
        return read_bytes(self.location / path, path)

    def each(self, act: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
        """Do the same to each: one by one, since the disk is not what takes the time."""
        return [act(argument) for argument in arguments]

    def level(self, prefix: str) -> tuple[list[str], list[Entry]]:
        """The folders and the objects just below `prefix`, which is empty or ends in a slash.

        Raises:
            BadSettings: the store as a whole cannot be read.
        """
        for folder, folders, names in self._walk(prefix):
            below = [f"{prefix}{name}/" for name in folders if not Path(folder, name).is_symlink()]
            return below, list(self._entries(folder, names))
        return [], []

    def below(self, prefix: str) -> Iterator[Entry]:
        """All objects below `prefix`; a part that may not be read hides only itself."""
        for folder, _, names in self._walk(prefix):
            yield from self._entries(folder, names)

    def names(self, prefix: str, *, below: bool = False) -> Iterator[str]:
        """The paths of all that is in a folder, whatever it is; `below`: in all of it."""
        for folder, _, names in self._walk(prefix):
            yield from (Path(folder, name).relative_to(self.location).as_posix() for name in names)
            if not below:
                return

    def _walk(self, prefix: str) -> Iterator[tuple[str, list[str], list[str]]]:
        def cannot_read(error: OSError) -> None:
            if error.filename == str(self.location) and error.errno != errno.ENOENT:
                raise BadSettings(
                    f"The store {self.location} cannot be read.",
                    f"{reason(error)}.",
                    "Look at the folder's permissions, or name another with --store.",
                ) from error

        yield from os.walk(self.location / prefix, onerror=cannot_read)

    def _entries(self, folder: str, names: list[str]) -> Iterator[Entry]:
        """The JSON files among those of a folder; what else lies there is not ours."""
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                status = path.stat()
                if name.endswith(".json") and stat.S_ISREG(status.st_mode):
                    stamp = f"{status.st_size}-{status.st_mtime_ns}"
                    relative = path.relative_to(self.location).as_posix()
                    yield entry_of(relative, status.st_size, stamp)

    def _cannot_write(self, error: BaseException) -> BadSettings:
        return BadSettings(
            f"Reports cannot be written to {self.location}.",
            f"{reason(error)}.",
            "Free some room or name another folder with --store, or set CLOUDRUN_HOME.",
        )


def read_bytes(path: Path, name: str) -> bytes:
    """Read a file, as far as a report can be long, and one byte more; `name` is for errors.

    Raises:
        BadData: it cannot be read.
    """
    try:
        # Not a pipe and not a device: they may have no end.
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "There is no such file", str(path))
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadData(
            f"The report {name} cannot be read.", f"{reason(error)}.", "See: cloudrun report list"
        ) from error


def reason(error: BaseException) -> str:
    """The system's own word for what is wrong: `No space left on device`."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    quoted = re.search(r'message: "([^"]+)"', str(error))
    return quoted[1] if quoted else str(error).splitlines()[0].rstrip(".")
