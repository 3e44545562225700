"""`cloudrun report`: the reports in a store."""

from __future__ import annotations

import importlib
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from cloudrun import settings
from cloudrun.cli import output, sources
from cloudrun.errors import BadData
from cloudrun.model.run import rfc3339
from cloudrun.model.words import clean, format_usd
from cloudrun.reports import schema
from cloudrun.reports.store import Entry, Store, open_store, read_file

# The commands in modules of their own.
_LAZY = {"compare": "compare", "export": "export", "sign": "sign", "verify": "verify"}


class _Reports(output.Group):
    """Loads the larger of its commands when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all, in the order of their help."""
        return [*super().list_commands(ctx), *_LAZY]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        found = importlib.import_module(f"cloudrun.cli.{_LAZY[cmd_name]}").command
        assert isinstance(found, click.Command)  # noqa: S101 - for the type checker
        return found


@click.group("report", cls=_Reports)
def command() -> None:
    """The reports that were made: list, show, compare, export."""


@command.command("list", cls=output.SettingsCommand)
@output.store_option
@output.json_option
def list_reports(store: str | None, json: bool) -> int:
    """List the reports in the store, newest first.

    A damaged report is listed as such; the others are listed all the same,
    and the exit status is 65.
    """
    where = open_reports(store)
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
@click.option("--raw", is_flag=True, help="The file as it is: what you share when you share it.")
@output.store_option
@output.json_option
def show(report: str, raw: bool, store: str | None, json: bool) -> None:
    """Show REPORT: its id, any unique beginning of it, a file, or 'last' (the default)."""
    if raw:
        path, _ = sources.file_of(open_reports(store), report)
        click.echo(output.harmless_json(path.read_text("utf-8", "replace")), nl=False)
        return
    found = _read(report, store)
    if json:
        click.echo(output.harmless_json(found.to_json().decode()), nl=False)
        return
    from cloudrun.reports.text import render

    click.echo(render(found, output.paint, width=output.width()))


@command.command("schema", cls=output.Command)
def show_schema() -> None:
    """Print the JSON Schema of a report."""
    output.print_json(schema.json_schema())


def open_reports(store: str | None) -> Store:
    """The store that `--store` names, else the one of the settings."""
    return open_store(str(settings.places().store) if store is None else store)


def _read(report: str, store: str | None) -> schema.Report:
    path = Path(report)
    if path.suffix == ".json" or len(path.parts) > 1:
        return read_file(path, report)
    where = open_reports(store)
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
