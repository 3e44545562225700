"""One run, from a need to a report: plan, provision, connect, prepare, push, run, collect, end.

The ending always runs: after success, an error, Ctrl-C or SIGTERM. What kill -9
leaves behind, the next cloudrun finds in the journal (see `recovery`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from cloudrun import settings
from cloudrun.errors import (
    BadSettings,
    Bug,
    CloudrunError,
    DeadlineReached,
    HostUnreachable,
    Interrupted,
    Unavailable,
    WorkloadFailed,
    WrongUsage,
)
from cloudrun.hosts.base import NOBODY, Chunk, Host, Job, JobEnd, Person, Ready, Work
from cloudrun.launcher import planner, recovery
from cloudrun.launcher.journal import Journal, RunLock, RunRow
from cloudrun.model.events import (
    CommandSaid,
    Event,
    Listener,
    Noted,
    PhaseStarted,
    ResultsCame,
    RunStarted,
    WorkloadSaid,
)
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need, provider_of
from cloudrun.model.offer import Offer, Plan
from cloudrun.model.run import Phase, new_run_id, now, rfc3339
from cloudrun.providers import base as providers
from cloudrun.reports import build
from cloudrun.reports.schema import Check, Report, Timing
from cloudrun.reports.store import Store, open_store

T = TypeVar("T")

_RESULTS_EVERY_S = 30.0
# How long a job that was stopped may take for its last words: longer than its
# supervisor lets it live.
_LAST_WORDS_S = 15.0


def plan(need: Need) -> Plan:
    """Ask the targets' providers what can be had, and plan with it. Creates nothing.

    Raises:
        Unavailable: no offer fits.
    """
    asked = dict.fromkeys(provider_of(target) for target in need.targets)
    return planner.make_plan(
        need, [offer for name in asked for offer in providers.load(name).offers(need)]
    )


@dataclass(frozen=True)
class Around:
    """What is around a run: who approves of it, who is told, who can be asked.

    `approve` is shown the plan before anything is done, and raises to refuse
    it; without one, a plan that costs money is refused. `listener` is told
    what happens, as it happens: see `cloudrun.model.events`.
    """

    approve: Callable[[Plan], None] | None = None
    listener: Listener = lambda _event: None
    person: Person = NOBODY


@dataclass(frozen=True)
class Ran:
    """A run of the user's own command: its report, and how the command ended."""

    report: Report
    end: JobEnd


def launch(
    need: Need | None = None,
    *,
    store: str | None = None,
    around: Around = Around(),
    argv: Sequence[str] = (),
) -> Report:
    """Run the smoke test and the benchmark on the best offer; store and return the report.

    Args:
        need: What is wanted; by default everything, quickly, on this machine.
        store: Where the report goes; by default the user's store.
        around: Who approves, who is told, who can be asked.
        argv: The command line, for the report's provenance.

    Returns:
        The report. Its outcome is `failed` when a check failed, and `partial`
        when the workload died: findings about the machine, which the run is for.

    Raises:
        Interrupted: by Ctrl-C; everything was ended, what was measured is stored.
        DeadlineReached: likewise.
        CloudrunError: no report could be made; everything was ended all the same.
    """
    with _new_run("launch", need or Need(), store, around, argv) as run:
        return _go(run)


def run(
    need: Need,
    *,
    environment: Mapping[str, str] | None = None,
    store: str | None = None,
    around: Around = Around(),
    argv: Sequence[str] = (),
) -> Ran:
    """Run the need's command on the best offer, its folder there and its results back.

    Args:
        need: What is wanted, with a `command`.
        environment: Variables for the command; they are written down nowhere.
        store: As for `launch`.
        around: As for `launch`.
        argv: As for `launch`.

    Raises:
        As `launch` does. That the command fails is no error: see `Ran.end`.
    """
    with _new_run("run", need, store, around, argv) as new:
        new.environment = environment or {}
        return Ran(_go(new), _have(new.ended))


def detach(
    need: Need,
    *,
    environment: Mapping[str, str] | None = None,
    store: str | None = None,
    around: Around = Around(),
    argv: Sequence[str] = (),
) -> RunRow:
    """Begin what `launch` or `run` does and return as soon as the job runs on its machine.

    Raises:
        WrongUsage: it would run on this machine, where jobs end with us.
    """
    with _new_run("run" if need.command else "launch", need, store, around, argv) as new:
        new.environment = environment or {}
        new.detach = True
        with _ended_if_it_fails(new):
            _begin(new)
            with _phase(new, "run"):
                _start(new)
        _have(new.host).close()
        return dataclasses.replace(new.row, machine=new.machine)


def attach(row: RunRow, journal: Journal, around: Around = Around()) -> Ran:
    """Go on with a run whose job goes on without us: follow it, bring everything home, end it.

    Raises:
        WrongUsage: another cloudrun follows it, or there is nothing to go on with.
        As `launch` does.
    """
    with _taken_up(row, journal, around) as again:
        return Ran(_go(again), again.ended or JobEnd(-1, "lost"))


def stop(row: RunRow, journal: Journal, around: Around = Around()) -> Report | None:
    """End a run and bring home what there is.

    A run that another cloudrun follows is ended by that one, which is asked to:
    nothing is returned then.

    Raises:
        HostUnreachable: the machine cannot be reached, and the job's deadline is still to come.
    """
    if _is_followed(row, journal):
        _ask_follower(row, journal)
        return None
    with _taken_up(row, journal, around) as again:
        again.stop_first = True
        try:
            return _go(again)
        except HostUnreachable:
            if not _is_over(row):
                raise
            again.notes.append("The machine was gone; the job's deadline there has passed.")
            return _close(again, None)


def _is_followed(row: RunRow, journal: Journal) -> bool:
    lock = RunLock(journal.run_folder(row.id))
    try:
        return row.ended is None and not lock.take()
    finally:
        lock.release()


def _ask_follower(row: RunRow, journal: Journal) -> None:
    """Tell the process that follows a run to stop, as Ctrl-C would; its ending does the rest."""
    holder = RunLock(journal.run_folder(row.id)).holder()
    if holder is None:
        raise Bug(f"Run {row.id} is followed by a process without a number.")
    os.kill(holder, signal.SIGTERM)


@contextlib.contextmanager
def _new_run(
    command: str, need: Need, store: str | None, around: Around, argv: Sequence[str]
) -> Iterator[_Run]:
    """A new run, in the journal, its lock held."""
    where = open_store(str(settings.places().store) if store is None else store)
    where.check_writable()
    tell = _harmless(around.listener)
    with Journal(settings.places().state) as journal:
        alive = recovery.recover(journal, around.listener).alive
        row = RunRow(new_run_id(), now(), command, need, tuple(argv), str(where.location))
        run = _Run(row, journal, where, around.approve or _refuse_to_pay, tell, around.person)
        with _registered(run):
            for other in alive:
                if _is_here(row) and _is_here(other):
                    tell(Noted(_disturbance(other.id)))
            yield run


@contextlib.contextmanager
def _taken_up(row: RunRow, journal: Journal, around: Around) -> Iterator[_Run]:
    """A run that goes on without us, taken up again, its lock held."""
    if row.ended is not None or row.machine is None or row.job_deadline is None:
        raise WrongUsage(
            f"Run {row.id} is over." if row.ended else f"Run {row.id} has no job to go on with.",
            "",
            f"See what it said: cloudrun logs {row.id}",
        )
    where = open_store(row.store)
    run = _Run(row, journal, where, _refuse_to_pay, _harmless(around.listener), around.person)
    lock = RunLock(run.folder)
    if not lock.take():
        raise WrongUsage(
            f"Run {row.id} is followed by another cloudrun already.",
            "",
            f"Read along: cloudrun logs -f {row.id}",
        )
    try:
        run.take_up()
        yield run
    finally:
        lock.release()


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
    person: Person
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    detach: bool = False
    stop_first: bool = False
    plan: Plan | None = None
    offer: Offer | None = None
    machine: Machine | None = None
    host: Host | None = None
    ready: Ready | None = None
    job: Job | None = None
    ended: JobEnd | None = None
    until: float = 0.0
    timeline: list[Timing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: build.Findings = field(default_factory=build.Findings)
    half_line: bytes = b""
    trouble: CloudrunError | None = None

    @property
    def folder(self) -> Path:
        return self.journal.run_folder(self.row.id)

    @property
    def goes_on_without_us(self) -> bool:
        """Whether a job was started that nothing here ends."""
        return self.job is not None and self.host is not None and self.host.keeps_jobs

    def take_up(self) -> None:
        """Be where an earlier cloudrun was when it left this run."""
        self.plan = self.row.plan
        self.machine = self.row.machine
        self.offer = _have(self.machine).offer
        left = datetime.fromisoformat(_have(self.row.job_deadline)) - datetime.now(UTC)
        self.until = time.monotonic() + left.total_seconds()
        self.timeline = recovery.timings(self.journal.steps(self.row.id))
        self.findings, self.half_line = recovery.read_kept(self.folder)


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


def _is_here(row: RunRow) -> bool:
    """Whether a run measures on this machine."""
    return any(provider_of(target) == "local" for target in row.need.targets)


def _is_over(row: RunRow) -> bool:
    """Whether the deadline that the machine itself keeps has passed."""
    return datetime.fromisoformat(_have(row.job_deadline)) < datetime.now(UTC)


def _at_the_same_time(run: _Run) -> list[str]:
    """The other runs that were alive on this machine while this one was, by their ids."""
    try:
        others = run.journal.runs_since(run.row.created, run.row.id)
        return [other.id for other in others if _is_here(run.row) and _is_here(other)]
    except CloudrunError as error:
        run.trouble = run.trouble or error
        return []


def _go(run: _Run) -> Report:
    """All phases that are left; the ending whatever happens; then the report."""
    problem: BaseException | None = None
    try:
        if run.machine is None:
            _begin(run)
        else:
            _reconnect(run)
        _finish(run)
    except BaseException as error:  # noqa: BLE001 - raised again below
        problem = error
    if run.goes_on_without_us and isinstance(problem, HostUnreachable | _Left):
        raise _left(run, problem)
    try:
        _end(run, problem)
    except KeyboardInterrupt as interrupt:
        if isinstance(problem, KeyboardInterrupt):
            raise
        problem = interrupt
        _end(run, problem)
    except Exception as error:  # noqa: BLE001 - `_close` raises it again
        problem = problem or error
    return _close(run, problem)


def _begin(run: _Run) -> None:
    """From the plan to a job that runs."""
    with _phase(run, "plan"):
        run.plan = plan(run.row.need)
        run.approve(run.plan)
        run.journal.set_plan(run.row.id, run.plan)
        run.tell(RunStarted(run.row.id, run.plan))
    with _phase(run, "provision"):
        _provision(run)
    with _phase(run, "connect"):
        run.host = host = _connect(run)
    need = run.row.need
    with _phase(run, "prepare"):
        ready = host.prepare(need, _teller(run), run.until)
    with _phase(run, "push"):
        host.push(need, _teller(run))
    run.ready = ready


def _provision(run: _Run) -> None:
    """Get the machine of the best offer; its deadline runs from here."""
    whole = _have(run.plan)
    run.offer = planner.next_attempt(whole, ())
    if run.offer is None:
        raise Unavailable("Every offer was tried and none could be had.")
    run.until = time.monotonic() + whole.deadline_s
    deadline = rfc3339(datetime.now(UTC) + timedelta(seconds=whole.deadline_s))
    run.machine = _provider(run).create(run.offer, run.row.id, deadline)
    run.journal.set_machine(run.row.id, run.machine)


def _connect(run: _Run) -> Host:
    host = _provider(run).connect(_have(run.machine), run.person)
    if run.detach and not host.keeps_jobs:
        raise WrongUsage(
            "A job on this machine ends with its cloudrun, so it cannot be detached.",
            "",
            "Leave --detach out, or name a machine: --on ssh://me@box",
        )
    return host


def _reconnect(run: _Run) -> None:
    """Be at the job of an earlier cloudrun."""
    run.tell(RunStarted(run.row.id, _have(run.plan)))
    run.host = host = _connect(run)
    run.job = host.resume(run.row.id, *recovery.kept_bytes(run.folder))
    if run.stop_first:
        run.job.stop()


def _start(run: _Run) -> None:
    """Start the workloads, or the user's command; where it outlives us, the journal knows first."""
    host, ready = _have(run.host), _have(run.ready)
    need, seconds = run.row.need, max(1, int(run.until - time.monotonic()))
    argv: tuple[str, ...] = (
        *("work.py", "--workload", need.workload),
        *("--device", _have(run.offer).device, "--profile", need.profile),
    )
    if need.command is not None:
        argv = need.command.argv
    if host.keeps_jobs:
        run.journal.set_job(run.row.id, rfc3339(datetime.now(UTC) + timedelta(seconds=seconds)))
    run.job = host.start(ready, need, Work(run.row.id, argv, seconds, run.environment))


def _finish(run: _Run) -> None:
    """Follow the job to its end, and bring everything home."""
    host = _have(run.host)
    with _phase(run, "run"), _results_coming(run, host):
        if run.job is None:
            _start(run)
        try:
            _follow(run)
        except (KeyboardInterrupt, DeadlineReached):
            if run.goes_on_without_us and run.person.leave and run.person.leave():
                raise _Left from None
            _stop(run)
            raise
    with _phase(run, "collect"):
        # Lines came home while the job ran; what they say is read in `_close`.
        _pull(run, host)


class _Left(Exception):
    """The person wants the job to go on without us."""


def _follow(run: _Run) -> None:
    """Keep all that the job says, and pass it on."""
    job = _have(run.job)
    for chunk in job.read(run.until):
        _keep(run, chunk)
        if run.row.need.command is not None:
            run.tell(CommandSaid(chunk.stream, chunk.data))
        elif chunk.stream == 1:
            _take_lines(run, chunk.data)
    run.ended = job.end()
    if run.ended.reason == "deadline":
        raise DeadlineReached("The run's deadline came before its end.")


def _stop(run: _Run) -> None:
    """Stop the job, and take its last words and results."""
    job = _have(run.job)
    if run.ended is None:
        job.stop()
        run.until = time.monotonic() + _LAST_WORDS_S
        with contextlib.suppress(DeadlineReached):
            _follow(run)
    _pull(run, _have(run.host))


def _take_lines(run: _Run, data: bytes) -> None:
    """Read the workload's lines; what is left of the last one waits for its end."""
    *lines, run.half_line = (run.half_line + data).split(b"\n")
    if len(run.half_line) > build.MOST_LINE_BYTES:
        lines, run.half_line = [*lines, run.half_line], b""
    for line in lines:
        said = build.add(run.findings, line + b"\n")
        if said is not None:
            run.tell(WorkloadSaid(said))


def _pull(run: _Run, host: Host) -> None:
    """Bring home the results of the user's command that are new."""
    if run.row.need.command is not None:
        count = host.pull(run.row.id, run.row.need)
        if count:
            run.tell(ResultsCame(count))


@contextlib.contextmanager
def _results_coming(run: _Run, host: Host) -> Iterator[None]:
    """Bring results home while the job runs, from time to time, beside following it."""
    over = threading.Event()

    def come() -> None:
        while not over.wait(_RESULTS_EVERY_S):
            # What does not come now comes at the end, where its failure is told.
            with contextlib.suppress(CloudrunError):
                _pull(run, host)

    puller = threading.Thread(target=come, daemon=True, name="results")
    if run.row.need.command is not None and host.keeps_jobs:
        puller.start()
    try:
        yield
    finally:
        over.set()
        if puller.is_alive():
            puller.join()


def _left(run: _Run, problem: BaseException) -> CloudrunError:
    """What to raise when the job goes on without us."""
    _have(run.host).close()
    ways = f"Go on with it: cloudrun attach {run.row.id}; end it: cloudrun down {run.row.id}"
    if isinstance(problem, HostUnreachable):
        return HostUnreachable(
            problem.what,
            f"{problem.why} The job may go on there, until its deadline at the latest.",
            f"When the machine is back: cloudrun attach {run.row.id}",
        )
    return Interrupted(f"Run {run.row.id} goes on without us.", "", ways)


def _keep(run: _Run, chunk: Chunk) -> None:
    """Put what the job says on the disk, for the next cloudrun in case that this one is killed."""
    path = run.folder / (recovery.OUT if chunk.stream == 1 else recovery.ERR)
    try:
        with path.open("ab") as kept:
            kept.write(chunk.data)
    except OSError as error:
        raise BadSettings(
            f"The run's folder {run.folder} cannot be written to.",
            f"{error.strerror}.",
            "Free some room, or set CLOUDRUN_HOME to another folder.",
        ) from error


def _end(run: _Run, problem: BaseException | None) -> None:
    """Let go of everything that the run got hold of. Can be called again, and harms nothing.

    What fails keeps nothing of the rest from being ended.
    """
    with _phase(run, "end"), contextlib.ExitStack() as endings:
        # Called in the reverse order, each whatever the one before it did.
        if run.machine is not None:
            endings.callback(_provider(run).terminate, run.machine)
        if run.host is not None:
            endings.callback(run.host.close)
        if run.host is not None and run.ended is not None and problem is None:
            endings.callback(run.host.forget, run.row.id)
        if run.job is not None and run.ended is None:
            endings.callback(run.job.stop)


@contextlib.contextmanager
def _ended_if_it_fails(run: _Run) -> Iterator[None]:
    """What does not get as far as a running job is ended as any run is."""
    try:
        yield
    except BaseException as error:
        _end(run, error)
        _close(run, error)
        raise


def _close(run: _Run, problem: BaseException | None) -> Report:
    """Make, store and return the report, or raise what went wrong, saying where the report is."""
    findings = run.findings
    _note_the_end(run)
    findings.notes += run.notes + [_disturbance(other) for other in _at_the_same_time(run)]
    problem = problem or run.trouble
    if problem is None and not build.says_anything(findings):
        problem = WorkloadFailed(
            "The workload ended without a word.",
            " ".join(findings.notes)[:500],
            "Try torch by itself: cloudrun doctor",
        )
    cut_off = run.ended is not None and run.ended.reason != "exit"
    outcome = "partial" if cut_off else build.outcome(run.row.need, findings)
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


def _note_the_end(run: _Run) -> None:
    """Put into the findings how the user's command ended, or that a workload died."""
    end, findings, need = run.ended, run.findings, run.row.need
    if end is None:
        return
    if need.command is not None:
        status: Literal["pass", "fail"] = "pass" if end.status == 0 else "fail"
        detail = f"'{shlex.join(need.command.argv)[:500]}' {end.in_words()}."
        findings.checks.append(Check(name="command", status=status, detail=detail))
    elif build.outcome(need, findings) == "partial":
        last = recovery.last_words(run.folder) or "it left no message"
        findings.notes.append(f"The workload {end.in_words()}: {last}")


def _explained(run: _Run, problem: BaseException, report: Report | None) -> BaseException:
    """The error to raise: what went wrong, and where to find what was measured."""
    where = f"See what was measured: {run.store.show_command(report.id)}" if report else ""
    if isinstance(problem, KeyboardInterrupt):
        kept = "what it had measured is kept" if report else "it had measured nothing yet"
        return Interrupted(
            "The run was interrupted.", f"All that it had started was ended; {kept}.", where
        )
    if isinstance(problem, DeadlineReached):
        shorter = "bench" in run.row.need.workloads and run.row.need.profile != "quick"
        less = ", or less work with --profile quick" if shorter else ""
        return DeadlineReached(
            problem.what,
            "It was stopped, and what there was by then is kept.",
            f"Give it more time with --ttl{less}. {where}".strip(),
        )
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


def _teller(run: _Run) -> Callable[[str], None]:
    """Says a sentence to whoever listens."""
    return lambda sentence: run.tell(Noted(sentence))


def _provider(run: _Run) -> providers.Provider:
    return providers.load(_have(run.offer).provider)


def _have(value: T | None) -> T:
    """What an earlier phase has got hold of."""
    if value is None:
        raise Bug("A phase of the run came before the one it needs.")
    return value
