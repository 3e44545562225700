"""Folders to a machine and back, each a tar stream over one exec channel.

The machine's part is in templates/receive.sh and send.sh: what they keep there,
and what a transfer that is cut off leaves behind, is told at their beginning.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cloudrun.errors import (
    AccessDenied,
    BadData,
    BadSettings,
    CloudrunError,
    HostUnreachable,
    Unavailable,
    WrongUsage,
)
from cloudrun.hosts import scripts
from cloudrun.hosts.archive import Extracted, Limits, Writer, extract, shrinks, write_entries
from cloudrun.hosts.connection import Connection, end_input
from cloudrun.hosts.lean import paramiko
from cloudrun.hosts.manifest import (
    Difference,
    Entry,
    Ignored,
    Kind,
    Manifest,
    Scan,
    decode,
    difference,
    encode,
    identity,
    read_cache,
    scan,
    shown,
    write_cache,
)
from cloudrun.model.events import Listener, Noted

# How long the machine may look through a folder, or move things into place, without a word.
LIMIT_S = 120.0
# How long another push may bring nothing before its lock is taken from it.
PATIENCE_S = 15
# Where a round trip takes longer the link is not a local one, and slower than zlib.
_FAR_S = 0.005
_TRIES = 4
_LONGEST_ANSWER = 2**28
_TAR_IS_CALM = re.compile(
    rb"file changed as we read it|removed before we read it|No such file|socket ignored|^\s*$"
    rb"|Exiting with failure status"
)


@dataclass(frozen=True)
class Pushed:
    """What a push has done: files and bytes sent, things removed there, what was ignored here."""

    files: int = 0
    bytes: int = 0
    removed: int = 0
    ignored: Ignored = field(default_factory=Ignored)


@dataclass(frozen=True)
class Pulled:
    """What a pull has brought: files and bytes, and what was left out and why."""

    files: int = 0
    bytes: int = 0
    notes: list[str] = field(default_factory=list)


def push(
    connection: Connection,
    root: Path,
    remote_folder: str,
    *,
    leave_out: Collection[str] = (),
    cache: Path | None = None,
    listener: Listener = lambda _event: None,
    progress: Callable[[int], object] = lambda _count: None,
) -> Pushed:
    """Bring a folder to the machine; only what has changed since the last push is sent.

    Files that were pushed and that something on the machine has changed or
    removed are sent again; files that were made there stay.

    Args:
        connection: The machine.
        root: The folder here.
        remote_folder: The folder there: absolute, or beginning with `~/`.
        leave_out: Paths from the folder to leave alone, here and there, such as `results`.
        cache: A file of ours that remembers digests, so that what has not changed is not read.
        listener: Told in a sentence each what was left out or changed meanwhile.
        progress: Told how many bytes of contents have gone since it was told last.

    Raises:
        HostUnreachable: the connection was lost; the folder there is as it was, or as it is here.
        Unavailable: the machine's disk is full, or another push to the folder is under way.
        AccessDenied: something cannot be read here, or written there.
        BadSettings: there is no such folder here, or the one there cannot be used.
    """
    _check(remote_folder)
    for _ in range(_TRIES):
        done = _push_once(connection, root, remote_folder, leave_out, cache, listener, progress)
        if done is not None:
            return done
    raise Unavailable(
        f"Others push to {remote_folder} all the time.",
        f"In {_TRIES} tries in turn another push came between.",
    )


def _push_once(
    connection: Connection,
    root: Path,
    remote_folder: str,
    leave_out: Collection[str],
    cache: Path | None,
    listener: Listener,
    progress: Callable[[int], object],
) -> Pushed | None:
    """Push; None when another push came between the look and the sending."""
    began_ns = time.time_ns()
    script = _script("receive.sh", leave_out, folder=remote_folder, patience=str(PATIENCE_S))
    with connection.exchange(script) as channel:
        # The machine looks at its folder while we look at ours.
        here = scan(root, leave_out, read_cache(cache) if cache else {})
        answer = _Answer(connection, channel)
        look = _look(connection, channel, answer, here.entries)
        todo = difference(root, here.entries, look.manifest, look.lost)
        remove = [*todo.remove, *_left_behind(look, here.entries)]
        todo = Difference(todo.send, todo.chmod, remove)
        if todo.is_empty and look.identity != "-" and not look.coming:
            _no_more(channel)
            answer.end()
            done: Pushed | None = Pushed(ignored=here.ignored)
        else:
            done = _send(connection, channel, answer, root, here, look, todo, listener, progress)
    if cache:
        write_cache(cache, here.entries, here.stamps, began_ns)
    for note in here.notes if done else []:
        listener(Noted(note))
    return done


@dataclass(frozen=True)
class _Look:
    """What the machine holds: which manifest, what has been lost, what a cut push began."""

    identity: str
    manifest: Manifest
    lost: Collection[str]
    coming: Manifest


def _look(
    connection: Connection, channel: paramiko.Channel, answer: _Answer, here: Manifest
) -> _Look:
    """Hear what the machine holds; it tells the manifest only where it is not ours."""
    files = (entry for entry in here.values() if entry.kind is Kind.FILE)
    mine = identity(encode(here)) if all(entry.digest for entry in files) else "-"
    connection.send(channel, f"{mine}\n".encode())
    word, _, kept = answer.line().partition(" ")
    lost = _lost(answer) if word == "lost" else None
    line = answer.line()
    manifest = dict(here) if line == "same" else _manifest(answer, line)
    coming = _manifest(answer, answer.line())
    return _Look(kept, manifest, set(manifest) if lost is None else lost, coming)


def _lost(answer: _Answer) -> set[str]:
    """The paths of what has changed or vanished on the machine since the last push."""
    first = answer.exactly(1)
    if first == b"\0":
        return set()
    records = (first + answer.until(b"\0\0")).split(b"\0")
    # type, mode, inode, size, time, path
    return {os.fsdecode(record.split(b" ", 5)[-1]).removeprefix("./") for record in records}


def _manifest(answer: _Answer, line: str) -> Manifest:
    """A manifest that the machine kept; one that is damaged counts as none: all is sent again."""
    _, digest, size = line.split(" ")
    body = answer.exactly(int(size))
    try:
        return decode(b"cloudrun.manifest/v1 %b\n%b" % (digest.encode(), body)) if body else {}
    except BadData:
        return {}


def _left_behind(look: _Look, here: Manifest) -> list[Entry]:
    """What a push that was cut off may have moved into place, and is here no more."""
    return [
        entry
        for path, entry in look.coming.items()
        if path not in here and path not in look.manifest
    ]


def _send(
    connection: Connection,
    channel: paramiko.Channel,
    answer: _Answer,
    root: Path,
    here: Scan,
    look: _Look,
    todo: Difference,
    listener: Listener,
    progress: Callable[[int], object],
) -> Pushed | None:
    packed = connection.round_trip_s > _FAR_S and shrinks(root, todo.send)
    need = sum(entry.size for entry in todo.send)
    order = f"{look.identity} {need} {'-xzpof' if packed else '-xpof'}\n"
    writer = Writer(lambda data: connection.send(channel, data), packed)
    channel.settimeout(LIMIT_S)
    try:
        connection.send(channel, order.encode())
        for name, items in _lists(here.entries, look, todo).items():
            writer.add_bytes(name, b"".join(os.fsencode(item) + b"\0" for item in items))
        written = write_entries(writer, root, todo.send, "files/", progress)
        for entry in todo.send:
            del here.entries[entry.path]
        here.entries.update(written.entries)
        here.stamps.update(written.stamps)
        writer.add_bytes("manifest", encode(here.entries))
        writer.end()
        _no_more(channel)
        verdict = answer.line()
        # To its end, so that it has tidied up.
        answer.end()
    except HostUnreachable:
        # The machine may have said why it closed the channel.
        verdict = answer.last_line()
        if not verdict:
            raise
    verdict = verdict.strip()
    if verdict == "refused again":
        return None
    if verdict != "done":
        raise _refusal(verdict, connection, need)
    for note in written.notes:
        listener(Noted(note))
    files = [entry for entry in written.entries.values() if entry.kind is Kind.FILE]
    sent = sum(entry.size for entry in files)
    return Pushed(len(files), sent, len(todo.remove), here.ignored)


def _lists(here: Manifest, look: _Look, todo: Difference) -> dict[str, list[str]]:
    """What the machine is to do with which names: see `place` in receive.sh."""
    placed = [entry.path for entry in todo.send if entry.kind is not Kind.FOLDER]
    touched = [*placed, *(entry.path for entry in (*todo.send, *todo.remove, *todo.chmod))]
    folders = {above: "===" for path in touched for above in _above(path)}
    for path in folders:
        if path not in here or here[path].kind is not Kind.FOLDER:
            folders[path] = "xxx"
    folders |= {entry.path: f"{entry.mode:03o}" for entry in todo.send if entry.kind is Kind.FOLDER}
    replaced = [
        path for path in placed if path in look.manifest and _is_folder(look.manifest[path])
    ]
    no_more = [*(entry.path for entry in todo.remove if _is_folder(entry)), *replaced]
    return {
        "folders": [f"{folders[path]}./{path}" for path in _in_order(folders)],
        "gone": [f"./{entry.path}" for entry in todo.remove if not _is_folder(entry)],
        "rmdir": [f"./{path}" for path in reversed(_in_order(no_more))],
        "into": [f"./{path}" for path in _in_order({_parent(path) for path in placed})],
        "chmod": [f"{entry.mode:03o}./{entry.path}" for entry in todo.chmod],
    }


def _is_folder(entry: Entry) -> bool:
    return entry.kind is Kind.FOLDER


def _in_order(paths: Collection[str]) -> list[str]:
    """Folders before what is in them."""
    return sorted(paths, key=lambda path: path.split("/"))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _refusal(verdict: str, connection: Connection, need: int) -> CloudrunError:
    """The error for what receive.sh said."""
    word, _, said = verdict.removeprefix("refused ").partition(" ")
    said = shown(said.strip())
    where = str(connection.hop)
    if word == "full":
        free = f", {int(said) / 1024:.0f} MiB are free" if said.isdigit() else ""
        return Unavailable(
            f"The disk of {where} is full.",
            f"{need / 2**20:.0f} MiB are to go there{free}. The folder there is as it was.",
            "Make room on it, or name in .cloudrunignore what the work does not need.",
        )
    if word == "busy":
        return Unavailable(
            f"Another push to this folder of {where} is under way.",
            f"It is at work there as {said}.",
            "Wait until it has ended.",
        )
    if word == "stolen":
        return Unavailable(
            f"Another push to this folder of {where} took this one's place.",
            f"This one had brought nothing for {PATIENCE_S} s.",
            "Push again.",
        )
    if word == "mounted":
        return BadSettings(
            f"The folder on {where} is where a disk begins.",
            "What arrives lies beside a folder first, on the same disk.",
            "Name a folder below it.",
        )
    if word == "cannot":
        return AccessDenied(f"The folder on {where} cannot be written to.", f"{said}.")
    return Unavailable(f"{where} could not take what was sent.", f"{said or verdict}.")


def pull(
    connection: Connection,
    remote_folder: str,
    local_folder: Path,
    *,
    marker: str,
    limits: Limits,
    leave_out: Collection[str] = (),
) -> Pulled:
    """Bring what has changed below a folder on the machine since the last pull.

    A file that is being written is brought as it is now, and again when it has
    changed. Nothing is removed here. Where nothing is here any more, everything comes.

    Args:
        connection: The machine.
        remote_folder: The folder there; nothing happens when it does not exist.
        local_folder: Where to, here; made when it is not there.
        marker: A file on the machine that remembers what was pulled, of any name; one for each
            local folder. Without it everything comes.
        limits: How much may come.
        leave_out: Paths from the folder to leave out.

    Raises:
        HostUnreachable: the connection was lost; what was not complete comes the next time.
        BadData: what came is not what an honest machine sends, or too much.
        Unavailable: the disk here, or there, is full.
        BadSettings: something here is in the way.
    """
    _check(remote_folder)
    _check(marker)
    far = "yes" if connection.round_trip_s > _FAR_S else "no"
    again = "yes" if _is_empty(local_folder) else "no"
    script = _script(
        "send.sh", leave_out, folder=remote_folder, marker=marker, far=far, again=again
    )
    with connection.exchange(script) as channel:
        answer = _Answer(connection, channel)
        word = answer.line()
        if word == "none":
            return Pulled()
        if word not in ("archive", "packed"):
            raise BadData(f"{connection.hop} sends no archive.", f"It says: {word[:100]}.")
        packed = word == "packed"
        done: Extracted = extract(answer.chunks(), local_folder, limits, packed=packed)
        connection.send(channel, b"got it\n")
        _no_more(channel)
        answer.end()
    lines = [line for line in bytes(answer.said).split(b"\n") if not _TAR_IS_CALM.search(line)]
    notes = [shown(line.decode(errors="replace")) for line in lines]
    return Pulled(done.files, done.bytes, [*done.notes, *notes])


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except FileNotFoundError:
        return True
    except OSError:
        # Whatever is in the way is told when something is to be put there.
        return False


def _no_more(channel: paramiko.Channel) -> None:
    """End a script's input. A connection that is lost is told by what the script does not say."""
    with suppress(paramiko.SSHException, OSError, EOFError):
        end_input(channel)


class _Answer:
    """What a script says: lines and lengths on stdout; of stderr the beginning is kept."""

    def __init__(self, connection: Connection, channel: paramiko.Channel) -> None:
        self._connection = connection
        self._channel = channel
        self._stream = connection.receive(channel, LIMIT_S)
        self._rest = b""
        self.said = bytearray()

    def chunks(self) -> Iterator[bytes]:
        """Give the rest of stdout as it comes."""
        rest, self._rest = self._rest, b""
        if rest:
            yield rest
        for number, data in self._stream:
            if number == 1:
                yield data
            elif len(self.said) < 4096:
                self.said += data[:4096]

    def line(self) -> str:
        """The next line."""
        return self.until(b"\n").decode(errors="replace")

    def last_line(self) -> str:
        """The last line that there is; empty where none came, or the connection was lost."""
        try:
            text = b"".join(self.chunks())
            self._connection.status(self._channel)
        except HostUnreachable:
            return ""
        return text.strip().rpartition(b"\n")[2].decode(errors="replace")

    def until(self, mark: bytes) -> bytes:
        """What comes before a mark."""
        held = bytearray()
        for chunk in self.chunks():
            start = max(0, len(held) - len(mark))
            held += chunk
            at = held.find(mark, start)
            if at >= 0:
                self._rest = bytes(held[at + len(mark) :])
                return bytes(held[:at])
            self._bound(len(held))
        raise self._short()

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes."""
        self._bound(count)
        held = bytearray()
        if not count:
            return b""
        for chunk in self.chunks():
            held += chunk
            if len(held) >= count:
                self._rest = bytes(held[count:])
                return bytes(held[:count])
        raise self._short()

    def end(self) -> None:
        """Wait for the script's end.

        Raises:
            HostUnreachable: the connection was lost before it.
        """
        for _ in self.chunks():
            pass
        self._connection.status(self._channel)

    def _bound(self, count: int) -> None:
        if count > _LONGEST_ANSWER:
            raise BadData(f"{self._connection.hop} says more than makes sense.")

    def _short(self) -> CloudrunError:
        """The error for a script that ended before it had said everything."""
        self._connection.status(self._channel)
        said = shown(bytes(self.said[-400:]).decode(errors="replace").strip())
        return Unavailable(f"A script on {self._connection.hop} failed.", f"{said}.")


def _check(path: str) -> None:
    if not path.startswith(("/", "~/")) or path.strip("/~") == "" or "\n" in path:
        raise WrongUsage(
            f"'{shown(path)}' is no folder on a machine.",
            "It must begin with / or ~/, and name something below.",
        )


def _script(name: str, leave_out: Collection[str], **variables: str) -> str:
    """A script with its variables, and find's words for what to leave out as its arguments."""
    words: list[str] = []
    for path in leave_out:
        # find -path takes a pattern.
        plain = re.sub(r"([\\*?\[])", r"\\\1", PurePosixPath(path.replace(os.sep, "/")).as_posix())
        words += ["-path", f"./{plain}", "-prune", "-o"]
    rendered = scripts.render(name, **{key: value.rstrip("/") for key, value in variables.items()})
    return f"set -- {shlex.join(words)}\n{rendered}"
