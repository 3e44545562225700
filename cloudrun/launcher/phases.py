"""The phases of a run: plan, provision, connect, prepare, push, run, collect, end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    CloudrunError,
    DeadlineReached,
    HostUnreachable,
    HungUp,
    Interrupted,
    Refused,
    Terminated,
    Unavailable,
    WrongUsage,
)
from cloudrun.hosts.base import Chunk, Host, Work
from cloudrun.launcher import closing, planner, recovery
from cloudrun.launcher.current import Current, have, phase_of, teller
from cloudrun.model.events import CommandSaid, ResultsCame, RunStarted, WorkloadSaid
from cloudrun.model.need import Need, provider_of
from cloudrun.model.offer import Plan
from cloudrun.model.run import later
from cloudrun.providers import base as providers
from cloudrun.reports import build
from cloudrun.reports.schema import Report

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


def go(run: Current) -> Report:
    """All phases that are left; the ending whatever happens; then the report."""
    problem: BaseException | None = None
    try:
        if run.machine is None:
            begin(run)
        else:
            _reconnect(run)
        _finish(run)
    except BaseException as error:  # noqa: BLE001 - raised again below
        problem = error
    # Who wants it ended has it ended, as far as the machine can be reached.
    leaves_it = _OUT_OF_REACH if run.stop_first else _LEAVES_IT
    if run.goes_on_without_us and isinstance(problem, leaves_it):
        raise _left(run, problem)
    try:
        closing.end(run, problem)
    except KeyboardInterrupt as interrupt:
        if isinstance(problem, KeyboardInterrupt):
            raise
        problem = interrupt
        closing.end(run, problem)
    except Exception as error:  # noqa: BLE001 - `closing.close` raises it again
        problem = problem or error
    return closing.close(run, problem)


def leave(run: Current) -> None:
    """From the plan to a job that runs; what does not get so far is ended as any run is."""
    try:
        begin(run)
        with phase_of(run, "run"):
            start(run)
            have(run.job).begin()
        have(run.host).close()
    except BaseException as error:
        closing.end(run, error)
        closing.close(run, error)
        raise


def begin(run: Current) -> None:
    """From the plan to a job that runs."""
    with phase_of(run, "plan"):
        run.plan = plan(run.row.need)
        run.approve(run.plan)
        run.journal.set_plan(run.row.id, run.plan)
        run.tell(RunStarted(run.row.id, run.plan))
    with phase_of(run, "provision"):
        _provision(run)
    with phase_of(run, "connect"):
        run.host = host = _connect(run)
    need = run.row.need
    with phase_of(run, "prepare"):
        ready = host.prepare(need, teller(run), run.until)
    with phase_of(run, "push"):
        host.push(need, teller(run))
    run.ready = ready


def _provision(run: Current) -> None:
    """Get the machine of the best offer; its deadline runs from here."""
    whole = have(run.plan)
    run.offer = planner.next_attempt(whole, ())
    if run.offer is None:
        raise Unavailable("Every offer was tried and none could be had.")
    run.until = time.monotonic() + whole.deadline_s
    lives_s = whole.deadline_s + run.row.need.keep_failed_s
    deadline = later(lives_s)
    run.machine = run.provider.create(run.offer, run.row.id, deadline)
    run.journal.set_machine(run.row.id, run.machine)


def _connect(run: Current) -> Host:
    host = run.provider.connect(have(run.machine), run.person)
    if run.detach and not host.keeps_jobs:
        raise WrongUsage(
            "A job on this machine ends with its cloudrun, so it cannot be detached.",
            "",
            "Leave --detach out, or name a machine: --on ssh://me@box",
        )
    return host


def _reconnect(run: Current) -> None:
    """Be at the job of an earlier cloudrun."""
    run.tell(RunStarted(run.row.id, have(run.plan)))
    run.host = host = _connect(run)
    run.job = host.resume(run.row.id, *recovery.kept_bytes(run.folder))
    if run.stop_first:
        run.job.stop()


def start(run: Current) -> None:
    """Start the workloads, or the user's command; where it outlives us, the journal knows first."""
    host, ready = have(run.host), have(run.ready)
    need, seconds = run.row.need, max(1, int(run.until - time.monotonic()))
    argv: tuple[str, ...] = (
        *("work.py", "--workload", need.workload),
        *("--device", have(run.offer).device, "--profile", need.profile),
    )
    if need.command is not None:
        argv = need.command.argv
    if host.keeps_jobs:
        run.journal.set_job(run.row.id, later(seconds))
    run.job = host.start(ready, need, Work(run.row.id, argv, seconds, run.environment))


def _finish(run: Current) -> None:
    """Follow the job to its end, and bring everything home."""
    host = have(run.host)
    with phase_of(run, "run"), _results_coming(run, host):
        if run.job is None:
            start(run)
        try:
            _follow(run)
        except DeadlineReached:
            _stop(run)
            raise
        except KeyboardInterrupt as interrupt:
            _stop_or_leave(run, interrupt)
            raise
    with phase_of(run, "collect"):
        # Lines came home while the job ran; what they say is read in `closing.close`.
        _pull(run, host)


class _Left(Exception):
    """The person wants the job to go on without us."""


# What is no reason to end a job on another machine, and what it has made can be fetched
# when it is mended: the machine is out of reach, or the disk here is full.
_OUT_OF_REACH = (HostUnreachable, Refused, AccessDenied)
_LEAVES_IT = (*_OUT_OF_REACH, BadSettings, Unavailable, _Left)


def _stop_or_leave(run: Current, interrupt: KeyboardInterrupt) -> None:
    """After Ctrl-C and the like: stop the job, or leave it, as the person says.

    A terminal that has gone is no wish to end a job on another machine. A second
    Ctrl-C is one not to wait: what is left then is left as it is, and named.
    """
    if not run.goes_on_without_us:
        _stop(run)
        return
    try:
        asked = run.person.leave if not isinstance(interrupt, Terminated) else None
        if isinstance(interrupt, HungUp) or (asked and asked()):
            raise _Left from None
        _stop(run)
    except KeyboardInterrupt:
        raise _Left from None


def _follow(run: Current) -> None:
    """Keep all that the job says, and pass it on."""
    job = have(run.job)
    for chunk in job.read(run.until):
        _keep(run, chunk)
        if run.row.need.command is not None:
            run.tell(CommandSaid(chunk.stream, chunk.data))
        elif chunk.stream == 1:
            _take_lines(run, chunk.data)
    run.ended = job.end()
    if run.ended.reason == "deadline":
        raise DeadlineReached("The run's deadline came before its end.")


def _keep(run: Current, chunk: Chunk) -> None:
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


def _take_lines(run: Current, data: bytes) -> None:
    """Read the workload's lines; what is left of the last one waits for its end."""
    *lines, run.half_line = (run.half_line + data).split(b"\n")
    if len(run.half_line) > build.MOST_LINE_BYTES:
        lines, run.half_line = [*lines, run.half_line], b""
    for line in lines:
        said = build.add(run.findings, line + b"\n")
        if said is not None:
            run.tell(WorkloadSaid(said))


def _stop(run: Current) -> None:
    """Stop the job, and take its last words and results."""
    job = have(run.job)
    if run.ended is None:
        job.stop()
        run.until = time.monotonic() + _LAST_WORDS_S
        with contextlib.suppress(DeadlineReached):
            _follow(run)
    _pull(run, have(run.host))


def _pull(run: Current, host: Host) -> None:
    """Bring home the results of the user's command that are new."""
    if run.row.need.command is not None:
        with run.pulling:
            count = host.pull(run.row.need)
        if count:
            run.tell(ResultsCame(count))


@contextlib.contextmanager
def _results_coming(run: Current, host: Host) -> Iterator[None]:
    """Bring results home while the job runs, from time to time, beside following it."""
    over = threading.Event()

    def come() -> None:
        while not over.wait(_RESULTS_EVERY_S):
            # What does not come now comes at the end, where its failure is told.
            with contextlib.suppress(CloudrunError):
                _pull(run, host)

    if run.row.need.command is not None and host.keeps_jobs:
        threading.Thread(target=come, daemon=True, name="results").start()
    try:
        yield
    finally:
        over.set()


def _left(run: Current, problem: BaseException) -> CloudrunError:
    """What to raise when the job goes on without us."""
    if run.host is not None:
        run.host.close()
    again = f"cloudrun attach {run.row.id}"
    if isinstance(problem, CloudrunError):
        goes_on = "The job may go on there, until its deadline at the latest."
        if run.ended is not None:
            goes_on = "The job has ended; what it made is still on its machine."
        remedy = "" if isinstance(problem, HostUnreachable) else problem.try_this
        problem.why = " ".join(filter(None, [problem.why, goes_on]))
        again = f"cloudrun down {run.row.id}" if run.stop_first else again
        problem.try_this = " ".join(filter(None, [remedy, f"When that is mended: {again}"]))
        return problem
    return Interrupted(
        f"Run {run.row.id} may go on without us.",
        "",
        f"Go on with it: {again}; end it: cloudrun down {run.row.id}",
    )
