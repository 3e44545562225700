"""The run that is going on: what it has got hold of, and its phases on the timeline."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from cloudrun.errors import Bug, CloudrunError
from cloudrun.hosts.base import Job, JobEnd, Person, Ready, Remains
from cloudrun.launcher import recovery
from cloudrun.launcher.journal import Attempt, Journal, RunRow
from cloudrun.model.events import Listener, Noted, PhaseStarted
from cloudrun.model.machine import Machine, usd_between
from cloudrun.model.offer import Offer, Plan
from cloudrun.model.run import Phase, now
from cloudrun.providers import base as providers
from cloudrun.reports import build
from cloudrun.reports.schema import Timing
from cloudrun.reports.store import Store

T = TypeVar("T")


@dataclass
class Current:
    """What a run has got hold of so far, so that its ending can let go of it."""

    row: RunRow
    journal: Journal
    store: Store
    approve: Callable[[Plan], None]
    tell: Listener
    person: Person
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    detach: bool = False
    stop_first: bool = False
    plan: Plan | None = None
    offer: Offer | None = None
    attempts: list[Attempt] = field(default_factory=list)
    machine: Machine | None = None
    paid_until: str | None = None
    gone: str | None = None
    host: Remains | None = None
    ready: Ready | None = None
    job: Job | None = None
    ended: JobEnd | None = None
    until: float = 0.0
    timeline: list[Timing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: build.Findings = field(default_factory=build.Findings)
    half_line: bytes = b""
    trouble: CloudrunError | None = None
    pulling: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> Path:
        """Where the run's lock and what its job says are kept."""
        return self.journal.run_folder(self.row.id)

    @property
    def provider(self) -> providers.Provider:
        """The provider of the run's offer."""
        return providers.load(have(self.offer).provider)

    @property
    def is_rented(self) -> bool:
        """Whether there is a machine that costs money until it is terminated."""
        return self.machine is not None and self.machine.since is not None

    @property
    def goes_on_without_us(self) -> bool:
        """Whether a job was started, by us or an earlier cloudrun, that nothing here ends."""
        started = self.job is not None and self.host is not None and self.host.keeps_jobs
        return started or self.row.job_deadline is not None

    def take_up(self) -> None:
        """Be where an earlier cloudrun was when it left this run."""
        self.plan = self.row.plan
        self.machine = self.row.machine
        self.offer = have(self.machine).offer
        self.attempts = self.journal.attempts(self.row.id)
        left = datetime.fromisoformat(have(self.row.job_deadline)) - datetime.now(UTC)
        self.until = time.monotonic() + left.total_seconds()
        self.timeline = recovery.timings(self.journal.steps(self.row.id))
        self.findings, self.half_line = recovery.read_kept(self.folder)


@contextlib.contextmanager
def phase_of(run: Current, phase: Phase) -> Iterator[None]:
    """Journal the intent, do the phase, journal how it went, and put it on the timeline."""
    predicted = _predicted_s(run, phase)
    _write_step(run, phase, "intent")
    started, clock, state = now(), time.monotonic(), "failed"
    try:
        run.tell(PhaseStarted(phase, predicted))
        yield
        state = "done"
    finally:
        seconds = time.monotonic() - clock
        timing = Timing(
            phase=phase,
            started=started,
            seconds=round(seconds, 3),
            predicted_seconds=predicted,
            usd=usd_between(run.machine, started, run.paid_until or now()),
        )
        run.timeline.append(timing)
        _write_step(run, phase, state, msgspec.json.encode(timing).decode())


def _write_step(run: Current, phase: Phase, state: str, detail: str = "") -> None:
    """Write a step into the journal; in the ending, a full disk must not stop the ending."""
    try:
        run.journal.add_step(run.row.id, phase, state, detail)
    except CloudrunError as error:
        if phase != "end":
            raise
        run.trouble = run.trouble or error


def _predicted_s(run: Current, phase: Phase) -> float:
    forecast = run.plan.forecast if run.plan else ()
    return next((row.seconds for row in forecast if row.phase == phase), 0.0)


def teller(run: Current) -> Callable[[str], None]:
    """Says a sentence to whoever listens."""
    return lambda sentence: run.tell(Noted(sentence))


def have(value: T | None) -> T:
    """What an earlier phase has got hold of."""
    if value is None:
        raise Bug("A phase of the run came before the one it needs.")
    return value
