"""`cloudrun leaks`: what the clouds themselves say is still there and costs money."""

from __future__ import annotations

import click
import msgspec

from cloudrun import settings
from cloudrun.cli import options, output
from cloudrun.cli.progress import Progress
from cloudrun.errors import CloudrunError, HostUnreachable
from cloudrun.launcher import leaks, recovery
from cloudrun.launcher.journal import Journal
from cloudrun.model.words import clean, format_usd


@click.command("leaks", cls=output.Command)
@click.option("--kill", is_flag=True, help="End what is left over of your runs.")
@click.option("--all", "everyone", envvar="CLOUDRUN_LEAKS_ALL", is_flag=True,
              help="With --kill: others' too, and what is in use.")  # fmt: skip
@output.json_option
@click.pass_context
def command(ctx: click.Context, kill: bool, everyone: bool, json: bool) -> int:
    """What the clouds themselves say is still there of cloudrun's runs, in every region.

    --kill ends what is left over: of your own runs that are over, and of
    anybody's that is past its deadline. What a run that is going on uses is
    shown, and left alone.
    """
    with Progress(ctx.find_root().obj) as progress:
        in_use = _in_use(progress)
        found = leaks.look(in_use)
        if not json:
            _show(found)
        if kill:
            leaks.end(leaks.to_end(found, everyone), options.person(progress).tell)
            found = leaks.look(in_use)
            if not json and found.leaks:
                _show(found)
    if json:
        output.print_json(
            [{**msgspec.to_builtins(leak.resource), "leak": leak.state} for leak in found.leaks]
        )
    if not found.unknown:
        return 0
    problem = HostUnreachable(
        "Not everything could be looked at.", " ".join(found.unknown)[:1000], "Try again."
    )
    # What was found is on stdout already, one document.
    output.print_error(problem)
    return problem.exit_status


def _in_use(progress: Progress) -> list[str]:
    """The runs that are going on, or whose machine is kept, as far as the journal can be read."""
    try:
        with Journal(settings.places().state) as journal:
            runs = recovery.recover(journal, progress)
    except CloudrunError as error:
        # This is the last resort: it must work on a full disk, too.
        output.say(f"{error.what} {error.why} So nobody knows which of it is still in use.")
        return []
    return [row.id for row in (*runs.alive, *runs.alone, *runs.kept)]


def _show(found: leaks.Looked) -> None:
    if not found.leaks:
        unset = (
            f" (Never set up here: {', '.join(found.passed_over)}.)" if found.passed_over else ""
        )
        output.say(f"Nothing is there that costs money.{unset}")
        return
    output.print_table(
        ("USD/HOUR", "WHAT", "TYPE", "ID", "WHERE", "RUN", "LEAK"),
        [
            (
                "?" if resource.usd_per_hour is None else format_usd(resource.usd_per_hour),
                resource.kind,
                clean(resource.what),
                clean(resource.id),
                f"{resource.provider} {resource.region}",
                clean(resource.run),
                leak.state if leak.state != "another's" else clean(f"of {resource.owner}"),
            )
            for leak in found.leaks
            for resource in [leak.resource]
        ],
        right=(0,),
        elastic=(2, 6),
    )
    total = sum(leak.resource.usd_per_hour or 0.0 for leak in found.leaks)
    if any(leak.state == "left over" for leak in found.leaks):
        output.say(f"Together {format_usd(total)} an hour. End what is left over: "
                   "cloudrun leaks --kill")  # fmt: skip
