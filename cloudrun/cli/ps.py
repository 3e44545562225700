"""`cloudrun ps`: the runs that are going on now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from cloudrun import settings
from cloudrun.cli import output
from cloudrun.launcher import recovery
from cloudrun.launcher.journal import Journal, RunRow
from cloudrun.model.events import Noted
from cloudrun.model.machine import usd_between
from cloudrun.model.run import now
from cloudrun.model.words import format_duration, format_usd


@click.command("ps", cls=output.Command)
@output.json_option
def command(json: bool) -> None:
    """Runs that are going on now, with their age and what they have cost so far.

    A run whose cloudrun was killed is tidied up on the way: what it had
    measured becomes a partial report.
    """
    state = settings.places().state
    rows: list[dict[str, Any]] = []
    if state.exists():
        with Journal(state) as journal:
            found = recovery.recover(journal, _say)
            rows = [_row(run, journal, "followed") for run in found.alive]
            rows += [_row(run, journal, "not followed") for run in found.alone]
            rows += [
                _row(run, journal, f"kept until {_clock(run.kept_until)}") for run in found.kept
            ]
    if json:
        output.print_json(rows)
    elif rows:
        _show(rows)
    else:
        output.say("Nothing is running.")


def _say(event: object) -> None:
    if isinstance(event, Noted):
        output.say(event.text)


def _clock(moment: str | None) -> str:
    """A moment as a clock on the wall shows it here."""
    return datetime.fromisoformat(moment or "").astimezone().strftime("%H:%M")


def _row(run: RunRow, journal: Journal, state: str) -> dict[str, Any]:
    steps = journal.steps(run.id)
    offer = run.plan.offers[0] if run.plan else None
    if run.machine is not None:
        offer = run.machine.offer
    # Not below nothing, where the clock was set back.
    age = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(run.created)).total_seconds())
    return {
        "run": {
            "id": run.id,
            "workload": "command" if run.need.command else run.need.workload,
            "profile": "" if run.need.command else run.need.profile,
            "target": ",".join(run.need.targets),
        },
        "phase": steps[-1].phase if steps else "plan",
        "state": state,
        "started": run.created,
        "seconds": round(age, 1),
        "machine": offer.where if offer else None,
        "usd": usd_between(run.machine, run.created, now()),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    output.print_table(
        ("RUN", "WORKLOAD", "PHASE", "STATE", "WHERE", "SINCE", "COST"),
        [
            (
                row["run"]["id"],
                row["run"]["workload"],
                row["phase"],
                row["state"],
                row["machine"] or "",
                format_duration(row["seconds"]),
                format_usd(row["usd"]),
            )
            for row in rows
        ],
        right=(5, 6),
        elastic=(4,),
    )
