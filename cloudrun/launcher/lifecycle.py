"""One run, from a need to a report: plan, provision, connect, prepare, push, run, collect, end.

The ending always runs: after success, an error, Ctrl-C or SIGTERM. What kill -9
leaves behind, the next cloudrun finds in the journal (see `recovery`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from cloudrun import settings
from cloudrun.errors import (
    BadSettings,
    Bug,
    CloudrunError,
    DeadlineReached,
    Interrupted,
    Unavailable,
    WorkloadFailed,
    WrongUsage,
)
from cloudrun.hosts.base import Host, Job, Ready
from cloudrun.launcher import planner, recovery
from cloudrun.launcher.journal import Journal, RunLock, RunRow
from cloudrun.model.events import Event, Listener, Noted, PhaseStarted, RunStarted, WorkloadSaid
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer, Plan
from cloudrun.model.run import Phase, new_run_id, now, rfc3339
from cloudrun.providers import base as providers
from cloudrun.reports import build
from cloudrun.reports.schema import Report, Timing
from cloudrun.reports.store import Store, open_store

T = TypeVar("T")


def plan(need: Need) -> Plan:
    """Ask the targets' providers what can be had, and plan with it. Creates nothing.

    Raises:
        Unavailable: no offer fits.
    """
    targets = dict.fromkeys("local" if target == "auto" else target for target in need.targets)
    return planner.make_plan(
        need, [offer for target in targets for offer in providers.load(target).offers(need)]
    )


def launch(
    need: Need | None = None,
    *,
    store: str | None = None,
    approve: Callable[[Plan], None] | None = None,
    listener: Listener = lambda _event: None,
    argv: Sequence[str] = (),
) -> Report:
    """Run the smoke test and the benchmark on the best offer; store and return the report.

    Args:
        need: What is wanted; by default everything, quickly, on this machine.
        store: Where the report goes; by default the user's store.
        approve: Is shown the plan before anything is done, and raises to refuse it.
            Without one, a plan that costs money is refused.
        listener: Is told what happens, as it happens: see `cloudrun.model.events`.
        argv: The command line, for the report's provenance.

    Returns:
        The report. Its outcome is `failed` when a check failed, and `partial`
        when the workload died: findings about the machine, which the run is for.

    Raises:
        Interrupted: by Ctrl-C; everything was ended, what was measured is stored.
        DeadlineReached: likewise.
        CloudrunError: no report could be made; everything was ended all the same.
    """
    need = need or Need()
    where = open_store(str(settings.places().store) if store is None else store)
    where.check_writable()
    with Journal(settings.places().state) as journal:
        alive = recovery.recover(journal, listener)
        row = RunRow(new_run_id(), now(), "launch", need, tuple(argv), str(where.location))
        tell = _harmless(listener)
        run = _Run(row, journal, where, approve or _refuse_to_pay, tell)
        with _registered(run):
            for other in alive:
                tell(Noted(_disturbance(other.id)))
            return _go(run)


def _harmless(listener: Listener) -> Listener:
    """A listener whose broken screen does not break the run: it is told nothing more."""
    broken = False

    def tell(event: Event) -> None:
        nonlocal broken
        if not broken:
            try:
                listener(event)
            except OSError:
                broken = True

    return tell


def _refuse_to_pay(proposed: Plan) -> None:
    if any(offer.usd_per_hour > 0 for offer in proposed.offers):
        raise WrongUsage(
            f"This run would cost about ${proposed.usd:.2f}, and nobody has approved it.",
            "",
            "Pass approve=, a function that is shown the plan and raises to refuse it.",
        )


@dataclass
class _Run:
    """What a run has got hold of so far, so that its ending can let go of it."""

    row: RunRow
    journal: Journal
    store: Store
    approve: Callable[[Plan], None]
    tell: Listener
    plan: Plan | None = None
    offer: Offer | None = None
    machine: Machine | None = None
    host: Host | None = None
    job: Job | None = None
    until: float = 0.0
    timeline: list[Timing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: build.Findings = field(default_factory=build.Findings)
    trouble: CloudrunError | None = None

    @property
    def folder(self) -> Path:
        return self.journal.run_folder(self.row.id)


@contextlib.contextmanager
def _registered(run: _Run) -> Iterator[None]:
    """Put the run into the journal, its lock held for as long as this process lives."""
    try:
        run.folder.mkdir(parents=True)
    except OSError as error:
        raise BadSettings(
            f"The folder {run.folder} cannot be made.",
            f"{error.strerror}.",
            "Free some room, or set CLOUDRUN_HOME to another folder.",
        ) from error
    lock = RunLock(run.folder)
    lock.take()
    try:
        run.journal.add_run(run.row)
        yield
    finally:
        lock.release()


def _disturbance(other: str) -> str:
    return (
        f"Run {other} was measuring on this machine at the same time; "
        "both are slower than they would be alone."
    )


def _at_the_same_time(run: _Run) -> list[str]:
    """The other runs that were alive while this one was, by their ids."""
    try:
        # A run that cannot be read is not known to be alive, and stays open for good.
        strange = {row.id for row in run.journal.strange_runs()}
        others = run.journal.runs_since(run.row.created, run.row.id)
        return [other for other in others if other not in strange]
    except CloudrunError as error:
        run.trouble = run.trouble or error
        return []


def _go(run: _Run) -> Report:
    """All phases; the ending whatever happens; then the report."""
    problem: BaseException | None = None
    try:
        _work(run)
    except BaseException as error:  # noqa: BLE001 - `_close` raises it again
        problem = error
    try:
        _end(run)
    except KeyboardInterrupt as interrupt:
        if isinstance(problem, KeyboardInterrupt):
            raise
        problem = interrupt
        _end(run)
    except Exception as error:  # noqa: BLE001 - `_close` raises it again
        problem = problem or error
    return _close(run, problem)


def _work(run: _Run) -> None:
    with _phase(run, "plan"):
        run.plan = plan(run.row.need)
        run.approve(run.plan)
        run.journal.set_plan(run.row.id, run.plan)
        run.tell(RunStarted(run.row.id, run.plan))
    with _phase(run, "provision"):
        _provision(run)
    with _phase(run, "connect"):
        provider, machine = _provider(run), _have(run.machine)
        run.host = host = provider.connect(machine)
    with _phase(run, "prepare"):
        ready = host.prepare()
    with _phase(run, "push"):
        host.push(build.WORKLOADS)
    with _phase(run, "run"):
        for workload in run.row.need.workloads:
            _run_workload(run, host, ready, workload)
    with _phase(run, "collect"):
        # The lines came home while the job ran; what they say is read in `_close`,
        # the same way for a run that got here and for one that did not.
        pass


def _provision(run: _Run) -> None:
    """Get the machine of the best offer; its deadline runs from here."""
    whole = _have(run.plan)
    run.offer = planner.next_attempt(whole, ())
    if run.offer is None:
        raise Unavailable("Every offer was tried and none could be had.")
    run.until = time.monotonic() + whole.deadline_s
    deadline = rfc3339(datetime.now(UTC) + timedelta(seconds=whole.deadline_s))
    run.machine = _provider(run).create(run.offer, run.row.id, deadline)


def _run_workload(run: _Run, host: Host, ready: Ready, workload: str) -> None:
    """Start one workload, keep each of its lines and pass it on."""
    arguments = ["--device", _have(run.offer).device]
    if workload == "bench":
        if "smoke" in run.row.need.workloads and run.findings.environment is None:
            run.notes.append("The benchmark was not run, because torch cannot use the device.")
            return
        arguments += ["--profile", run.row.need.profile]
    finished_before = run.findings.finished
    run.job = job = host.start(ready, f"{workload}.py", arguments, run.folder / recovery.LOG)
    for line in job.lines(run.until):
        _keep_line(run, line)
        # A line without its end was cut off by a death.
        said = build.add(run.findings, line) if line.endswith(b"\n") else None
        if said is not None:
            run.tell(WorkloadSaid(said))
    end = job.wait()
    if run.findings.finished == finished_before:
        last = end.log_tail.splitlines()[-1:] or ["it left no message"]
        run.notes.append(
            f"The workload '{workload}' died with exit status {end.status}: {last[0][:500]}"
        )


def _keep_line(run: _Run, line: bytes) -> None:
    """Put a line on the disk, for the next cloudrun in case that this one is killed."""
    try:
        with (run.folder / recovery.LINES).open("ab") as kept:
            kept.write(line)
    except OSError as error:
        raise BadSettings(
            f"The run's folder {run.folder} cannot be written to.",
            f"{error.strerror}.",
            "Free some room, or set CLOUDRUN_HOME to another folder.",
        ) from error


def _end(run: _Run) -> None:
    """Let go of everything that the run got hold of. Can be called again, and harms nothing.

    What fails keeps nothing of the rest from being ended.
    """
    with _phase(run, "end"), contextlib.ExitStack() as endings:
        # Called in the reverse order, each whatever the one before it did.
        if run.machine is not None:
            endings.callback(_provider(run).terminate, run.machine)
        if run.host is not None:
            endings.callback(run.host.close)
        if run.job is not None:
            endings.callback(run.job.stop)


def _close(run: _Run, problem: BaseException | None) -> Report:
    """Make, store and return the report, or raise what went wrong, saying where the report is."""
    findings = run.findings
    findings.notes += run.notes + [_disturbance(other) for other in _at_the_same_time(run)]
    problem = problem or run.trouble
    if problem is None and not build.says_anything(findings):
        problem = WorkloadFailed(
            "The workload ended without a word.",
            " ".join(findings.notes)[:500],
            "Try torch by itself: cloudrun doctor",
        )
    outcome = build.outcome(run.row.need, findings)
    report = None
    if run.plan and run.offer and build.says_anything(findings):
        report = build.make_report(
            run.row,
            offer=run.offer,
            findings=findings,
            timeline=run.timeline,
            predicted_usd=run.plan.usd,
            outcome=outcome,
        )
    try:
        path = run.store.add(report) if report else None
    except BadSettings as error:
        error.try_this += " The report waits: 'cloudrun ps' stores it as soon as it can be."
        raise
    run.journal.end_run(run.row.id, outcome, path)
    if problem is not None:
        raise _explained(run, problem, report) from problem.__cause__
    return _have(report)


def _explained(run: _Run, problem: BaseException, report: Report | None) -> BaseException:
    """The error to raise: what went wrong, and where to find what was measured."""
    where = f"See what was measured: {run.store.show_command(report.id)}" if report else ""
    if isinstance(problem, KeyboardInterrupt):
        kept = "what it had measured is kept" if report else "it had measured nothing yet"
        return Interrupted(
            "The run was interrupted.", f"All that it had started was ended; {kept}.", where
        )
    shorter = "bench" in run.row.need.workloads and run.row.need.profile != "quick"
    if isinstance(problem, DeadlineReached) and shorter:
        problem.try_this += " Or give it less work with --profile quick."
    if isinstance(problem, CloudrunError) and where:
        problem.try_this = f"{problem.try_this} {where}".strip()
    return problem


@contextlib.contextmanager
def _phase(run: _Run, phase: Phase) -> Iterator[None]:
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
        paid = run.offer.usd_per_hour / 3600 * seconds if run.offer and run.machine else 0.0
        timing = Timing(
            phase=phase,
            started=started,
            seconds=round(seconds, 3),
            predicted_seconds=predicted,
            usd=paid,
        )
        run.timeline.append(timing)
        _write_step(run, phase, state, msgspec.json.encode(timing).decode())


def _write_step(run: _Run, phase: Phase, state: str, detail: str = "") -> None:
    """Write a step into the journal; in the ending, a full disk must not stop the ending."""
    try:
        run.journal.add_step(run.row.id, phase, state, detail)
    except CloudrunError as error:
        if phase != "end":
            raise
        run.trouble = run.trouble or error


def _predicted_s(run: _Run, phase: Phase) -> float:
    forecast = run.plan.forecast if run.plan else ()
    return next((row.seconds for row in forecast if row.phase == phase), 0.0)


def _provider(run: _Run) -> providers.Provider:
    return providers.load(_have(run.offer).provider)


def _have(value: T | None) -> T:
    """What an earlier phase has got hold of."""
    if value is None:
        raise Bug("A phase of the run came before the one it needs.")
    return value
