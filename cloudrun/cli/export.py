"""`cloudrun report export`: the reports as one table for other programs."""

from __future__ import annotations

import click

from cloudrun.cli import output, sources
from cloudrun.cli.report import open_reports
from cloudrun.errors import BadData
from cloudrun.reports import export

_FORMATS = {"json": export.as_json, "csv": export.as_csv, "md": export.as_markdown}


@click.command("export", cls=output.SettingsCommand)
@click.argument("report", nargs=-1)
@click.option(
    "--format",
    type=output.OneOf(list(_FORMATS)),
    default="json",
    show_default=True,
    help="JSON, CSV, or Markdown with the columns that people read.",
)
@output.store_option
def command(
    report: tuple[str, ...],
    format: str,  # noqa: A002 - the option's name, and its variable's
    store: str | None,
) -> int:
    """Print the measurements of all reports, or of those that are named, one a row.

    REPORT is an id, any unique beginning of it, a file, or 'last'. Raw samples
    are not in it: cloudrun report show --json has them.
    """
    source = sources.choose(open_reports(store), report)
    for line in _FORMATS[format](export.rows(sources.reports(source))):
        click.echo(output.harmless_json(line) if format == "json" else line, nl=False)
    sources.tell_damaged(source.damaged)
    return BadData.exit_status if source.damaged else 0
