"""`cloudrun ssh`: a shell on a run's machine."""

from __future__ import annotations

import click

from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress


@click.command("ssh", cls=output.Command)
@runs.argument
@click.pass_context
def command(ctx: click.Context, run: str) -> int:
    """Open a shell on the machine of RUN; no ssh program is needed for it.

    RUN is a run's id, a unique beginning of it, or `last`.
    """
    from cloudrun.launcher import machines

    with runs.found(run) as (_, row), Progress(ctx.find_root().obj) as progress:
        progress.pause()
        return machines.open_shell(row, options.person(progress))
