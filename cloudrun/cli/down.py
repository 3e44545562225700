"""`cloudrun down`: end a run."""

from __future__ import annotations

import click

from cloudrun import settings
from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress
from cloudrun.errors import CloudrunError, WorkloadFailed, WrongUsage


@click.command("down", cls=output.Command)
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "--all", "everything", envvar="CLOUDRUN_DOWN_ALL", is_flag=True, help="End every run."
)
@click.pass_context
def command(ctx: click.Context, run: str | None, everything: bool) -> None:
    """End RUN and bring home what there is of it; nothing of it goes on.

    RUN is a run's id, a unique beginning of it, or `last`.
    """
    if (run is None) == (not everything):
        raise WrongUsage("Say which run to end.", "", "Write its id, 'last', or --all.")
    from cloudrun.launcher import recovery
    from cloudrun.launcher.journal import Journal

    with Journal(settings.places().state) as journal:
        found = recovery.recover(journal, Progress(ctx.find_root().obj))
    names = [row.id for row in (*found.alive, *found.alone, *found.kept)]
    if run is not None:
        with runs.found(run) as (_, row):
            names = [row.id] if row.id in names else []
    if not names:
        output.say("Nothing of it is running." if run else "Nothing is running.")
    problem: CloudrunError | None = None
    for name in names:
        try:
            _end(ctx, name)
        except CloudrunError as error:
            # The others are ended all the same.
            if problem is not None:
                output.print_error(problem)
            problem = error
    if problem is not None:
        raise problem


def _end(ctx: click.Context, name: str) -> None:
    from cloudrun.launcher import lifecycle

    with runs.found(name) as (journal, row), Progress(ctx.find_root().obj) as progress:
        try:
            report = lifecycle.stop(row, journal, options.around(progress, yes=True))
            if report:
                output.say(f"Run {row.id} is ended; what there was of it is home.")
            elif row.kept_until:
                output.say(f"What was kept of run {row.id} is gone.")
            else:
                output.say(f"The cloudrun that follows run {row.id} was asked to end it.")
        except WorkloadFailed:
            output.say(f"Run {row.id} is ended; it had measured nothing yet.")
