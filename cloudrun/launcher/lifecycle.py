"""One run, from a need to a report: launch it, leave it, take it up again, stop it.

The ending always runs: after success, an error, Ctrl-C or SIGTERM. What kill -9
leaves behind, the next cloudrun finds in the journal (see `recovery`). The
phases themselves are in `phases`, the ending in `closing`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from cloudrun import settings
from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    HostUnreachable,
    Refused,
    Unavailable,
    WrongUsage,
)
from cloudrun.hosts.base import NOBODY, JobEnd, Person
from cloudrun.launcher import closing, phases, recovery
from cloudrun.launcher.current import Current, have
from cloudrun.launcher.journal import Journal, RunLock, RunRow
from cloudrun.launcher.provision import plan
from cloudrun.model.events import Event, Listener, Noted
from cloudrun.model.need import NOTEBOOKS, Need, provider_of
from cloudrun.model.offer import Plan
from cloudrun.model.run import new_run_id, now
from cloudrun.model.words import did_you_mean
from cloudrun.providers import base as providers
from cloudrun.reports.schema import Report
from cloudrun.reports.store import open_store

# How long a machine may take to answer that has run for a while.
_REACH_S = 60.0

__all__ = ["Around", "Ran", "attach", "detach", "launch", "plan", "run", "stop"]


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
        return phases.go(run)


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
        return Ran(phases.go(new), have(new.ended))


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
        phases.leave(new)
        return dataclasses.replace(new.row, machine=new.machine)


def attach(row: RunRow, journal: Journal, around: Around = Around()) -> Ran:
    """Go on with a run whose job goes on without us: follow it, bring everything home, end it.

    Raises:
        WrongUsage: another cloudrun follows it, or there is nothing to go on with.
        As `launch` does.
    """
    with _taken_up(row, journal, around) as again:
        return Ran(phases.go(again), have(again.ended))


def stop(row: RunRow, journal: Journal, around: Around = Around()) -> Report | None:
    """End a run and bring home what there is.

    A run that another cloudrun follows is ended by that one, which is asked to;
    of one that is over, its machine is ended that was kept. Nothing is returned then.

    Raises:
        HostUnreachable: the machine cannot be reached, and the job's deadline is still to come.
        Refused: nor does it show the key that it should. AccessDenied: nor does it let us in.
    """
    if row.kept_until is not None:
        _let_go(row, journal, around)
        return None
    if row.ended is None and not RunLock(journal.run_folder(row.id)).is_free():
        _ask_follower(row, journal)
        return None
    with _taken_up(row, journal, around) as again:
        again.stop_first = True
        try:
            return phases.go(again)
        except (HostUnreachable, Refused, AccessDenied):
            if not _is_over(row):
                raise
            again.notes.append("The machine was gone; the job's deadline there has passed.")
            return closing.close(again, None)


def _let_go(row: RunRow, journal: Journal, around: Around) -> None:
    """End a machine that was kept when its run was over."""
    machine = row.machine
    if machine is not None and machine.since is None:
        provider = providers.load(machine.offer.provider)
        host = provider.connect(machine, around.person, time.monotonic() + _REACH_S)
        try:
            host.forget(row.id)
        finally:
            host.close()
    recovery.let_go(journal, row)
    journal.set_kept(row.id, None)


def _is_over(row: RunRow) -> bool:
    """Whether the deadline that the machine itself keeps has passed."""
    return datetime.fromisoformat(have(row.job_deadline)) < datetime.now(UTC)


def _ask_follower(row: RunRow, journal: Journal) -> None:
    """Tell the process that follows a run to stop, as Ctrl-C would; its ending does the rest."""
    holder = RunLock(journal.run_folder(row.id)).holder()
    if holder is None:
        raise Unavailable(
            f"Another cloudrun is just tidying up run {row.id}.",
            "It ends what the run has left.",
            "See in a moment whether anything is: cloudrun ps",
        )
    os.kill(holder, signal.SIGTERM)


@contextlib.contextmanager
def _new_run(
    command: str, need: Need, store: str | None, around: Around, argv: Sequence[str]
) -> Iterator[Current]:
    """A new run, in the journal, its lock held."""
    need = _checked(need)
    where = open_store(str(settings.places().store if store is None else store))
    where.check_writable()
    tell = _harmless(around.listener)
    with Journal(settings.places().state) as journal:
        found = recovery.recover(journal, around.listener)
        row = RunRow(new_run_id(), now(), command, need, tuple(argv), where.url)
        run = Current(row, journal, where, around.approve or _refuse_to_pay, tell, around.person)
        with _registered(run):
            for other in (*found.alive, *found.alone):
                if _shares_folder(row, other):
                    tell(Noted(_shared(other.id)))
            for other in found.alive:
                if closing.is_here(row) and closing.is_here(other):
                    tell(Noted(closing.disturbance(other.id)))
            yield run


def _checked(need: Need) -> Need:
    """The need, its fields being what they should be: who calls us may be no command line."""
    try:
        need = msgspec.convert(msgspec.to_builtins(need), Need)
    except (msgspec.MsgspecError, TypeError) as error:
        raise WrongUsage(
            "This need makes no sense.", f"{error}.", "See the fields of cloudrun.Need."
        ) from error
    for target in need.targets:
        # Those that come with cloudrun first: to look through all takes a while.
        name = provider_of(target)
        if name not in providers.OURS and name not in providers.names():
            known = ("auto", *providers.names())
            raise WrongUsage(f"There is no target '{target}'.", "", did_you_mean(target, known))
    return need


def _shares_folder(row: RunRow, other: RunRow) -> bool:
    """Whether two runs' commands run in one folder of one machine that is not this one."""
    mine, its = row.need.command, other.need.command
    if mine is None or its is None or mine.folder != its.folder:
        return False
    # Each run has for itself what is rented or lent.
    machine = other.machine
    there_already = machine is not None and machine.since is None
    is_lent = machine is not None and machine.offer.provider in NOTEBOOKS
    return there_already and not is_lent and bool({*row.need.targets} & {*other.need.targets})


def _shared(other: str) -> str:
    return (
        f"Run {other} was started in this folder too and has not ended: what is pushed now "
        "changes its files there."
    )


@contextlib.contextmanager
def _taken_up(row: RunRow, journal: Journal, around: Around) -> Iterator[Current]:
    """A run that goes on without us, taken up again, its lock held."""
    if row.ended is not None or row.machine is None or row.job_deadline is None:
        raise WrongUsage(
            f"Run {row.id} is over." if row.ended else f"Run {row.id} has no job to go on with.",
            "",
            f"See what it said: cloudrun logs {row.id}",
        )
    where = open_store(row.store)
    run = Current(row, journal, where, _refuse_to_pay, _harmless(around.listener), around.person)
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


@contextlib.contextmanager
def _registered(run: Current) -> Iterator[None]:
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
            "Pass around=Around(approve=...), a function that is shown the plan and raises to "
            "refuse it.",
        )
