"""`cloudrun launch`: smoke test and benchmark on the best target allowed."""

from __future__ import annotations

import sys
from typing import Any

import click

from cloudrun.cli import options, output, runs
from cloudrun.cli.progress import Progress
from cloudrun.model.need import LAUNCH_TTL_S, PROFILES, WORKLOADS, Need


@click.command("launch", cls=output.SettingsCommand)
@options.where
@click.option("--workload", type=output.OneOf(WORKLOADS), metavar="|".join(WORKLOADS),
              help="What to run. [default: all]")  # fmt: skip
@click.option("--profile", type=output.OneOf(PROFILES), metavar="|".join(PROFILES),
              help="How long: about 1, 5 or 20 minutes on a GPU. [default: quick]")  # fmt: skip
@options.rented
@options.limits(ttl="30m")
@options.manner
@click.pass_context
def command(
    ctx: click.Context,
    /,
    workload: Any,
    profile: Any,
    store: str | None,
    detach: bool,
    dry_run: bool,
    rehearse: Any,
    yes: bool,
    json: bool,
    **given: Any,
) -> int:
    """Smoke test, then benchmark, on the best target allowed; print the report.

    Without options it measures this machine, for free, in about a minute.
    """
    need = Need(
        **options.wanted(given, LAUNCH_TTL_S),
        workload=workload or "all",
        profile=profile or "quick",
    )
    from cloudrun import settings
    from cloudrun.launcher import lifecycle
    from cloudrun.reports.store import open_store

    kept = open_store(str(settings.places().store) if store is None else store)
    if dry_run:
        with options.stage(need, rehearse) as need:
            options.show_plan_for(need, ctx.find_root().obj, json)
        return 0
    with Progress(ctx.find_root().obj) as progress, options.stage(need, rehearse) as need:
        around = options.around(progress, yes)
        argv = ["cloudrun", *sys.argv[1:]]
        if detach:
            left = lifecycle.detach(need, store=kept.url, around=around, argv=argv)
            runs.show_left(left, json)
            return 0
        report = lifecycle.launch(need, store=kept.url, around=around, argv=argv)
    runs.show_report(report, kept, json)
    return 0 if report.outcome == "passed" else 1
