"""`cloudrun report`: the reports in a store."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from cloudrun import settings
from cloudrun.cli import output, report_html
from cloudrun.errors import BadData, WrongUsage
from cloudrun.model.run import rfc3339
from cloudrun.model.words import clean, format_usd
from cloudrun.reports import schema
from cloudrun.reports.store import Entry, Store, open_store, read_file


@click.group("report", cls=output.Group)
def command() -> None:
    """The reports that were made: list, show, one page of them all, schema."""


command.add_command(report_html.command)


@command.command("list", cls=output.SettingsCommand)
@output.store_option
@output.json_option
def list_reports(store: str | None, json: bool) -> int:
    """List the reports in the store, newest first.

    A damaged report is listed as such; the others are listed all the same,
    and the exit status is 65.
    """
    where = _open(store)
    rows = [_row(where, entry) for entry in where.entries()]
    damaged = [row for row in rows if "error" in row]
    if json:
        output.print_json(rows)
    elif rows:
        _show(rows)
    else:
        output.say(f"There is no report in {where.location} yet. Make one: cloudrun launch")
    if damaged:
        output.print_error(_damage(damaged, where))
    return BadData.exit_status if damaged else 0


@command.command("show", cls=output.SettingsCommand)
@click.argument("report", default="last")
@click.option("--plot", is_flag=True, help="Draw its speeds, and its phases, as bars.")
@output.store_option
@output.json_option
def show(report: str, plot: bool, store: str | None, json: bool) -> None:
    """Show REPORT: its id, any unique beginning of it, a file, or 'last' (the default)."""
    if plot and json:
        raise WrongUsage("A drawing is no JSON.", "", "Leave out --plot or --json.")
    found = _read(report, store)
    if json:
        click.echo(output.harmless_json(found.to_json().decode()), nl=False)
        return
    if plot:
        _plot(found)
        return
    from cloudrun.reports.text import render

    click.echo(render(found, output.paint, width=output.width()))


def _plot(report: schema.Report) -> None:
    """Draw with blocks, or with # where the terminal has no blocks."""
    from cloudrun.reports.plot import ASCII, BLOCKS, render

    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
        blocks = BLOCKS
    except UnicodeEncodeError:
        blocks = ASCII
    click.echo(render(report, output.paint, output.width(), blocks))


@command.command("schema", cls=output.Command)
def show_schema() -> None:
    """Print the JSON Schema of a report."""
    output.print_json(schema.json_schema())


def _open(store: str | None) -> Store:
    return open_store(str(settings.places().store) if store is None else store)


def _read(report: str, store: str | None) -> schema.Report:
    path = Path(report)
    if path.suffix == ".json" or len(path.parts) > 1:
        return read_file(path, report)
    where = _open(store)
    return where.read(where.find(report))


def _row(where: Store, entry: Entry) -> dict[str, Any]:
    """One row of the list; a damaged report has an `error` instead of its facts."""
    try:
        report = where.read(entry)
    except BadData as error:
        return {"path": entry.path, "report": entry.id or None, "error": str(error)}
    return {"path": entry.path, **facts(report)}


def facts(report: schema.Report) -> dict[str, Any]:
    """What a list says of a report."""
    gpus = report.environment.gpus if report.environment else ()
    matmul = [row.value for row in report.measurements if row.name == "matmul"]
    return {
        "report": report.id,
        "run": {"id": report.run.id},
        "created": rfc3339(datetime.fromisoformat(report.created)),
        "outcome": report.outcome,
        "provider": report.machine.provider,
        "device": gpus[0].name if gpus else report.environment.cpu if report.environment else None,
        "torch": report.environment.torch if report.environment else None,
        "best_tflops": max(matmul, default=None),
        "usd": report.cost.usd,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    output.print_table(
        ("REPORT", "CREATED (UTC)", "OUTCOME", "DEVICE", "TFLOP/S", "COST"),
        [_cells(row) for row in rows],
        right=(4, 5),
        # Any beginning of an id is as good as the whole.
        elastic=(0, 3),
    )
    for row in rows:
        if "error" in row:
            click.echo(f"damaged: {clean(row['path'])}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "error" in row:
        return (row["report"] or "?", "", "damaged", "", "", "")
    best = row["best_tflops"]
    return (
        row["report"],
        row["created"][:16].replace("T", " "),
        row["outcome"],
        row["device"] or "",
        f"{best:.3g}" if best is not None else "",
        format_usd(row["usd"]),
    )


def _damage(damaged: list[dict[str, Any]], where: Store) -> BadData:
    first = damaged[0]
    others = f"{len(damaged) - 1} more: damaged too." if len(damaged) > 1 else ""
    return BadData(first["error"], others, f"Move it out of {where.location} to be rid of it.")
