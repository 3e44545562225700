"""`cloudrun ssh`: a shell on a run's machine."""

from __future__ import annotations

import click

from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress
from cloudrun.errors import WrongUsage


@click.command("ssh", cls=output.Command)
@runs.argument
@click.pass_context
def command(ctx: click.Context, run: str) -> int:
    """Open a shell on the machine of RUN; no ssh program is needed for it.

    RUN is a run's id, a unique beginning of it, or `last`.
    """
    from cloudrun.hosts.shell import interact
    from cloudrun.launcher import machines

    with runs.found(run) as (_, row), Progress(ctx.find_root().obj) as progress:
        if row.machine is None or row.machine.address is None:
            raise WrongUsage(
                f"Run {row.id} has no machine but this one.", "", "Open a shell as you always do."
            )
        progress.pause()
        host = machines.reach(row.machine, options.person(progress))
        with host.link.connection as connection:
            return interact(connection)
