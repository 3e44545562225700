"""`cloudrun run`: the user's own command, its folder there and its results back."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress
from cloudrun.errors import HostUnreachable, WrongUsage
from cloudrun.model.need import RUN_TTL_S, Need, provider_of

if TYPE_CHECKING:
    from cloudrun.launcher.lifecycle import Ran
    from cloudrun.reports.store import Store


@click.command(
    "run", cls=output.SettingsCommand, context_settings={"allow_interspersed_args": False}
)
@options.where
@click.option("--results", metavar="DIR",
              help="The folder of results, which comes home. [default: results]")  # fmt: skip
@click.option("--env", multiple=True, metavar="NAME[=VALUE]",
              help="A variable for the command; without a value, yours. Repeatable.")  # fmt: skip
@click.option("--data", multiple=True, metavar="DIR",
              help="A folder of data, pushed once and kept there. Repeatable.")  # fmt: skip
@click.option("--requirements", metavar="FILE",
              help="Packages to install. [default: what requirements.txt or pyproject.toml "
              "ask for; on this machine nothing]")  # fmt: skip
@click.option("--store-results", is_flag=True,
              help="Store the log and the results too, beside the report.")  # fmt: skip
@options.rented
@options.limits(ttl="2h")
@options.manner
@click.argument("argv", nargs=-1, required=True, metavar="-- CMD [ARGS]")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    results: str | None,
    env: tuple[str, ...],
    data: tuple[str, ...],
    requirements: str | None,
    store_results: bool,
    store: str | None,
    detach: bool,
    dry_run: bool,
    rehearse: Any,
    yes: bool,
    json: bool,
    argv: tuple[str, ...],
    **given: Any,
) -> int:
    """Your own command on another machine: push this folder, stream, bring the results home.

    What it says comes through as it is, and its exit status is cloudrun's.
    The folder `results` comes back while it runs. Example:

      cloudrun run --on ssh://me@box -- python train.py --epochs 3
    """
    import msgspec

    from cloudrun import settings
    from cloudrun.launcher import lifecycle, project
    from cloudrun.reports.store import open_store

    wanted = options.wanted(given, RUN_TTL_S)
    is_pushed = not rehearse and any(provider_of(target) != "local" for target in wanted["targets"])
    command = project.command(
        argv, Path.cwd(), results or "results", requirements, data, is_pushed=is_pushed
    )
    command = msgspec.structs.replace(command, store_results=store_results)
    need = Need(**wanted, command=command)
    environment = _environment(env)
    kept = open_store(str(settings.places().store) if store is None else store)
    if dry_run:
        with options.stage(need, rehearse) as need:
            options.show_plan_for(need, ctx.find_root().obj, json)
        return 0
    screen = Progress(ctx.find_root().obj, command_to_stderr=json)
    with screen as progress, options.stage(need, rehearse) as need:
        how: dict[str, Any] = {
            "environment": environment,
            "store": kept.url,
            "around": options.around(progress, yes),
            "argv": ["cloudrun", *_without_secrets(sys.argv[1:], env)],
        }
        if detach:
            runs.show_left(lifecycle.detach(need, **how), json)
            return 0
        ran = lifecycle.run(need, **how)
    return show_end(ran, kept, json, progress.results, progress.quiet)


def show_end(ran: Ran, store: Store, json: bool, results: int, quiet: bool) -> int:
    """Say how the command ended, and where everything is; returns its exit status."""
    if ran.end.reason == "lost":
        raise HostUnreachable(
            f"The command {ran.end.in_words()}.",
            "",
            f"See what came home: cloudrun logs {ran.report.id}",
        )
    if json:
        runs.show_report(ran.report, store, json)
    else:
        files = f"; {results} file{'s' * (results != 1)} of results came home" if results else ""
        shown = store.show_command(ran.report.id)
        if not quiet:
            output.say(f"The command {ran.end.in_words()}{files}. See: {shown}")
    return ran.end.status


def _without_secrets(argv: list[str], given: tuple[str, ...]) -> list[str]:
    """The command line as it may be written down: the values of --env are nobody's business."""
    hidden = {item: f"{item.partition('=')[0]}=..." for item in given if "=" in item}
    options = {f"--env={item}": f"--env={short}" for item, short in hidden.items()}
    return [{**hidden, **options}.get(part, part) for part in argv]


def _environment(given: tuple[str, ...]) -> dict[str, str]:
    """The variables for the command: `NAME=VALUE`, or `NAME` for ours."""
    variables = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not name.isidentifier() or not name.isascii():
            raise WrongUsage(f"'{name}' is no name of a variable.", "", "Write it like NAME=VALUE.")
        if not equals and name not in os.environ:
            raise WrongUsage(
                f"The variable {name} is not set here.", "", f"Give it a value: --env {name}=..."
            )
        variables[name] = value if equals else os.environ[name]
    return variables
