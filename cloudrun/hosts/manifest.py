"""What a folder holds, as data: scanned here, kept on the machine, and the difference of the two.

Left out of a scan: what `.gitignore` and `.cloudrunignore` name, `.git`,
virtual environments, `__pycache__`, and what the caller names. Links are kept
as links, also those that lead out of the folder; a note says so, since what
they lead to stays at home. Sockets, pipes and devices are left out with a note;
a file that cannot be read is an error, because to leave it out in silence
would remove it on the machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path, PurePosixPath

import msgspec

from cloudrun.errors import AccessDenied, BadData, BadSettings
from cloudrun.hosts.ignore import Level, ignored_by, levels_above, levels_in

_NAMES_LEFT_OUT = (".git", "__pycache__")
_ENVIRONMENT = "pyvenv.cfg"
_MAGIC = b"cloudrun.manifest/v1"
_READ = 2**20
# A file that changed so short a time before it was read may change again and keep its times:
# the coarsest clock of a file system in use counts in steps of two seconds.
_RACY_NS = 2_000_000_000


class Kind(Enum):
    """What an entry is."""

    FILE = "f"
    FOLDER = "d"
    LINK = "l"


@dataclass(frozen=True)
class Entry:
    """One thing in a folder.

    Attributes:
        path: Where it is, from the folder, with `/`; bytes that are no UTF-8 as surrogates.
        kind: A file, a folder or a link.
        mode: Its permission bits; 0 for a link.
        size: A file's size in bytes.
        digest: A file's SHA-256 in hex; empty while it is not known.
        target: What a link says.
    """

    path: str
    kind: Kind
    mode: int = 0
    size: int = 0
    digest: str = ""
    target: str = ""


Manifest = dict[str, Entry]


@dataclass(frozen=True)
class Stamp:
    """What tells that a file has not changed since it was read."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class Known(msgspec.Struct, frozen=True, array_like=True):
    """A digest in the cache, and the stamp of the file that it belongs to."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    digest: str


@dataclass
class Ignored:
    """What was left out by ignore files: how many files, folders as a whole, and by which files."""

    files: int = 0
    folders: int = 0
    by: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Scan:
    """A folder as it is: its entries, the stamps of its files, and what was left out and why."""

    entries: Manifest
    stamps: dict[str, Stamp]
    notes: list[str] = field(default_factory=list)
    ignored: Ignored = field(default_factory=Ignored)


@dataclass(frozen=True)
class Difference:
    """What to do there so that it becomes as it is here.

    Attributes:
        send: Files and links to send, and folders to make.
        chmod: Files and folders of which only the mode has changed.
        remove: What is here no more.
    """

    send: list[Entry]
    chmod: list[Entry]
    remove: list[Entry]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.send or self.chmod or self.remove)


def scan(
    root: Path, leave_out: Collection[str] = (), cache: Mapping[str, Known] | None = None
) -> Scan:
    """Look at a folder; no file is read: digests are those that the cache knows.

    Args:
        root: The folder.
        leave_out: Paths from the folder to leave out besides, such as `results`.
        cache: What `read_cache` gave.

    Raises:
        BadSettings: there is no such folder.
        AccessDenied: a part of it cannot be read.
    """
    if not root.is_dir():
        raise BadSettings(f"There is no folder {root}.")
    found = Scan({}, {})
    names = frozenset(PurePosixPath(name.replace(os.sep, "/")).as_posix() for name in leave_out)
    _look_into(root, "", levels_above(root), names, cache or {}, found)
    return found


def _look_into(
    root: Path,
    prefix: str,
    above: list[Level],
    leave_out: frozenset[str],
    cache: Mapping[str, Known],
    found: Scan,
) -> None:
    try:
        with os.scandir(root / prefix) as opened:
            inside = sorted(opened, key=lambda item: item.name)
    except OSError as error:
        raise unreadable(prefix or str(root), error) from error
    levels = [*levels_in(root / prefix, depth=len(prefix)), *above]
    for item in inside:
        path = prefix + item.name
        is_folder = item.is_dir(follow_symlinks=False)
        if item.name in _NAMES_LEFT_OUT or path in leave_out:
            continue
        if by := ignored_by(path, is_folder, levels):
            _count(found.ignored, is_folder, by)
            continue
        if is_folder and os.path.exists(os.path.join(item.path, _ENVIRONMENT)):
            continue
        _add(item, path, cache, found)
        if is_folder:
            _look_into(root, path + "/", levels, leave_out, cache, found)


def _count(ignored: Ignored, is_folder: bool, by: str) -> None:
    ignored.by.add(by)
    if is_folder:
        ignored.folders += 1
    else:
        ignored.files += 1


def _add(item: os.DirEntry[str], path: str, cache: Mapping[str, Known], found: Scan) -> None:
    try:
        status = item.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            stamp = stamp_of(status)
            digest = _digest_from(cache, path, stamp)
            mode = _mode(item.path, status)
            entry = Entry(path, Kind.FILE, mode, status.st_size, digest)
            found.stamps[path] = stamp
        elif stat.S_ISDIR(status.st_mode):
            entry = Entry(path, Kind.FOLDER, _folder_mode(status))
        elif stat.S_ISLNK(status.st_mode):
            entry = Entry(path, Kind.LINK, target=_target(item.path))
            if leads_out(path, entry.target):
                found.notes.append(
                    f"{shown(path)} leads to {shown(entry.target)}, out of the folder: "
                    "the link is kept, what it leads to is not sent."
                )
        else:
            found.notes.append(f"{shown(path)} is no file, folder or link: left out.")
            return
    except FileNotFoundError:
        # Gone since the folder was listed: it is not there.
        return
    except OSError as error:
        raise unreadable(path, error) from error
    found.entries[path] = entry


def _mode(path: str, status: os.stat_result) -> int:
    if os.name != "nt":
        return status.st_mode & 0o777
    # Windows has no such bits; what says how it is run wants to be run.
    with open(path, "rb") as file:
        return 0o755 if file.read(2) == b"#!" else 0o644


def _folder_mode(status: os.stat_result) -> int:
    # Without its owner's rights nothing could be put into it, there as here.
    return 0o755 if os.name == "nt" else status.st_mode & 0o777 | 0o700


def _target(path: str) -> str:
    target = os.readlink(path)
    return target.replace("\\", "/") if os.name == "nt" else target


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def leads_out(path: str, target: str) -> bool:
    """Whether a link at a path leads out of the folder, taken by its words alone."""
    if target.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", target):
        return True
    depth = path.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else 0 if part in ("", ".") else 1
        if depth < 0:
            return True
    return False


def digest_of(root: Path, path: str) -> str:
    """A file's SHA-256 in hex, read anew.

    Raises:
        AccessDenied: it cannot be read.
    """
    try:
        with open(root / path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> AccessDenied:
    """The error for what cannot be read."""
    return AccessDenied(
        f"{shown(path)} cannot be read.",
        f"{error.strerror or error}.",
        "Give yourself the right to read it, or name it in .cloudrunignore.",
    )


def shown(path: str) -> str:
    """A path for a message: no line breaks or control characters, and no broken UTF-8."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)


def difference(root: Path, here: Manifest, there: Manifest, lost: Collection[str]) -> Difference:
    """Compare a folder with what the machine is known to hold.

    A file of the same size whose digest is not known is read; its entry in
    `here` gets the digest.

    Args:
        root: The folder.
        here: Its entries.
        there: The machine's, as they were kept.
        lost: The paths of those that have changed or vanished there since.
    """
    send: list[Entry] = []
    chmod: list[Entry] = []
    for path, entry in here.items():
        kept = there.get(path)
        if kept is None or path in lost or kept.kind is not entry.kind:
            send.append(entry)
            continue
        if not entry.digest and kept.digest and entry.size == kept.size:
            entry = here[path] = replace(entry, digest=digest_of(root, path))
        if _is_same(entry, kept):
            if entry.mode != kept.mode:
                chmod.append(entry)
        else:
            send.append(entry)
    return Difference(send, chmod, [kept for path, kept in there.items() if path not in here])


def _is_same(entry: Entry, kept: Entry) -> bool:
    if entry.kind is Kind.FILE:
        return bool(entry.digest) and (entry.size, entry.digest) == (kept.size, kept.digest)
    return entry.target == kept.target


def encode(manifest: Manifest) -> bytes:
    """A manifest as bytes: one line with a digest of the rest, then the entries, sorted."""
    ordered = sorted(manifest.values(), key=lambda entry: entry.path)
    body = b"".join(
        os.fsencode(
            f"{entry.kind.value} {entry.mode:o} {entry.size} {entry.digest or '-'} "
            f"{entry.path}\0{entry.target}\0"
        )
        for entry in ordered
    )
    return b"%b %b\n%b" % (_MAGIC, hashlib.sha256(body).hexdigest().encode(), body)


def identity(encoded: bytes) -> str:
    """The digest in the first line of an encoded manifest: two are the same if theirs are."""
    return encoded.partition(b"\n")[0].partition(b" ")[2].decode("ascii", "replace")


def decode(encoded: bytes) -> Manifest:
    """Read what `encode` gave.

    Raises:
        BadData: it is damaged, or of another version.
    """
    line, _, body = encoded.partition(b"\n")
    magic, _, digest = line.partition(b" ")
    if magic != _MAGIC or hashlib.sha256(body).hexdigest().encode() != digest:
        raise BadData("The list of what a machine holds is damaged, or of another version.")
    manifest: Manifest = {}
    try:
        fields = os.fsdecode(body).split("\0")
        for head, target in zip(fields[0:-1:2], fields[1::2], strict=True):
            kind, mode, size, digest_here, path = head.split(" ", 4)
            known = "" if digest_here == "-" else digest_here
            manifest[path] = Entry(path, Kind(kind), int(mode, 8), int(size), known, target)
    except ValueError as error:
        raise BadData("The list of what a machine holds makes no sense.", f"{error}.") from error
    return manifest


def read_cache(path: Path) -> dict[str, Known]:
    """Read the digests that are known; a cache that is not there or damaged knows nothing."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Known])
    except (OSError, msgspec.DecodeError, UnicodeError):
        return {}


def write_cache(
    path: Path, entries: Manifest, stamps: Mapping[str, Stamp], read_at_ns: int
) -> None:
    """Keep the digests of files, save those that may have changed in the moment they were read.

    Args:
        path: The cache.
        entries: The files; those without a digest are not kept.
        stamps: What the files were like when they were read.
        read_at_ns: A moment (`time.time_ns`) before the first of them was read.
    """
    known: dict[str, Known] = {}
    for name, stamp in stamps.items():
        entry = entries.get(name)
        newest = max(stamp.mtime_ns, stamp.ctime_ns if os.name != "nt" else 0)
        if entry and entry.digest and newest < read_at_ns - _RACY_NS and _is_text(name):
            known[name] = Known(
                stamp.size, stamp.mtime_ns, stamp.ctime_ns, stamp.inode, entry.digest
            )
    # It saves time and nothing else: where it cannot be kept, files are read again.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(msgspec.msgpack.encode(known))
        os.replace(part, path)


def _digest_from(cache: Mapping[str, Known], path: str, stamp: Stamp) -> str:
    known = cache.get(path)
    if known is None:
        return ""
    kept = Stamp(known.size, known.mtime_ns, known.ctime_ns, known.inode)
    return known.digest if kept == stamp else ""


def _is_text(name: str) -> bool:
    # The cache's format has no surrogates: such a file is read each time.
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
