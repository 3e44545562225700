"""`cloudrun report`: the reports in a store."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloudrun import settings
from cloudrun.cli import output, sources
from cloudrun.errors import BadData, WrongUsage
from cloudrun.model.run import rfc3339
from cloudrun.model.words import clean, format_usd, parse_duration
from cloudrun.reports import schema
from cloudrun.reports.names import Entry, slug
from cloudrun.reports.store import Store, open_store, read_file

if TYPE_CHECKING:
    from cloudrun.reports.sync import Row

_MOST_LISTED, _MOST_TOLD = 50, 20

# The commands in modules of their own.
_LAZY = {
    "compare": "compare",
    "html": "report_html",
    "export": "export",
    "sign": "sign",
    "verify": "verify",
}


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
    """The reports that were made: list, show, sync, compare, html, export."""


@command.command("list", cls=output.SettingsCommand)
@click.option("--since", metavar="WHEN", help="Not the older ones: 7d, 12h, 2026-11-24 (UTC).")
@click.option("--provider", metavar="NAME", help="Only those of this provider: aws, local, ...")
@click.option("--gpu", metavar="NAME", help="Only those of this GPU: T4, A100, ...")
@click.option("--limit", metavar="N", type=click.IntRange(min=0),
              help="The newest N; 0: all.  [default: 50; with --json all]")  # fmt: skip
@output.store_option
@output.json_option
def list_reports(
    since: str | None,
    provider: str | None,
    gpu: str | None,
    limit: int | None,
    store: str | None,
    json: bool,
) -> int:
    """List the reports in the store, newest first.

    A damaged report is listed as such; the others are listed all the same,
    and the exit status is 65. A file that holds a report which another one
    holds too is called a duplicate.
    """
    where = open_reports(store)
    if limit is None:
        limit = 0 if json else _MOST_LISTED
    entries = _chosen(where, since, provider, gpu)
    rows = _rows(where, islice(entries, limit) if limit else entries)
    damaged = [row for row in rows if "error" in row]
    if json:
        output.print_json(rows)
    elif rows:
        _show(rows)
    elif since or provider or gpu:
        output.say(f"There is no such report in {where.url}. See them all: cloudrun report list")
    else:
        output.say(f"There is no report in {where.url} yet. Make one: cloudrun launch")
    if limit and next(entries, None):
        output.say(f"These are the newest {limit}. See them all: cloudrun report list --limit 0")
    if damaged:
        output.print_error(_damage(damaged, where))
    return BadData.exit_status if damaged else 0


@command.command("show", cls=output.SettingsCommand)
@click.argument("report", default="last")
@click.option("--plot", is_flag=True, help="Draw its speeds, and its phases, as bars.")
@click.option("--raw", is_flag=True, help="The file as it is: what you share when you share it.")
@output.store_option
@output.json_option
def show(report: str, plot: bool, raw: bool, store: str | None, json: bool) -> None:
    """Show REPORT: its id, any unique beginning of it, a file, or 'last' (the default)."""
    if plot and (json or raw):
        raise WrongUsage("A drawing is no JSON.", "", "Leave out --plot, or the other option.")
    if raw:
        where = open_reports(store)
        _, data = sources.read(where, sources.spot(where, report))
        click.echo(output.harmless_json(data.decode("utf-8", "replace")), nl=False)
        return
    found = _read(report, store)
    if json:
        click.echo(output.harmless_json(found.to_json().decode()), nl=False)
        return
    if plot:
        _plot(found)
        return
    from cloudrun.reports.text import render

    click.echo(render(found, output.paint, width=output.width()))


@command.command("sync", cls=output.Command)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@output.json_option
def sync_stores(source: str, target: str, json: bool) -> int:
    """Copy the reports that DST does not have from SRC: folders, or s3://, gs://, az://.

    Their signatures go along.

    Nothing is changed or removed in either. A damaged report is skipped and
    told, and the exit status is 65. What was cut off goes on when it is
    called again.
    """
    from cloudrun.reports.sync import copy, copy_signatures, missing

    here, there = open_store(source), open_store(target)
    entries, count = missing(here, there)
    there.check_writable()
    if entries:
        output.say(f"Copying {len(entries)} of {count} reports to {there.url} ...")
    rows = list(copy(here, there, entries))
    skipped = [row for row in rows if row.problem is not None]
    copied = sum(row.status == "copied" for row in rows)
    if json:
        output.print_json([_synced(row) for row in rows])
    output.say(f"{copied} copied, {count - copied - len(skipped)} there already.")
    if signatures := copy_signatures(here, there):
        output.say(f"{signatures} signatures copied.")
    for row in skipped[:_MOST_TOLD]:
        output.say(f"Skipped: {row.problem}")
    if len(skipped) > _MOST_TOLD:
        output.say(f"And {len(skipped) - _MOST_TOLD} more; --json names them all.")
    return BadData.exit_status if skipped else 0


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


def _synced(row: Row) -> dict[str, Any]:
    """What became of one object; a skipped one has the reason."""
    told: dict[str, Any] = {"path": row.path, "report": row.report, "status": row.status}
    return told | ({"error": str(row.problem)} if row.problem else {})


def open_reports(store: str | None) -> Store:
    """The store that `--store` names, else the one of the settings."""
    return open_store(str(settings.places().store) if store is None else store)


def _read(report: str, store: str | None) -> schema.Report:
    path = Path(report)
    if path.suffix == ".json" or len(path.parts) > 1:
        return read_file(path, report)
    where = open_reports(store)
    return where.read(where.find(report))


def _chosen(
    where: Store, since: str | None, provider: str | None, gpu: str | None
) -> Iterator[Entry]:
    """The entries to list. By their names, which tell all of it but of strange ones."""
    if not (since or provider or gpu):
        yield from where.entries()
        return
    earliest = _moment(since) if since else ""
    parts = set(slug(gpu).split("-")) if gpu else set[str]()
    for entry in where.identified(where.entries(earliest)):
        if entry.created < earliest or not parts <= set(entry.gpu.split("-")):
            continue
        if provider is None or entry.provider == slug(provider):
            yield entry


def _moment(text: str) -> str:
    """Read a day, or how long ago: as RFC 3339, in UTC."""
    days = re.fullmatch(r"(\d{1,4})d", text.strip())
    try:
        if days:
            return rfc3339(datetime.now(UTC) - timedelta(days=int(days[1])))
        if "-" in text:
            return rfc3339(datetime.combine(date.fromisoformat(text.strip()), time(), UTC))
        return rfc3339(datetime.now(UTC) - timedelta(seconds=parse_duration(text)))
    except (ValueError, OverflowError, WrongUsage) as error:
        raise WrongUsage(
            f"'{text}' is neither a day nor a duration.",
            "",
            "Write it like 2026-11-24, 7d, 12h or 90m.",
        ) from error


def _rows(where: Store, entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The rows of the list; a damaged report has an `error` instead of its facts."""
    rows: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    for entry, told in where.facts(entries):
        if isinstance(told, BadData):
            rows.append({"path": entry.path, "report": entry.id or None, "error": str(told)})
            continue
        rows.append({"path": entry.path, **told})
        original = first.setdefault(told["report"], entry.path)
        if original != entry.path:
            rows[-1]["duplicate_of"] = original
    return rows


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
        elif "duplicate_of" in row:
            click.echo(f"duplicate: {clean(row['path'])}")


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
    return BadData(first["error"], others, f"Move it out of {where.url} to be rid of it.")
