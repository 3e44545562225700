"""`cloudrun attach`: follow a run again, and bring it home."""

from __future__ import annotations

import click

from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress


@click.command("attach", cls=output.Command)
@runs.argument
@output.json_option
@click.pass_context
def command(ctx: click.Context, run: str, json: bool) -> int:
    """Follow RUN again where following stopped, and bring everything home at its end.

    RUN is a run's id, a unique beginning of it, or `last`.
    """
    from cloudrun.cli.run import show_end
    from cloudrun.launcher import lifecycle
    from cloudrun.reports.store import open_store

    with (
        runs.found(run) as (journal, row),
        Progress(ctx.find_root().obj, command_to_stderr=json) as progress,
    ):
        ran = lifecycle.attach(row, journal, options.around(progress, yes=True))
    store = open_store(row.store)
    if row.need.command is not None:
        return show_end(ran, store, json, progress.results, progress.quiet)
    runs.show_report(ran.report, store, json)
    return 0 if ran.report.outcome == "passed" else 1
