"""Collect reports into a store: from files, folders, zip files, buckets and standard input.

Nothing is unpacked to disk, no link in a folder is followed, and no zip file in
a zip file is opened. One document is in memory at a time.
"""

from __future__ import annotations

import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

from cloudrun.errors import BadData
from cloudrun.notebooks.read import MOST_BYTES, harvest
from cloudrun.reports.bucket import SCHEMES
from cloudrun.reports.build import complete
from cloudrun.reports.schema import Report
from cloudrun.reports.store import Store, open_store

_SUFFIXES = (".ipynb", ".json", ".jsonl", ".log", ".txt", ".zip")
_MOST_FILES = 100_000
_MOST_ZIP_BYTES = 2**30
_MOST_DIRECTORY_BYTES = 16 * 2**20
_MOST_UNPACKED_BYTES = 2 * 2**30
# LZMA and its like can ask for gigabytes before the first byte comes out.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# A zip file's end: the record itself, what may follow it, and its larger kind before it
# (PKWARE's APPNOTE.TXT, 4.3.14 to 4.3.16).
_END, _END_BYTES, _MOST_COMMENT = b"PK\x05\x06", 22, 65535
_END64, _END64_BYTES, _LOCATOR_BYTES = b"PK\x06\x06", 56, 20
# The providers of reports that were made without the catalogue.
_NOTEBOOKS = ("colab", "kaggle", "jupyter")


class Document(NamedTuple):
    """One thing to look into: what it is called, and its content or why there is none."""

    name: str
    data: bytes
    problem: BadData | None = None


class Row(NamedTuple):
    """What became of one report, or of one document without any.

    `source` is what the user named, `document` the file or entry within. `path` is
    where the report lies in the store.
    """

    source: str
    document: str
    status: Literal["stored", "known", "skipped"]
    report: Report | None = None
    path: str | None = None
    problem: BadData | None = None


def collect(sources: Iterable[str], store: Store) -> Iterator[Row]:
    """Look through sources in order and store each report that the store does not have.

    Args:
        sources: Paths of files and folders, and URLs of buckets; `-` is standard input.
        store: Where the reports go.

    Raises:
        CloudrunError: the store cannot be written, or a bucket cannot be read.
    """
    known = _known(store)
    for source in sources:
        for document in _documents(source):
            if document.problem is not None:
                yield Row(source, document.name, "skipped", problem=document.problem)
                continue
            found = harvest(document.data, document.name)
            for report in found.reports:
                yield _keep(report, source, document.name, store, known)
            for problem in found.problems:
                yield Row(source, document.name, "skipped", problem=problem)


def _known(store: Store) -> dict[str, str]:
    """The paths of the reports in the store, by their ids."""
    return {entry.id: entry.path for entry in store.identified(store.entries()) if entry.id}


def _keep(report: Report, source: str, name: str, store: Store, known: dict[str, str]) -> Row:
    if report.id in known:
        return Row(source, name, "known", report, known[report.id])
    if report.machine.provider in _NOTEBOOKS:
        report = complete(report)
    try:
        known[report.id] = store.add(report)
    except BadData:
        # Another cloudrun was faster.
        return Row(source, name, "known", report)
    return Row(source, name, "stored", report, known[report.id])


def _documents(source: str) -> Iterator[Document]:
    if source == "-":
        data = sys.stdin.buffer.read(MOST_BYTES + 1)
        yield from _opened("standard input", data)
        return
    if source.partition("://")[0] in SCHEMES:
        yield from _bucket(open_store(source))
        return
    path = Path(source)
    if "://" in source and not path.exists():
        yield _problem(source, f"{source} is no file.", "", "Download it first.")
        return
    try:
        if path.is_dir():
            yield from _folder(path)
        else:
            yield from _file(path)
    except OSError as error:
        yield _problem(source, f"{source} cannot be read.", f"{error.strerror or error}.")


def _problem(name: str, what: str, why: str = "", try_this: str = "") -> Document:
    return Document(name, b"", BadData(what, why, try_this))


def _bucket(store: Store) -> Iterator[Document]:
    """The reports of another store."""
    for entry in store.entries():
        name = f"{store.url}/{entry.path}"
        try:
            yield Document(name, store.read_whole(entry)[1])
        except BadData as error:
            yield Document(name, b"", error)


def _folder(folder: Path) -> Iterator[Document]:
    """What may hold a report in a folder and those below it, but for hidden ones."""
    count = 0
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(base, name)
            if not name.lower().endswith(_SUFFIXES):
                continue
            count += 1
            if count > _MOST_FILES:
                what = f"There are more than {_MOST_FILES} files in {folder}."
                yield _problem(str(folder), what, "The rest was not looked at.", "Name a part.")
                return
            try:
                yield from _file(path, follow=False)
            except OSError as error:
                yield _problem(str(path), f"{path} cannot be read.", f"{error.strerror}.")


def _file(path: Path, follow: bool = True) -> Iterator[Document]:
    name = str(path)
    status = path.stat() if follow else path.lstat()
    if stat.S_ISLNK(status.st_mode):
        yield _problem(name, f"{name} is a link.", "Links in a folder are not followed.")
        return
    if not stat.S_ISREG(status.st_mode):
        # A pipe or a device may have no end.
        yield _problem(name, f"{name} is no file.", "", "Feed it in: cloudrun collect -")
        return
    with path.open("rb") as file:
        if file.read(4).startswith(b"PK"):
            yield from _zip(file, name)
            return
        file.seek(0)
        data = file.read(MOST_BYTES + 1)
    yield Document(name, data)


def _opened(name: str, data: bytes) -> Iterator[Document]:
    if data.startswith(b"PK"):
        from io import BytesIO

        yield from _zip(BytesIO(data), name)
    else:
        yield Document(name, data)


def _zip(file: IO[bytes], name: str) -> Iterator[Document]:
    """The entries of a zip file that may hold a report."""
    if not _is_modest(file):
        what = f"{name} has no directory as a zip file has, or one that is far too large."
        yield _problem(name, what, "", "Unpack it yourself, and collect the folder.")
        return
    left = _MOST_UNPACKED_BYTES
    try:
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                if entry.is_dir() or not entry.filename.lower().endswith(_SUFFIXES):
                    continue
                document = _entry(archive, entry, f"{name}: {entry.filename}", left)
                left -= len(document.data)
                yield document
                if left <= 0:
                    what = f"{name} unpacks to more than {_MOST_UNPACKED_BYTES // 2**30} GiB."
                    yield _problem(name, what, "The rest was not looked at.")
                    return
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        yield _problem(name, f"{name} is a damaged zip file.", f"{str(error).rstrip('.')}.")


def _is_modest(file: IO[bytes]) -> bool:
    """Whether a zip file's directory, which Python reads as a whole, is of reasonable size."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _MOST_COMMENT - _END_BYTES - _LOCATOR_BYTES - _END64_BYTES))
    tail = file.read()
    file.seek(0)
    # Python takes a record at the very end first, then the last one that looks like one.
    at_end = tail[-_END_BYTES:].startswith(_END) and tail.endswith(b"\0\0")
    end = len(tail) - _END_BYTES if at_end else tail.rfind(_END)
    if end < 0 or length > _MOST_ZIP_BYTES:
        return False
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    larger = end - _LOCATOR_BYTES - _END64_BYTES
    if larger >= 0 and tail[larger:].startswith(_END64):
        size = int.from_bytes(tail[larger + 40 : larger + 48], "little")
    return size <= _MOST_DIRECTORY_BYTES


def _entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, left: int) -> Document:
    if entry.filename.lower().endswith(".zip"):
        return _problem(name, f"{name} is a zip file in a zip file.", "", "Unpack the outer one.")
    if entry.compress_type not in _METHODS:
        return _problem(name, f"{name} is packed in an uncommon way.", "", "Unpack it yourself.")
    if entry.flag_bits & 1:
        return _problem(name, f"{name} is encrypted.", "", "Unpack it yourself.")
    try:
        with archive.open(entry) as opened:
            return Document(name, opened.read(min(MOST_BYTES + 1, left)))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        return _problem(name, f"{name} is damaged.", f"{str(error).rstrip('.')}.")
