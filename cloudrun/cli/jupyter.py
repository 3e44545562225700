"""`cloudrun jupyter`: a notebook server on a run's machine."""

from __future__ import annotations

import contextlib
import html
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path

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

    screen = Progress(ctx.find_root().obj)
    with contextlib.ExitStack() as after, runs.found(run) as (_, row), screen as progress:
        progress.pause()

        def opened(address: str) -> None:
            output.say(
                "The notebooks are open until you press Ctrl-C. Their address, for you alone:"
            )
            click.echo(address)
            if not no_browser:
                webbrowser.open(after.enter_context(_leading_to(address)))

        try:
            machines.notebooks(
                row, options.person(progress), opened, until=time.monotonic() + _LIMIT_S
            )
        except KeyboardInterrupt:
            output.say("The notebook server is ended.")


@contextlib.contextmanager
def _leading_to(address: str) -> Iterator[str]:
    """A page that leads on to an address, which nobody else may read.

    A browser's own address is in the list of processes, for every user of the computer.
    """
    with tempfile.TemporaryDirectory(prefix="cloudrun-") as folder:
        page = Path(folder, "notebooks.html")
        page.touch(mode=0o600)
        page.write_text(
            f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">', "utf-8"
        )
        yield page.as_uri()
