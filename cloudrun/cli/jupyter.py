"""`cloudrun jupyter`: a notebook server on a run's machine."""

from __future__ import annotations

import time
import webbrowser

import click

from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress

_LIMIT_S = 20 * 60


@click.command("jupyter", cls=output.Command)
@runs.argument
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.pass_context
def command(ctx: click.Context, run: str, no_browser: bool) -> None:
    """Open notebooks on the machine of RUN, through a tunnel; Ctrl-C ends the server.

    The folder is the run's project, where it has one. jupyterlab is installed
    into an environment of its own there, once. RUN is a run's id, a unique
    beginning of it, or `last`.
    """
    from cloudrun.launcher import machines

    def opened(address: str) -> None:
        output.say("The notebooks are open until you press Ctrl-C. Their address, for you alone:")
        click.echo(address)
        if not no_browser:
            webbrowser.open(address)

    with runs.found(run) as (_, row), Progress(ctx.find_root().obj) as progress:
        progress.pause()
        try:
            machines.notebooks(
                row, options.person(progress), opened, until=time.monotonic() + _LIMIT_S
            )
        except KeyboardInterrupt:
            output.say("The notebook server is ended.")
