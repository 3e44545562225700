"""How a run ends: everything is let go, what it found becomes a report, errors say where it is."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Callable
from typing import Literal

from cloudrun.errors import (
    BadData,
    CloudrunError,
    DeadlineReached,
    Interrupted,
    WorkloadFailed,
)
from cloudrun.launcher import recovery, uploads
from cloudrun.launcher.current import Current, have, phase_of
from cloudrun.launcher.journal import RunRow
from cloudrun.model.events import Noted
from cloudrun.model.machine import usd_between
from cloudrun.model.need import provider_of
from cloudrun.model.run import later, now, seconds_until
from cloudrun.model.words import format_duration, format_usd
from cloudrun.providers import keys
from cloudrun.providers.base import place
from cloudrun.reports import build
from cloudrun.reports.schema import Check, Report


def end(run: Current, problem: BaseException | None) -> None:
    """Let go of everything that the run got hold of. Can be called again, and harms nothing.

    What fails keeps nothing of the rest from being ended.
    """
    with phase_of(run, "end"), contextlib.ExitStack() as endings:
        kept_s = _kept_s(run, problem)
        if kept_s > 0:
            run.journal.set_kept(run.row.id, later(kept_s))
            _say_kept(run, kept_s)
        # Called in the reverse order, each whatever the one before it did.
        endings.callback(_terminate, run, kept_s > 0)
        if run.host is not None:
            endings.callback(run.host.close)
        if run.is_rented and not kept_s:
            # All that is on it goes with it.
            return
        if run.host is not None and run.ended is not None and not kept_s:
            endings.callback(run.host.forget, run.row.id)
        if run.job is not None and run.ended is None:
            endings.callback(run.job.stop)


def _say_kept(run: Current, kept_s: float) -> None:
    """A machine that costs money is never kept without a word."""
    machine = run.machine
    if machine is None or machine.since is None:
        return
    price = format_usd(machine.offer.usd_per_hour)
    sentence = (
        f"The machine {machine.id} is kept for {format_duration(kept_s)}, at {price} an hour, and "
        f"then ends itself. On it: cloudrun ssh {run.row.id}; end it: cloudrun down {run.row.id}"
    )
    run.tell(Noted(sentence))


def _terminate(run: Current, keep: bool) -> None:
    """End everything that was created for the run, but the machine if that is to be kept."""
    attempts, machine = run.attempts, run.machine
    if keep and run.offer is not None:
        mine = place(run.offer)
        attempts = [attempt for attempt in attempts if place(attempt.offer) != mine]
        machine = None
    elif run.is_rented:
        # From here on nothing of it goes on without us: whoever finds it, ends it.
        _write_down(run, lambda: run.journal.set_job(run.row.id, None))
    try:
        ended = recovery.terminate(run.row.id, attempts, machine)
    except CloudrunError as error:
        # It must not be forgotten: the next cloudrun tries again.
        _write_down(run, lambda: run.journal.set_kept(run.row.id, now()))
        error.why = f"{error.why} {_may_be_there(run)}".strip()
        error.try_this += " When that is mended: cloudrun leaks --kill"
        raise
    if not keep:
        run.paid_until = ended
        keys.forget(run.folder)


def _may_be_there(run: Current) -> str:
    """A sentence about the machine, unless the cloud says that it is gone."""
    machine = run.machine
    if machine is None or machine.since is None:
        return ""
    with contextlib.suppress(CloudrunError):
        if run.provider.gone(machine):
            return f"The machine {machine.id} itself is gone."
    return (
        f"The machine {machine.id} may still be there, and cost "
        f"{format_usd(machine.offer.usd_per_hour)} an hour; it ends itself at {machine.deadline}."
    )


def _write_down(run: Current, write: Callable[[], None]) -> None:
    """Write into the journal; a full disk here must not stop the ending."""
    try:
        write()
    except CloudrunError as error:
        run.trouble = run.trouble or error


def _kept_s(run: Current, problem: BaseException | None) -> float:
    """For how many seconds the machine is left as it is."""
    need, end = run.row.need, run.ended
    if run.host is None or not run.host.keeps_jobs or isinstance(problem, KeyboardInterrupt):
        return 0.0
    failed = problem is not None or (end is not None and end.status != 0)
    left_s = max(0.0, run.until - time.monotonic()) if need.keep else 0.0
    kept_s = max(left_s, need.keep_failed_s if failed else 0.0)
    machine = run.machine
    if machine is None or machine.since is None:
        return kept_s
    # A rented machine ends itself at its deadline, whoever wants it kept.
    lives_s = seconds_until(machine.deadline)
    return lives_s if need.keep else min(kept_s, lives_s)


def close(run: Current, problem: BaseException | None) -> Report:
    """Make, store and return the report, or raise what went wrong, saying where the report is."""
    findings = run.findings
    _note_the_end(run)
    findings.notes += run.notes + [disturbance(other) for other in _at_the_same_time(run)]
    problem = problem or run.trouble
    if problem is None and not build.says_anything(findings) and not run.is_rented:
        problem = WorkloadFailed(
            "The workload ended without a word.",
            " ".join(findings.notes)[:500],
            "Try torch by itself: cloudrun doctor",
        )
    cut_off = run.gone or (run.ended is not None and run.ended.reason != "exit")
    outcome = "partial" if cut_off else build.outcome(run.row.need, findings)
    report = None
    if run.plan and run.offer and (build.says_anything(findings) or run.is_rented):
        # Of what cost money there is a report in any case: its ledger.
        report = build.make_report(
            run.row,
            offer=run.offer,
            findings=findings,
            timeline=run.timeline,
            usd=usd_between(run.machine, run.row.created, run.paid_until or now()),
            predicted_usd=run.plan.usd,
            outcome=outcome,
        )
    path = _store(run, report) if report else None
    run.journal.end_run(run.row.id, outcome, path)
    if problem is not None:
        raise _explained(run, problem, report) from problem.__cause__
    return have(report)


def _store(run: Current, report: Report) -> str:
    """Store the report; where that fails, it waits in the run's folder for the next cloudrun."""
    recovery.put_aside(run.folder, report)
    command = run.row.need.command
    try:
        if command is not None:
            uploads.pack_results(command, run.folder)
        uploads.store_along(run.store, run.row.id, command, run.folder)
        path = run.store.add(report)
    except BadData:
        raise
    except CloudrunError as error:
        error.try_this += " The report waits: 'cloudrun ps' stores it as soon as it can be."
        raise
    with contextlib.suppress(OSError):
        (run.folder / recovery.REPORT).unlink()
    return path


def _note_the_end(run: Current) -> None:
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


def _at_the_same_time(run: Current) -> list[str]:
    """The other runs that were alive on this machine while this one was, by their ids."""
    try:
        others = run.journal.runs_since(run.row.created, run.row.id)
        mine = dataclasses.replace(run.row, machine=run.machine)
        return [other.id for other in others if is_here(mine) and is_here(other)]
    except CloudrunError as error:
        run.trouble = run.trouble or error
        return []


def is_here(row: RunRow) -> bool:
    """Whether a run measures on this machine, as far as that is known yet."""
    if row.machine is not None:
        return row.machine.offer.provider == "local"
    return all(provider_of(target) == "local" for target in row.need.targets)


def disturbance(other: str) -> str:
    """The sentence about another run, by its id, that measured here at the same time."""
    return (
        f"Run {other} was measuring on this machine at the same time; "
        "both are slower than they would be alone."
    )


def _explained(run: Current, problem: BaseException, report: Report | None) -> BaseException:
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
