"""A notebook service as a host: its job is there when it is reached, and gives itself away."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cloudrun.errors import Unavailable, WrongUsage
from cloudrun.hosts import describe
from cloudrun.hosts.archive import Limits, extract
from cloudrun.hosts.base import Job, Ready, Tell, Work
from cloudrun.model.need import Need
from cloudrun.model.words import clean, format_bytes
from cloudrun.notebooks.payload import MOST_RESULTS_BYTES
from cloudrun.notebooks.project import LeftOut
from cloudrun.notebooks.records import Records
from cloudrun.providers.base import Order
from cloudrun.reports.schema import Environment

_LIMITS = Limits(bytes=2 * 2**30, members=100_000)
_READ = 2**18
_MOST_TOLD = 5


class NotebookJob(Job, Protocol):
    """A job whose words come out of a client's log."""

    records: Records


class NotebookHost:
    """A machine of a notebook service. `fetch` brings the packed results into a folder."""

    def __init__(
        self,
        job: NotebookJob,
        fetch: Callable[[Path], Path],
        tell: Tell,
        left_out: Sequence[LeftOut] = (),
        keeps_jobs: bool = False,
    ) -> None:
        self.keeps_jobs = keeps_jobs
        self._job = job
        self._tell = tell
        self._fetch = fetch
        self._left_out = left_out
        self._is_home = False

    def prepare(self, need: Need, tell: Tell, until: float) -> Ready:
        """Nothing: the service's own Python has torch."""
        return Ready("", "")

    def push(self, need: Need, tell: Tell) -> None:
        """All has gone there with the job; say what has not."""
        for path, why in self._left_out[:_MOST_TOLD]:
            tell(clean(f"Stays at home: {path} ({why})."))
        if len(self._left_out) > _MOST_TOLD:
            tell(f"And {len(self._left_out) - _MOST_TOLD} more files stay at home.")

    def start(self, ready: Ready, need: Need, work: Work) -> Job:
        """Give the job, which runs already."""
        return self._job

    def resume(self, run_id: str, out_at: int, err_at: int) -> Job:
        """Go on with the job; see `Host.resume`."""
        self._job.records.go_on_at(out_at, err_at)
        return self._job

    def pull(self, need: Need) -> int:
        """Bring the results home, once they are packed; see `Host.pull`."""
        end = self._job.records.end
        if need.command is None or end is None or end.results == 0 or self._is_home:
            return 0
        if end.results < 0:
            raise Unavailable(
                f"The results are more than {format_bytes(MOST_RESULTS_BYTES)}.",
                "A notebook service gives them back in one piece.",
                "Let the command keep less, or send it elsewhere itself.",
            )
        home = Path(need.command.folder) / need.command.results
        with tempfile.TemporaryDirectory(prefix="cloudrun-") as folder:
            packed = self._fetch(Path(folder))
            done = extract(_pieces(packed), home, _LIMITS, packed=True)
        self._is_home = True
        return done.files

    def describe(self) -> Environment | None:
        """Say what the machine is, as far as the launcher has said it."""
        end = self._job.records.end
        return describe.read(end.machine.encode()).environment if end and end.machine else None

    def forget(self, run_id: str) -> None:
        """All goes when the run's machine goes; say what of the job's words never came."""
        if self._job.records.lost:
            self._tell(
                f"The service's log lacks {self._job.records.lost} bytes of what the job said."
            )

    def close(self) -> None:
        """Nothing is open."""


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_READ):
            yield data


def refuse_secrets(order: Order, service: str) -> None:
    """Variables would stand in the text that the service keeps; so none go there."""
    if order.environment:
        names = ", ".join(order.environment)
        raise WrongUsage(
            f"The variables of --env ({names}) cannot go to {service}.",
            "They would be written into the text that it gets.",
            "What is no secret can stand in the command itself: -- env NAME=VALUE python train.py",
        )
