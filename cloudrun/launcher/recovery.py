"""What a killed cloudrun left behind: found in the journal, ended, and its numbers kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cloudrun.errors import BadData, CloudrunError
from cloudrun.launcher.journal import Attempt, Journal, RunLock, RunRow, StepRow, StrangeRow
from cloudrun.model.events import Listener, Noted
from cloudrun.model.machine import Machine, usd_between
from cloudrun.model.run import PHASES, now, rfc3339
from cloudrun.providers import base as providers
from cloudrun.providers import keys, patience
from cloudrun.reports import build
from cloudrun.reports.schema import Report, Timing
from cloudrun.reports.store import Store, open_store, read_file

OUT = "out"
ERR = "err"
# The report, for as long as it is not stored.
REPORT = "report.json"
_LAST_WORDS_BYTES = 4000
# What a dead run left is ended on the way of another command, which must not wait for long
# where there is no network; the next command tries again.
_ON_THE_WAY_S = 5.0


@dataclass(frozen=True)
class Recovered:
    """The runs of which something is left.

    `alive` are followed by a living cloudrun, `alone` go on without one; those
    of `kept` are over, and their machine was left as it is.
    """

    alive: tuple[RunRow, ...]
    alone: tuple[RunRow, ...]
    kept: tuple[RunRow, ...]


def recover(journal: Journal, listener: Listener) -> Recovered:
    """End every run whose process is dead, but those whose job goes on without it.

    What such a run had measured becomes a partial report in its own store. A
    local job ends by itself when its cloudrun does, so nothing is running.
    """
    for strange in journal.strange_runs():
        listener(Noted(_left_alone(strange)))
    alive, alone = [], []
    out_of_reach: dict[str, CloudrunError] = {}
    for row in journal.open_runs():
        folder = journal.run_folder(row.id)
        lock = RunLock(folder)
        try:
            report = waiting(folder)
            if not lock.is_free():
                alive.append(row)
            elif report is None and _goes_on(row, listener, out_of_reach):
                alone.append(row)
            # Another cloudrun may have been here between the look and the lock.
            elif lock.take(is_follower=False) and journal.is_open(row.id):
                if report is not None:
                    _store_now(journal, row, report, listener, out_of_reach)
                else:
                    _end_dead_run(journal, row, listener, out_of_reach)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            # One run's folder or rows are damaged; the others are recovered all the same.
            listener(Noted(f"Run {row.id} cannot be recovered: {error}"))
            _give_up(journal, row)
        finally:
            lock.release()
    return Recovered(tuple(alive), tuple(alone), tuple(_still_kept(journal, listener)))


def _give_up(journal: Journal, row: RunRow) -> None:
    """End a run whose numbers cannot be read any more; what it rented is not forgotten."""
    with contextlib.suppress(CloudrunError):
        if any(attempt.offer.usd_per_hour for attempt in journal.attempts(row.id)):
            journal.set_kept(row.id, now())
    journal.end_run(row.id, "failed", None)


def _still_kept(journal: Journal, listener: Listener) -> Iterator[RunRow]:
    """The runs whose machine is kept; one whose time is over is let go."""
    for row in journal.kept_runs():
        if row.kept_until is None or datetime.fromisoformat(row.kept_until) > datetime.now(UTC):
            yield row
            continue
        try:
            _let_go_on_the_way(journal, row)
        except CloudrunError as error:
            # It stays in the journal, so that the next cloudrun tries again.
            listener(Noted(_still_there(row, error)))
            yield row
            continue
        journal.set_kept(row.id, None)


def _let_go_on_the_way(journal: Journal, row: RunRow) -> str:
    """As `let_go`, but not for long: somebody waits for something else."""
    with patience.at_most(_ON_THE_WAY_S):
        return let_go(journal, row)


def let_go(journal: Journal, row: RunRow) -> str:
    """End all that may have been created for a run, and its keys; see `terminate`."""
    ended = terminate(row.id, journal.attempts(row.id), row.machine)
    keys.forget(journal.run_folder(row.id))
    return ended


def terminate(run_id: str, attempts: Sequence[Attempt], machine: Machine | None) -> str:
    """End all that a run's attempts may have created; returns when it stopped costing money.

    Raises:
        CloudrunError: something may still be there.
    """
    mine = providers.place(machine.offer) if machine is not None else None
    places = dict.fromkeys(providers.place(attempt.offer) for attempt in attempts)
    with contextlib.ExitStack() as endings:
        for name, region in places:
            if (name, region) != mine:
                endings.callback(providers.load(name).terminate, run_id, region, None)
        if machine is not None:
            # First, whatever comes of the others: it costs the most.
            provider = providers.load(machine.offer.provider)
            return provider.terminate(run_id, machine.offer.region, machine)
    return now()


def _goes_on(row: RunRow, listener: Listener, out_of_reach: dict[str, CloudrunError]) -> bool:
    """Whether a run's job goes on without us, or its machine has stored what it made.

    The latter is so too where the store cannot be asked just now.
    """
    if row.job_deadline is None or not _is_gone(row):
        return row.job_deadline is not None
    if row.store in out_of_reach:
        return True
    # With what moves files: a list of runs is not to wait for it.
    from cloudrun.launcher import uploads

    try:
        if uploads.stored(open_store(row.store, _ON_THE_WAY_S), row.id) is None:
            return False
        listener(Noted(f"Run {row.id} has ended. Bring it home: cloudrun attach {row.id}"))
    except CloudrunError as error:
        out_of_reach[row.store] = error
    return True


def _is_gone(row: RunRow) -> bool:
    """Whether a rented machine has ended itself, its deadline being past."""
    machine = row.machine
    return machine is not None and machine.since is not None and machine.deadline < now()


def _still_there(row: RunRow, error: CloudrunError) -> str:
    return f"What was rented for run {row.id} could not be ended yet: {error}"


def _left_alone(row: StrangeRow) -> str:
    return (
        f"Run {row.id} is left alone: this version of cloudrun cannot read what the journal "
        "says of it. If a newer cloudrun wrote it, update this one."
    )


def _end_dead_run(
    journal: Journal, row: RunRow, listener: Listener, out_of_reach: dict[str, CloudrunError]
) -> None:
    try:
        if row.machine is not None and row.machine.since is not None:
            listener(Noted(f"Ending what is left of run {row.id} ..."))
        ended = _let_go_on_the_way(journal, row)
    except CloudrunError as error:
        # The run stays open, so that the next cloudrun tries again.
        listener(Noted(_still_there(row, error)))
        return
    report = _report_of(journal, row, ended)
    cut_off = f"Run {row.id} was cut off before its end"
    if report is None:
        journal.end_run(row.id, "failed", None)
        listener(Noted(f"{cut_off}; it had measured nothing yet."))
        return
    listener(Noted(f"{cut_off}; what it measured is kept."))
    put_aside(journal.run_folder(row.id), report)
    _store_now(journal, row, report, listener, out_of_reach)


def put_aside(folder: Path, report: Report) -> None:
    """Keep a report in its run's folder until it is stored, so that it is not made again."""
    with contextlib.suppress(OSError):
        (folder / REPORT).write_bytes(report.to_json())


def waiting(folder: Path) -> Report | None:
    """The report of a run that has come to its end, but could not store it."""
    path = folder / REPORT
    try:
        return read_file(path, str(path)) if path.exists() else None
    except BadData:
        return None


def _store_now(
    journal: Journal,
    row: RunRow,
    report: Report,
    listener: Listener,
    out_of_reach: dict[str, CloudrunError],
) -> None:
    """Store a report that waits. A store of `out_of_reach` is not asked once more."""
    from cloudrun.launcher import uploads

    try:
        if row.store in out_of_reach:
            raise out_of_reach[row.store]
        store = open_store(row.store, patience_s=_ON_THE_WAY_S)
        uploads.store_along(store, row.id, row.need.command, journal.run_folder(row.id))
        path = _keep(store, report)
    except CloudrunError as error:
        # The run stays open, so that the next cloudrun tries again.
        out_of_reach[row.store] = error
        listener(Noted(f"The report of run {row.id} still waits to be stored: {error}"))
        return
    journal.end_run(row.id, report.outcome, path)
    with contextlib.suppress(OSError):
        (journal.run_folder(row.id) / REPORT).unlink()
    listener(Noted(f"The report of run {row.id} is stored: {store.show_command(row.id)}"))


def _keep(store: Store, report: Report) -> str:
    """Store the report, unless the run could do that itself before it was cut off."""
    since = rfc3339(datetime.fromisoformat(report.created))
    stored = (entry.path for entry in store.entries(since) if entry.id == report.id)
    return next(stored, None) or store.add(report)


def _report_of(journal: Journal, row: RunRow, ended: str) -> Report | None:
    """The report of a dead run; None when it had measured nothing."""
    findings, _ = read_kept(journal.run_folder(row.id))
    costs = row.machine is not None and row.machine.since is not None
    if row.plan is None or not (build.says_anything(findings) or costs):
        return None
    steps = journal.steps(row.id)
    known = [step for step in steps if step.phase in PHASES]
    if len(known) < len(steps):
        findings.notes.append(
            "The timeline is not whole: a newer cloudrun wrote it, with phases that this one "
            "does not know."
        )
    findings.notes.append(
        "cloudrun could not store this report at the run's end; it was put together later."
    )
    return build.make_report(
        row,
        offer=row.machine.offer if row.machine else row.plan.offers[0],
        findings=findings,
        timeline=_timeline(known, journal.run_folder(row.id) / OUT),
        usd=usd_between(row.machine, row.created, ended),
        predicted_usd=row.plan.usd,
        outcome=build.outcome(row.need, findings),
    )


def read_kept(folder: Path) -> tuple[build.Findings, bytes]:
    """All that a run's workloads have said, out of the run's folder, and a last half line."""
    path = folder / OUT
    if not path.exists():
        return build.Findings(), b""
    half = b""

    def whole_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal half
        for line in lines:
            if line.endswith(b"\n"):
                yield line
            else:
                half = line

    with path.open("rb") as lines:
        return build.gather(whole_lines(lines)), half


def kept_bytes(folder: Path) -> tuple[int, int]:
    """How much of the job's stdout and stderr we have."""
    sizes = [path.stat().st_size if path.exists() else 0 for path in (folder / OUT, folder / ERR)]
    return sizes[0], sizes[1]


def last_words(folder: Path) -> str:
    """The last line of the job's stderr."""
    try:
        data = (folder / ERR).read_bytes()[-_LAST_WORDS_BYTES:]
    except OSError:
        return ""
    lines = data.decode("utf-8", errors="replace").strip().splitlines()
    return lines[-1][:500] if lines else ""


def timings(steps: Sequence[StepRow]) -> list[Timing]:
    """The timings of the phases that ended."""
    return [msgspec.json.decode(step.detail, type=Timing) for step in steps if step.detail]


def _timeline(steps: list[StepRow], lines: Path) -> list[Timing]:
    """The timings of the phases that ended, and of the one that did not, up to its last line."""
    timeline = timings(steps)
    last = steps[-1] if steps else None
    if last is not None and last.state == "intent":
        began = datetime.fromisoformat(last.at)
        wrote = datetime.fromtimestamp(lines.stat().st_mtime, UTC) if lines.exists() else began
        timeline.append(
            msgspec.convert(
                {
                    "phase": last.phase,
                    "started": last.at,
                    "seconds": max(0.0, (wrote - began).total_seconds()),
                    "predicted_seconds": 0.0,
                    "usd": 0.0,
                },
                Timing,
            )
        )
    return timeline
