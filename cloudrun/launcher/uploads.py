"""What the machine of a detached run stores by itself, so that it need not wait for us.

At launch it gets signed URLs, each good to write one object into the run's store:

    runs/RUN/out.txt  runs/RUN/err.txt  runs/RUN/results.tar.gz  runs/RUN/end.txt

`end` comes last and says how the job ended (templates/supervisor.sh). Who takes
up the run finds it there, and reads from the store what he would from the machine.
Of other runs the first three are stored from here, with `--store-results`.
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from cloudrun.errors import BadSettings
from cloudrun.hosts.archive import Limits, extract
from cloudrun.hosts.base import Chunk, Job, JobEnd
from cloudrun.hosts.jobs import read_end
from cloudrun.model.need import Command, Need
from cloudrun.reports.bucket import Bucket, Missing
from cloudrun.reports.names import RUNS
from cloudrun.reports.schema import Environment
from cloudrun.reports.store import Store

# Where a power-off ends a machine for good. At others something of it would stay, so that
# there its own end at its deadline is better.
_ENDS_BY_POWER_OFF = ("aws",)
_MARGIN_S = 3600
_NAMES = {"out": "out.txt", "err": "err.txt", "results": "results.tar.gz", "end": "end.txt"}
_RESULTS = Limits(bytes=2 * 2**40, members=10**6)


def urls(store: Store, run_id: str, seconds: float) -> dict[str, str]:
    """The signed URLs of a run whose deadline is in so many seconds; none for a folder.

    Raises:
        CloudrunError: the store's credentials cannot sign.
    """
    if not isinstance(store.place, Bucket):
        return {}
    bucket, lasts = store.place, seconds + _MARGIN_S
    return {name: bucket.sign(_path(run_id, name), lasts) for name in _NAMES}


def _path(run_id: str, name: str) -> str:
    return f"{RUNS}{run_id}/{_NAMES[name]}"


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
        record = store.place.get(_path(run_id, "end"))
    except Missing:
        return None
    end = read_end(record.decode(errors="replace").strip())
    return Stored(store.place, run_id, end)


def pack_results(command: Command, folder: Path) -> None:
    """Pack what a command has made into its run's folder, to be stored from there.

    Raises:
        BadSettings: there is no room for it.
    """
    results = Path(command.folder) / command.results
    if not (command.store_results and results.is_dir()):
        return
    packed = folder / _NAMES["results"]
    try:
        with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
            archive.add(results, ".")
    except OSError as error:
        packed.unlink(missing_ok=True)
        raise BadSettings(
            f"The results cannot be packed into {folder}.",
            f"{error.strerror}.",
            "Free some room, or set CLOUDRUN_HOME to another folder.",
        ) from error


def store_along(store: Store, run_id: str, command: Command | None, folder: Path) -> None:
    """Store a run's log and results out of its folder, where the user wants that.

    Raises:
        CloudrunError: they cannot be stored.
    """
    if command is None or not command.store_results:
        return
    packed = folder / _NAMES["results"]
    for name, file in (("out", folder / "out"), ("err", folder / "err"), ("results", packed)):
        if file.exists():
            store.place.put_file(_path(run_id, name), file)
    packed.unlink(missing_ok=True)


class Stored:
    """What a machine has stored of a run: stands for its host, which may be gone."""

    keeps_jobs = True

    def __init__(self, bucket: Bucket, run_id: str, end: JobEnd) -> None:
        self._bucket, self._run_id, self._end = bucket, run_id, end

    def resume(self, run_id: str, out_at: int, err_at: int) -> Job:
        """The job, from these places of its streams on; see `Remains.resume`."""
        return _StoredJob(self._bucket, run_id, (out_at, err_at), self._end)

    def pull(self, need: Need) -> int:
        """Bring the results home; see `Remains.pull`."""
        if need.command is None:
            return 0
        home = Path(need.command.folder) / need.command.results
        chunks = self._bucket.stream(_path(self._run_id, "results"))
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

    def __init__(self, bucket: Bucket, run_id: str, at: tuple[int, int], end: JobEnd) -> None:
        self._bucket, self._run_id, self._at, self._end = bucket, run_id, at, end

    def begin(self) -> None:
        """It has run."""

    def read(self, until: float) -> Iterator[Chunk]:
        """What it said that we do not have; see `Job.read`."""
        for stream, name, skip in ((1, "out", self._at[0]), (2, "err", self._at[1])):
            for piece in self._bucket.stream(_path(self._run_id, name)):
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
