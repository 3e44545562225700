"""The phases of a run: plan, provision, connect, prepare, push, run, collect, end."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import cast

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
from cloudrun.hosts.base import Chunk, Host, Remains, Upload, Work
from cloudrun.launcher import closing, leaks, recovery, uploads
from cloudrun.launcher.beside import machine_watched, pull, results_coming, taken_away
from cloudrun.launcher.current import Current, have, phase_of, teller
from cloudrun.launcher.provision import AtOnce, plan, provision
from cloudrun.model.events import (
    CommandSaid,
    Noted,
    RunStarted,
    WorkloadSaid,
)
from cloudrun.model.run import later
from cloudrun.providers.base import place
from cloudrun.reports import build
from cloudrun.reports.schema import Report

# How long a job that was stopped may take for its last words: longer than its
# supervisor lets it live.
_LAST_WORDS_S = 15.0


def go(run: Current) -> Report:
    """All phases that are left; the ending whatever happens; then the report."""
    problem: BaseException | None = None
    try:
        if run.machine is None:
            begin(run)
            _finish(run)
        else:
            _go_on(run)
    except BaseException as error:  # noqa: BLE001 - raised again below
        problem = error
    if problem is not None and run.goes_on_without_us:
        problem = _judged(run, problem)
        if isinstance(problem, _Left):
            raise _left(run, problem.__cause__ or problem)
    return _end(run, problem)


def leave(run: Current) -> None:
    """From the plan to a job that runs; what does not get so far is ended as any run is."""
    try:
        begin(run)
        with phase_of(run, "run"):
            start(run)
            have(run.job).begin()
        have(run.host).close()
    except BaseException as error:
        _end(run, error)
        raise


def _end(run: Current, problem: BaseException | None) -> Report:
    """Let go of everything; then the report, or what went wrong."""
    if isinstance(problem, AtOnce):
        raise _dropped(run) or problem
    try:
        closing.end(run, problem)
    except KeyboardInterrupt as interrupt:
        if isinstance(problem, KeyboardInterrupt):
            raise _dropped(run) or interrupt from None
        problem = interrupt
        closing.end(run, problem)
    except Exception as error:  # noqa: BLE001 - `closing.close` raises it again
        # That something may be left is the worst that there is to say.
        run.notes += [str(problem)] if problem is not None else []
        problem = error
    _look_for_leaks(run)
    return closing.close(run, problem)


def _dropped(run: Current) -> Interrupted | None:
    """After a second Ctrl-C: what may be left, and how to find it."""
    if not run.attempts or not have(run.offer).boot_s or have(run.offer).provider == "rehearsal":
        return None
    ends = f" It ends itself at {run.machine.deadline}." if run.machine else ""
    return Interrupted(
        "Stopped at once.",
        f"What was rented for run {run.row.id} may still be there.{ends}",
        "Find and end it: cloudrun leaks --kill",
    )


def _look_for_leaks(run: Current) -> None:
    """Ask the clouds that were used whether anything of any run was left where they were used."""
    places = {place(attempt.offer) for attempt in run.attempts} if run.is_rented else set()
    for name in {name for name, _ in places}:
        regions = [region for cloud, region in places if cloud == name and region]
        try:
            kept = (*run.journal.open_runs(), *run.journal.kept_runs())
            found = leaks.look([row.id for row in kept], (name,), regions)
        except CloudrunError as error:
            run.tell(Noted(f"What else is left at {name} could not be seen: {error.what}"))
            continue
        left = leaks.to_end(found, everyone=False)
        if left:
            names = ", ".join(leak.resource.id for leak in left[:5])
            run.tell(Noted(f"Left over at {name}: {names}. End it: cloudrun leaks --kill"))


def begin(run: Current) -> None:
    """From the plan to a job that runs."""
    with phase_of(run, "plan"):
        run.plan = plan(run.row.need, run.tell)
        run.approve(run.plan)
        run.journal.set_plan(run.row.id, run.plan)
        run.tell(RunStarted(run.row.id, run.plan))
    with phase_of(run, "provision"):
        provision(run)
    with phase_of(run, "connect"):
        run.host = host = _connect(run)
    need = run.row.need
    with phase_of(run, "prepare"):
        ready = host.prepare(need, teller(run), run.until)
    with phase_of(run, "push"):
        host.push(need, teller(run))
    run.ready = ready


def _connect(run: Current) -> Host:
    host = run.provider.connect(have(run.machine), run.person, run.until)
    if run.detach and not host.keeps_jobs:
        raise WrongUsage(
            "A job on this machine ends with its cloudrun, so it cannot be detached.",
            "",
            "Leave --detach out, or name a machine: --on ssh://me@box",
        )
    return host


def _go_on(run: Current) -> None:
    """Follow the job of an earlier cloudrun to its end, or take what its machine has stored."""
    run.tell(RunStarted(run.row.id, have(run.plan)))
    stored = _stored(run) if run.is_rented else None
    try:
        _take_up(run, stored or _connect(run))
        _finish(run)
    except (HostUnreachable, DeadlineReached) as problem:
        if isinstance(run.host, uploads.Stored) or (
            isinstance(problem, DeadlineReached) and run.gone is None
        ):
            raise
        # The machine may have ended itself just now.
        stored = _stored(run)
        if stored is None:
            raise
        run.gone = None
        _take_up(run, stored)
        _finish(run)


def _stored(run: Current) -> uploads.Stored | None:
    """What the machine has stored, as far as the store can be asked."""
    try:
        return uploads.stored(run.store, run.row.id)
    except CloudrunError as error:
        run.tell(Noted(f"Whether the machine has stored its results cannot be seen: {error}"))
        return None


def _take_up(run: Current, host: Remains) -> None:
    """Be at the job of an earlier cloudrun."""
    run.host = host
    run.job = host.resume(run.row.id, *recovery.kept_bytes(run.folder))
    if run.stop_first:
        run.job.stop()


def start(run: Current) -> None:
    """Start the workloads, or the user's command; where it outlives us, the journal knows first."""
    # What a run begins on is a whole host.
    host, ready = cast(Host, have(run.host)), have(run.ready)
    need, seconds = run.row.need, max(1, int(run.until - time.monotonic()))
    argv: tuple[str, ...] = (
        *("work.py", "--workload", need.workload),
        *("--device", have(run.offer).device, "--profile", need.profile),
    )
    if need.command is not None:
        argv = need.command.argv
    if host.keeps_jobs:
        run.journal.set_job(run.row.id, later(seconds))
    upload = _upload(run, seconds) if run.detach else None
    run.job = host.start(ready, need, Work(run.row.id, argv, seconds, run.environment, upload))


def _upload(run: Current, seconds: int) -> Upload | None:
    """How the machine is to store what a detached job leaves, when its store can be written so."""
    try:
        urls = uploads.urls(run.store, run.row.id, seconds)
    except CloudrunError as error:
        run.tell(Noted(f"What the job makes waits on its machine for you: {error}"))
        return None
    off = run.is_rented and uploads.may_power_off(have(run.offer).provider, run.row.need)
    return Upload(urls, off) if urls else None


def _finish(run: Current) -> None:
    """Follow the job to its end, and bring everything home."""
    host = have(run.host)
    with phase_of(run, "run"), results_coming(run, host), machine_watched(run):
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
        _collect(run, host)
    if run.gone:
        raise have(taken_away(run))


class _Left(Exception):
    """The job goes on without us: the person wants it so, or what its cause says."""


def _judged(run: Current, problem: BaseException) -> BaseException | None:
    """What a problem is to a job that nothing here ends: `_Left` when it is no reason to end it."""
    if run.is_rented and isinstance(problem, _OUT_OF_REACH):
        if run.stop_first:
            run.notes.append("Its machine could not be reached any more when it was ended.")
            return None
        try:
            taken = taken_away(run)
        except CloudrunError:
            # Nor is the cloud: it is the way from here that is cut.
            return _left_because(problem)
        if taken or run.row.need.command is None:
            return taken or problem
    # Who wants it ended has it ended, as far as the machine can be reached.
    reasons = _OUT_OF_REACH if run.stop_first else _LEAVES_IT
    return _left_because(problem) if isinstance(problem, reasons) else problem


def _left_because(problem: BaseException) -> _Left:
    if isinstance(problem, _Left):
        return problem
    left = _Left()
    left.__cause__ = problem
    return left


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
        can_ask = not isinstance(interrupt, Terminated) and not _is_worth_nothing_alone(run)
        asked = run.person.leave if can_ask else None
        if isinstance(interrupt, HungUp) or (asked and asked()):
            raise _Left from None
        _stop(run)
    except KeyboardInterrupt:
        raise _Left from None


def _is_worth_nothing_alone(run: Current) -> bool:
    """Whether nobody would leave the job: what was rented to be measured costs money."""
    return run.is_rented and run.row.need.command is None


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
    _collect(run, have(run.host))


def _collect(run: Current, host: Remains) -> None:
    """Bring home the rest, and with the results of the user's command what its machine is."""
    if run.row.need.command is None:
        return
    with ThreadPoolExecutor(1) as beside:
        described = beside.submit(host.describe)
        pull(run, host)
        if run.ended is not None:
            run.findings.environment = described.result()


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
