"""Files as a tar stream: written fast out of a folder, and read with suspicion into one.

Writing: the headers are tarfile's (GNU format), the contents are read in large
pieces and handed on as they are. Reading: an archive from a machine is
untrusted. It is unpacked below one folder, within limits, never through a link,
and each file gets its name when it is complete. What no honest machine sends
is an error (`BadData`); what an honest one may have and this computer should
not make, such as a link that leads out, is left out with a note.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import queue
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from cloudrun.errors import BadData, BadSettings, Unavailable
from cloudrun.hosts.manifest import (
    Entry,
    Kind,
    Manifest,
    Stamp,
    leads_out,
    shown,
    stamp_of,
    unreadable,
)

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
# What a packet of SSH holds here (OpenSSH's limit less what paramiko takes off), and a
# multiple of it that is large enough for a read to cost little.
_PACKET = 2**15 - 64
_READ = 8 * _PACKET
# Pieces that are read ahead, and the size of a file that is worth a thread for it.
_AHEAD, _WORTH_A_THREAD = 4, 4 * 2**20
# How many files tell whether a folder shrinks, and how much of each.
_SAMPLES, _SAMPLE = 8, 2**16
# Where a stale folder of unfinished files may be removed: nobody has written to it for a day.
_STALE_S = 86400
_PARTS = ".cloudrun-part-"
_LONGEST_NAME = 2**15
_ENOUGH_FREE = 2**24
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?")
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]|[. ]$')

Write = Callable[[bytes], object]


@dataclass(frozen=True)
class Written:
    """What went into an archive.

    Attributes:
        entries: The entries as they were sent: with the digest and size of what was read. A
            file that changed meanwhile has no digest, one that had vanished is missing.
        stamps: What the files were like when they were read.
        size: The bytes of the archive before compression.
        notes: What did not go as planned, a sentence each.
    """

    entries: Manifest = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)
    size: int = 0
    notes: list[str] = field(default_factory=list)


class Writer:
    """Writes an archive to a callable; small pieces are gathered, large ones pass through."""

    def __init__(self, write: Write, packed: bool = False) -> None:
        self._sink = write
        self._gathered = bytearray()
        self._zip = zlib.compressobj(1, wbits=31) if packed else None
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        """Write some bytes."""
        self.size += len(data)
        if self._zip:
            data = self._zip.compress(data)
        if len(self._gathered) + len(data) < _PACKET:
            self._gathered += data
            return
        if self._gathered:
            fill = _PACKET - len(self._gathered)
            self._gathered += data[:fill]
            data = memoryview(data)[fill:]
            self._flush()
        if len(data) >= _PACKET:
            self._sink(data)  # type: ignore[arg-type]
        else:
            self._gathered += data

    def add_bytes(self, name: str, data: bytes) -> None:
        """Write a file that is not on the disk."""
        self.add(_header(name, tarfile.REGTYPE, 0o644, len(data)))
        self.add(data + bytes(-len(data) % _BLOCK))

    def end(self) -> None:
        """Write the end of the archive."""
        self.add(_END)
        if self._zip:
            self._gathered += self._zip.flush()
        self._flush()

    def _flush(self) -> None:
        if self._gathered:
            self._sink(bytes(self._gathered))
            self._gathered.clear()


def shrinks(root: Path, entries: Iterable[Entry]) -> bool:
    """Whether compression is worth its time: the largest files tell, by a piece of each."""
    files = sorted(entries, key=lambda entry: entry.size, reverse=True)[:_SAMPLES]
    pieces = b"".join(_piece(root, entry) for entry in files if entry.kind is Kind.FILE)
    return len(zlib.compress(pieces, 1)) < 0.9 * len(pieces)


def _piece(root: Path, entry: Entry) -> bytes:
    """Some bytes out of the middle of a file; none, where it cannot be read."""
    try:
        opened = _open_file(root / entry.path)
    except OSError:
        return b""
    if opened is None:
        return b""
    fd, status = opened
    with os.fdopen(fd, "rb") as file:
        file.seek(max(0, status.st_size - _SAMPLE) // 2)
        return file.read(_SAMPLE)


def write_entries(
    writer: Writer,
    root: Path,
    entries: Iterable[Entry],
    prefix: str = "",
    progress: Callable[[int], object] = lambda _count: None,
) -> Written:
    """Write entries of a folder into an archive.

    Args:
        writer: The archive.
        root: The folder.
        entries: What to write; folders before what is in them.
        prefix: What to put before each name.
        progress: Told how many bytes of contents have gone since it was told last.

    Raises:
        AccessDenied: a file cannot be read. The archive is not complete then.
    """
    done = Written()
    for entry in entries:
        if entry.kind is Kind.FILE:
            _write_file(writer, root, entry, prefix, done, progress)
            continue
        kind = tarfile.DIRTYPE if entry.kind is Kind.FOLDER else tarfile.SYMTYPE
        mode = entry.mode if entry.kind is Kind.FOLDER else 0o777
        writer.add(_header(prefix + entry.path, kind, mode, 0, time.time(), entry.target))
        done.entries[entry.path] = entry
    return done


def _write_file(
    writer: Writer,
    root: Path,
    entry: Entry,
    prefix: str,
    done: Written,
    progress: Callable[[int], object],
) -> None:
    try:
        opened = _open_file(root / entry.path)
    except FileNotFoundError:
        done.notes.append(f"{shown(entry.path)} vanished before it was sent.")
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise unreadable(entry.path, error) from error
        opened = None
    if opened is None:
        done.notes.append(f"{shown(entry.path)} is no file any more: left out.")
        return
    fd, status = opened
    try:
        size = status.st_size
        writer.add(_header(prefix + entry.path, tarfile.REGTYPE, entry.mode, size, status.st_mtime))
        digest = _copy(writer, fd, entry.path, size, progress)
        after = stamp_of(os.fstat(fd))
    finally:
        os.close(fd)
    if digest is None or after != stamp_of(status):
        done.notes.append(f"{shown(entry.path)} changed while it was sent: send it again.")
        digest = ""
    done.entries[entry.path] = replace(entry, size=size, digest=digest)
    done.stamps[entry.path] = after


def _open_file(path: Path) -> tuple[int, os.stat_result] | None:
    """Open a file for reading, and only a file: no link is followed, no pipe waited for."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    fd = os.open(path, flags)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return fd, status
    os.close(fd)
    return None


def _copy(
    writer: Writer, fd: int, path: str, size: int, progress: Callable[[int], object]
) -> str | None:
    """Copy exactly `size` bytes; a file that has fewer is filled up. None: it had fewer."""
    digest = hashlib.sha256()
    left = size
    pieces = _pieces if size < _WORTH_A_THREAD else _pieces_ahead
    try:
        for data in pieces(fd, size, digest):
            writer.add(data)
            left -= len(data)
            progress(len(data))
    except _Unreadable as error:
        raise unreadable(path, error.cause) from error
    is_whole = left == 0
    while left:
        fill = min(left, _READ)
        writer.add(bytes(fill))
        left -= fill
    writer.add(bytes(-size % _BLOCK))
    return digest.hexdigest() if is_whole else None


class _Unreadable(Exception):
    """A file that is open cannot be read on."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


def _pieces(fd: int, size: int, digest: hashlib._Hash) -> Iterator[bytes]:
    """The file's bytes, `size` at most, taken into the digest as they are read."""
    while size:
        try:
            data = os.read(fd, min(size, _READ))
        except OSError as error:
            raise _Unreadable(error) from error
        if not data:
            return
        digest.update(data)
        yield data
        size -= len(data)


def _pieces_ahead(fd: int, size: int, digest: hashlib._Hash) -> Iterator[bytes]:
    """The same, read and digested in a thread while what came before is sent."""
    read: queue.Queue[bytes | _Unreadable] = queue.Queue(_AHEAD)
    over = threading.Event()

    def run() -> None:
        try:
            for data in _pieces(fd, size, digest):
                read.put(data)
                if over.is_set():
                    return
            read.put(b"")
        except _Unreadable as error:
            read.put(error)

    reader = threading.Thread(target=run, daemon=True, name="read-ahead")
    reader.start()
    try:
        while data := read.get():
            if isinstance(data, _Unreadable):
                raise data
            yield data
    finally:
        # The file is closed after this, so nobody may be reading it.
        over.set()
        while reader.is_alive():
            with contextlib.suppress(queue.Empty):
                read.get(timeout=0.05)
            reader.join(0.01)


def _header(
    name: str, kind: bytes, mode: int, size: int, mtime: float = 0, target: str = ""
) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.linkname = kind, mode, size, target
    # Times before 1970 have no place in the format's plain numbers.
    info.mtime = max(0, int(mtime))
    encoding, errors = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
    return info.tobuf(tarfile.GNU_FORMAT, encoding, errors)


@dataclass(frozen=True)
class Limits:
    """How much an archive from a machine may hold."""

    bytes: int
    members: int


@dataclass
class Extracted:
    """What came out of an archive: how many files, their bytes, and what was left out and why."""

    files: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Member:
    """One member of an archive, its name made safe: its parts, from the folder."""

    parts: tuple[str, ...]
    kind: Kind
    mode: int
    size: int
    mtime: float
    target: str

    @property
    def path(self) -> str:
        return "/".join(self.parts)


def extract(
    chunks: Iterable[bytes],
    folder: Path,
    limits: Limits,
    *,
    packed: bool = False,
    windows: bool = os.name == "nt",
    folds_case: bool = os.name == "nt" or sys.platform == "darwin",
) -> Extracted:
    """Unpack an untrusted tar stream below a folder.

    It is read to the archive's end and no further. What was complete before
    something went wrong stays.

    Args:
        chunks: The stream, in pieces as they come.
        folder: Where to; made if it is not there.
        limits: How much it may hold.
        packed: Whether it is compressed with gzip.
        windows: Whether names must suit Windows.
        folds_case: Whether `A` and `a` are one name here.

    Raises:
        BadData: the archive is damaged, cut off, too large, or no honest machine made it.
        Unavailable: the disk is full.
        BadSettings: something here is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        _sweep(folder)
        parts = Path(tempfile.mkdtemp(prefix=_PARTS, dir=folder))
    except OSError as error:
        raise _cannot_write(folder, error) from error
    done = Extracted()
    stream = _Stream(_unpacked(chunks) if packed else iter(chunks))
    seen: dict[str, _Member] = {}
    made: set[Path] = set()
    try:
        for member in _members(stream, limits, windows, done):
            if _is_wanted(member, seen, folds_case, done):
                _place(member, stream, folder, parts, made, done)
            else:
                stream.skip(member.size)
            stream.skip(-member.size % _BLOCK)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return done


def _members(stream: _Stream, limits: Limits, windows: bool, done: Extracted) -> Iterator[_Member]:
    """Give the members up to the archive's end; the contents are for the caller to read."""
    long: dict[str, str] = {}
    count = total = 0
    while True:
        header = stream.read(_BLOCK)
        if not any(header):
            return
        try:
            info = tarfile.TarInfo.frombuf(header, sys.getfilesystemencoding(), "surrogateescape")
        except tarfile.HeaderError as error:
            raise BadData("An archive from the machine is damaged.", f"{error}.") from error
        count += 1
        if info.size < 0:
            raise BadData("An archive from the machine is damaged.", "A size is negative.")
        if count > limits.members:
            raise BadData(
                f"An archive from the machine has more than {limits.members} members.",
                "It was read no further.",
            )
        if info.type in _EXTRA:
            _read_extra(stream, info, long)
            continue
        info.name = long.pop("path", info.name)
        info.linkname = long.pop("linkpath", info.linkname)
        info.size = int(long.pop("size", info.size))
        long.clear()
        total += info.size
        if total > limits.bytes:
            raise BadData(
                f"An archive from the machine holds more than {limits.bytes} bytes.",
                "It was read no further.",
            )
        member = _checked(info, windows, done)
        if member is None:
            stream.skip(info.size + -info.size % _BLOCK)
        else:
            yield member


_EXTRA = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)


def _read_extra(stream: _Stream, info: tarfile.TarInfo, long: dict[str, str]) -> None:
    """Read a member that only says more about the next one: a long name, or POSIX's records."""
    if info.size > _LONGEST_NAME:
        raise BadData("An archive from the machine has a name of absurd length.")
    data = stream.read(info.size)
    stream.skip(-info.size % _BLOCK)
    if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
        long[key] = _decoded(data.partition(b"\0")[0])
    elif info.type == tarfile.XHDTYPE:
        long.update(_records(data))


def _records(data: bytes) -> dict[str, str]:
    """The records of a POSIX extended header that matter: `LENGTH KEY=VALUE\\n`."""
    found: dict[str, str] = {}
    while data:
        digits, _, _ = data.partition(b" ")
        length = int(digits) if digits.isdigit() and len(digits) < 6 else 0
        key, is_there, value = data[len(digits) + 1 : length - 1].partition(b"=")
        if not is_there or length > len(data):
            raise BadData("An archive from the machine is damaged.", "A header makes no sense.")
        if key in (b"path", b"linkpath"):
            found[key.decode()] = _decoded(value)
        elif key == b"size" and value.isdigit():
            found["size"] = value.decode()
        elif key.startswith(b"GNU.sparse"):
            raise BadData("An archive from the machine has a file with holes, which is not read.")
        data = data[length:]
    return found


def _decoded(name: bytes) -> str:
    return name.decode(sys.getfilesystemencoding(), "surrogateescape")


def _checked(info: tarfile.TarInfo, windows: bool, done: Extracted) -> _Member | None:
    """Judge a member by its words; None: it is left out, and a note says so.

    Raises:
        BadData: no honest machine sends it.
    """
    name = shown(info.name)
    if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
        kind = Kind.FILE
    elif info.isdir():
        kind = Kind.FOLDER
    elif info.issym():
        kind = Kind.LINK
    else:
        what = "a hard link" if info.islnk() else "a device, a pipe or worse"
        raise BadData(f"An archive from the machine has {what}: {name}.")
    if kind is not Kind.FILE and info.size:
        raise BadData(f"An archive from the machine is damaged: {name} cannot have contents.")
    parts = tuple(part for part in info.name.split("/") if part not in ("", "."))
    if info.name.startswith("/") or ".." in parts or "\0" in info.name:
        raise BadData(f"An archive from the machine leads out of its folder: {name}.")
    if any(part.startswith(_PARTS) for part in parts):
        raise BadData(f"An archive from the machine has a name that is ours: {name}.")
    if windows:
        parts = tuple(_suited(part) for part in parts)
    if kind is Kind.LINK and not _stays_in(parts, info.linkname):
        path = shown("/".join(parts))
        done.notes.append(f"{path} leads out of its folder, to {shown(info.linkname)}: left out.")
        return None
    if not parts and kind is not Kind.FOLDER:
        raise BadData("An archive from the machine has a file without a name.")
    # Neither setuid and its like nor others' right to write come along.
    mode = info.mode & 0o755 | 0o600
    return _Member(parts, kind, mode, info.size, info.mtime, info.linkname)


def _stays_in(parts: tuple[str, ...], target: str) -> bool:
    """Whether a link stays in the folder.

    `..` may only begin its words: behind a name that is a link itself it would
    lead to another place than the words say.
    """
    words = [word for word in target.split("/") if word not in ("", ".")]
    ups = words.count("..")
    return not leads_out("/".join(parts), target) and ".." not in words[ups:]


def _suited(part: str) -> str:
    """A name that Windows can have: what it forbids is written as in an address, `%3A`."""
    part = _FORBIDDEN.sub(lambda found: f"%{ord(found[0]):02X}", part)
    part = part.encode("utf-8", "backslashreplace").decode().replace("\\", "%")
    if _RESERVED.fullmatch(part):
        part = f"%{ord(part[0]):02X}{part[1:]}"
    return part


def _is_wanted(
    member: _Member, seen: dict[str, _Member], folds_case: bool, done: Extracted
) -> bool:
    """Whether the archive had no such name yet; folders may come again."""
    before = seen.setdefault(member.path.casefold() if folds_case else member.path, member)
    if before is member or before.kind is member.kind is Kind.FOLDER:
        return True
    if before.path == member.path:
        raise BadData(f"An archive from the machine has {shown(member.path)} twice.")
    done.notes.append(
        f"{shown(member.path)} and {shown(before.path)} are one name on this computer: "
        "the first is kept."
    )
    return False


def _place(
    member: _Member, stream: _Stream, folder: Path, parts: Path, made: set[Path], done: Extracted
) -> None:
    """Put a member where it belongs; a file is complete before it gets its name."""
    above = member.parts if member.kind is Kind.FOLDER else member.parts[:-1]
    at = folder
    for name in above:
        at = at / name
        if at not in made:
            _make_folder(at, member.mode if at == folder.joinpath(*member.parts) else 0o755)
            made.add(at)
    if member.kind is Kind.FOLDER:
        return
    path, part = folder.joinpath(*member.parts), parts / "part"
    if _is_folder(path):
        raise BadSettings(f"{path} is a folder here and none on the machine.", "", "Move it away.")
    if member.kind is Kind.FILE:
        _receive_file(member, stream, part)
        done.files += 1
        done.bytes += member.size
    elif not _make_link(member, part, done):
        return
    os.replace(part, path)


def _make_folder(path: Path, mode: int) -> None:
    """Make a folder, or see that there is one and not a link: nothing is written through links."""
    try:
        path.mkdir(mode=mode | 0o700)
    except FileExistsError:
        if not _is_folder(path):
            raise BadData(
                f"{path} is a folder on the machine, and here it is none.",
                "Nothing is written through a link.",
                "Move it away.",
            ) from None


def _is_folder(path: Path) -> bool:
    """Whether there is a folder, and not something that leads to one."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    # Windows has other things than links that lead elsewhere (junctions).
    elsewhere = getattr(status, "st_file_attributes", 0) & 0x400
    return stat.S_ISDIR(status.st_mode) and not elsewhere


def _receive_file(member: _Member, stream: _Stream, part: Path) -> None:
    free = shutil.disk_usage(part.parent).free
    if member.size + _ENOUGH_FREE > free:
        raise _disk_full(part.parent.parent)
    with part.open("xb", buffering=0) as file:
        for piece in stream.pieces(member.size):
            while piece:
                piece = piece[file.write(piece) :]
        if hasattr(os, "fchmod"):
            os.fchmod(file.fileno(), member.mode)
    with contextlib.suppress(OSError, OverflowError, ValueError):
        os.utime(part, (member.mtime, member.mtime))


def _make_link(member: _Member, part: Path, done: Extracted) -> bool:
    try:
        part.symlink_to(member.target)
    except OSError as error:
        # Windows asks for a right that few have.
        done.notes.append(f"{shown(member.path)} is a link, which cannot be made here ({error}).")
        return False
    return True


class _Stream:
    """A stream that comes in pieces of any length, read in the lengths that are wanted."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def pieces(self, count: int) -> Iterator[memoryview]:
        """Give the next `count` bytes, in pieces, without a copy."""
        while count:
            if not self._rest:
                self._rest = memoryview(self._next())
            piece, self._rest = self._rest[:count], self._rest[count:]
            count -= len(piece)
            yield piece

    def read(self, count: int) -> bytes:
        """The next `count` bytes, in one."""
        return b"".join(self.pieces(count))

    def skip(self, count: int) -> None:
        """Read and forget."""
        for _ in self.pieces(count):
            pass

    def _next(self) -> bytes:
        for chunk in self._chunks:
            if chunk:
                return chunk
        raise BadData("An archive from the machine is cut off.", "Its end never came.")


def _unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Undo gzip, a bounded piece at a time whatever it grows to."""
    unzip = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        data = chunk
        while True:
            try:
                out = unzip.decompress(data, _READ)
            except zlib.error as error:
                raise BadData("An archive from the machine is damaged.", f"{error}.") from error
            data = unzip.unconsumed_tail
            yield out
            if unzip.eof:
                return
            if not data and len(out) < _READ:
                break


def _sweep(folder: Path) -> None:
    """Remove what a client that was killed long ago left unfinished."""
    for stale in folder.glob(_PARTS + "*"):
        with contextlib.suppress(OSError):
            if stale.lstat().st_mtime < time.time() - _STALE_S:
                shutil.rmtree(stale)


def _cannot_write(folder: Path, error: OSError) -> BadSettings | Unavailable:
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return _disk_full(folder)
    return BadSettings(
        f"What comes from the machine cannot be written to {folder}.",
        f"{error}.",
        "Look at the folder's permissions.",
    )


def _disk_full(folder: Path) -> Unavailable:
    return Unavailable(
        f"The disk of {folder} is full.",
        "What comes from the machine does not fit.",
        "Make room and try again: nothing on the machine is lost.",
    )
