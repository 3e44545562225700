"""`cloudrun logs`: what a run's job has said."""

from __future__ import annotations

import click

from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress, pass_through


@click.command("logs", cls=output.Command)
@runs.argument
@click.option("-f", "--follow", is_flag=True, help="Go on as it says more, until its end.")
@click.pass_context
def command(ctx: click.Context, run: str, follow: bool) -> None:
    """Print what the job of RUN has said so far: its stdout and its stderr.

    RUN is a run's id, a unique beginning of it, or `last`. What `launch` runs
    says lines of JSON.
    """
    from cloudrun.launcher import logs

    with runs.found(run) as (journal, row), Progress(ctx.find_root().obj) as progress:
        progress.pause()
        for chunk in logs.read(row, journal, follow, options.person(progress)):
            pass_through(chunk.stream, chunk.data)
