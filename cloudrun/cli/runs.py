"""What the commands about runs share: find one, show how it ended or that it goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from cloudrun import settings
from cloudrun.cli import output
from cloudrun.errors import WrongUsage
from cloudrun.model.need import NOTEBOOKS
from cloudrun.model.words import clean

if TYPE_CHECKING:
    from cloudrun.launcher.journal import Journal, RunRow
    from cloudrun.reports.schema import Report
    from cloudrun.reports.store import Store

argument = click.argument("run", metavar="RUN")


@contextlib.contextmanager
def found(name: str) -> Iterator[tuple[Journal, RunRow]]:
    """The run of this id, of this unique beginning of one, or the `last` one.

    Raises:
        WrongUsage: there is none, or there are several.
    """
    from cloudrun.launcher.journal import Journal

    with Journal(settings.places().state) as journal:
        rows = journal.recent()
        if name == "last":
            rows = rows[:1]
        else:
            rows = [row for row in rows if name and row.id.startswith(name)]
        if len(rows) != 1:
            raise _not_one(name, rows)
        yield journal, rows[0]


def _not_one(name: str, rows: Sequence[RunRow]) -> WrongUsage:
    if rows:
        listed = ", ".join(row.id for row in rows[:5])
        return WrongUsage(f"Several runs begin with '{name}'.", f"They are {listed}.", "Say more.")
    what = "There is no run yet." if name == "last" else f"There is no run '{name}'."
    return WrongUsage(what, "", "See what is running: cloudrun ps; what ran: cloudrun report list")


def show_report(report: Report, store: Store, json: bool) -> None:
    """Print a run's report on stdout."""
    if json:
        click.echo(output.harmless_json(report.to_json().decode()), nl=False)
    else:
        from cloudrun.reports.text import render

        again = store.show_command(report.id)
        # Whoever has a service's client has it for this.
        free = {"free": "A free GPU: cloudrun launch --on free"} if _has_client() else {}
        click.echo(render(report, output.paint, again, output.width(), **free))


def _has_client() -> bool:
    from cloudrun.notebooks.client import path_of

    return any(path_of(service) for service in NOTEBOOKS)


def show_left(row: RunRow, json: bool) -> None:
    """Say that a run goes on without us: its id and machine, and how to come back to it."""
    where = row.machine.offer.where if row.machine else ""
    if json:
        output.print_json({"run": {"id": row.id}, "machine": where})
        return
    click.echo(f"{row.id}  {clean(where)}")
    output.say(
        f"It goes on there. Read along: cloudrun logs -f {row.id}; bring it home: "
        f"cloudrun attach {row.id}; end it: cloudrun down {row.id}"
    )
