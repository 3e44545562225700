"""What a run's job has said: kept here, and the rest of it on its machine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cloudrun.errors import CloudrunError
from cloudrun.hosts.base import Chunk, Person, Remains
from cloudrun.launcher import recovery, uploads
from cloudrun.launcher.journal import Journal, RunLock, RunRow
from cloudrun.providers import base as providers
from cloudrun.reports.store import open_store

_CHUNK = 2**16
_LOOK_EVERY_S = 0.1


def read(row: RunRow, journal: Journal, follow: bool, person: Person) -> Iterator[Chunk]:
    """Give what the job has said, and with `follow` what it says until its end.

    Changes nothing: `attach` brings a run home.

    Raises:
        HostUnreachable: the machine that has the rest is gone.
    """
    folder = journal.run_folder(row.id)
    at = {1: 0, 2: 0}
    alone = False
    while True:
        # Asked first, so that what was said before the end is read after it.
        over = not journal.is_open(row.id)
        alone = not over and RunLock(folder).is_free()
        for stream, name in ((1, recovery.OUT), (2, recovery.ERR)):
            for data in _rest(folder / name, at[stream]):
                at[stream] += len(data)
                yield Chunk(stream, data)
        if over or alone or not follow:
            break
        time.sleep(_LOOK_EVERY_S)
    row = journal.known(row.id)
    if alone and row.machine is not None and row.job_deadline is not None:
        yield from _of_the_machine(row, at, follow, person)


def _of_the_machine(
    row: RunRow, at: dict[int, int], follow: bool, person: Person
) -> Iterator[Chunk]:
    machine = row.machine
    assert machine is not None  # noqa: S101 - asked before
    left = datetime.fromisoformat(row.job_deadline or row.created) - datetime.now(UTC)
    until = time.monotonic() + left.total_seconds()
    host: Remains | None = None
    with contextlib.suppress(CloudrunError):
        host = uploads.stored(open_store(row.store), row.id)
    if host is None:
        host = providers.load(machine.offer.provider).connect(machine, person, until)
    try:
        job = host.resume(row.id, at[1], at[2])
        yield from job.read(until) if follow else job.so_far()
    finally:
        host.close()


def _rest(path: Path, offset: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as kept:
            kept.seek(offset)
            while data := kept.read(_CHUNK):
                yield data
    except FileNotFoundError:
        return
