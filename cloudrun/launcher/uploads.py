"""What the machine of a detached run stores by itself, so that it need not wait for us.

At launch it gets signed URLs, each good to write one object into the run's store:

    runs/RUN/out  runs/RUN/err  runs/RUN/results  runs/RUN/end

`end` comes last and says how the job ended (templates/supervisor.sh). Who takes
up the run finds it there, and reads from the store what he would from the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from cloudrun.hosts.archive import Limits, extract
from cloudrun.hosts.base import Chunk, Job, JobEnd
from cloudrun.hosts.jobs import read_end
from cloudrun.model.need import Need
from cloudrun.reports.bucket import Bucket, Missing
from cloudrun.reports.schema import Environment
from cloudrun.reports.store import Store

# Where a power-off ends a machine for good. At others something of it would stay, so that
# there its own end at its deadline is better.
_ENDS_BY_POWER_OFF = ("aws",)
_MARGIN_S = 3600
_RESULTS = Limits(bytes=2 * 2**40, members=10**6)


def urls(store: Store, run_id: str, seconds: float) -> dict[str, str]:
    """The signed URLs of a run whose deadline is in so many seconds; none for a folder.

    Raises:
        CloudrunError: the store's credentials cannot sign.
    """
    if not isinstance(store.place, Bucket):
        return {}
    bucket, lasts = store.place, seconds + _MARGIN_S
    names = ("out", "err", "results", "end")
    return {name: bucket.sign(f"runs/{run_id}/{name}", lasts) for name in names}


def may_power_off(provider: str, need: Need) -> bool:
    """Whether a rented machine may power itself off when it has stored everything."""
    return provider in _ENDS_BY_POWER_OFF and not (need.keep or need.keep_failed_s)


def stored(store: Store, run_id: str) -> Stored | None:
    """What the machine of a run has stored; None while it has not stored it all.

    Raises:
        CloudrunError: the store gives no answer, or what it holds makes no sense.
    """
    if not isinstance(store.place, Bucket):
        return None
    try:
        record = store.place.get(f"runs/{run_id}/end")
    except Missing:
        return None
    end = read_end(record.decode(errors="replace").strip())
    return Stored(store.place, run_id, end)


class Stored:
    """What a machine has stored of a run: stands for its host, which may be gone."""

    keeps_jobs = True

    def __init__(self, bucket: Bucket, run_id: str, end: JobEnd) -> None:
        self._bucket, self._folder, self._end = bucket, f"runs/{run_id}", end

    def resume(self, run_id: str, out_at: int, err_at: int) -> Job:
        """The job, from these places of its streams on; see `Remains.resume`."""
        return _StoredJob(self._bucket, self._folder, (out_at, err_at), self._end)

    def pull(self, need: Need) -> int:
        """Bring the results home; see `Remains.pull`."""
        if need.command is None:
            return 0
        home = Path(need.command.folder) / need.command.results
        chunks = self._bucket.stream(f"{self._folder}/results")
        try:
            return extract(chunks, home, _RESULTS, packed=True).files
        except Missing:
            # The command has made none.
            return 0

    def describe(self) -> Environment | None:
        """Nobody can be asked any more."""
        return None

    def forget(self, run_id: str) -> None:
        """What is stored stays."""

    def close(self) -> None:
        """There is nothing to close."""


class _StoredJob:
    """A job that has ended, and what it said."""

    def __init__(self, bucket: Bucket, folder: str, at: tuple[int, int], end: JobEnd) -> None:
        self._bucket, self._folder, self._at, self._end = bucket, folder, at, end

    def begin(self) -> None:
        """It has run."""

    def read(self, until: float) -> Iterator[Chunk]:
        """What it said that we do not have; see `Job.read`."""
        for stream, name, skip in ((1, "out", self._at[0]), (2, "err", self._at[1])):
            for piece in self._bucket.stream(f"{self._folder}/{name}"):
                data, skip = piece[skip:], max(0, skip - len(piece))
                if data:
                    yield Chunk(stream, data)
        self._at = (sys.maxsize, sys.maxsize)

    def so_far(self) -> Iterator[Chunk]:
        """All of it; see `Job.so_far`."""
        return self.read(0.0)

    def end(self) -> JobEnd:
        """How it ended."""
        return self._end

    def stop(self) -> None:
        """It has ended."""
