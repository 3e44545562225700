"""`cloudrun launch`: smoke test and benchmark on the best target allowed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cloudrun.cli import defaults, output
from cloudrun.cli.progress import Progress
from cloudrun.errors import WrongUsage
from cloudrun.model.columns import clip
from cloudrun.model.need import (
    LAUNCH_TTL_S,
    PROFILES,
    WORKLOADS,
    GpuRequest,
    Need,
)
from cloudrun.model.offer import Plan
from cloudrun.model.words import clean, format_duration, format_usd, parse_duration

T = TypeVar("T")


class _Parsed(click.ParamType[Any]):
    """An option that one of our own functions reads; its error is ours, in our words."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._read(value) if isinstance(value, str) else value


@click.command("launch", cls=output.SettingsCommand)
@click.option("--on", type=_Parsed("target", defaults.targets), metavar="TARGET[,...]",
              help="Where: auto (this machine's accelerator, else its CPU; never a paid one), "
              "local. [default: auto]")  # fmt: skip
@click.option("--gpu", type=_Parsed("gpu", defaults.gpu), metavar="NAME[:COUNT]",
              help="GPU model as people say it: T4, l4, A100-80GB:8. [default: any]")  # fmt: skip
@click.option("--workload", type=output.OneOf(WORKLOADS), metavar="|".join(WORKLOADS),
              help="What to run. [default: all]")  # fmt: skip
@click.option("--profile", type=output.OneOf(PROFILES), metavar="|".join(PROFILES),
              help="How long: about 1, 5 or 20 minutes on a GPU. [default: quick]")  # fmt: skip
@click.option("--ttl", type=_Parsed("duration", parse_duration), metavar="DURATION",
              help="The run is over after this: 90s, 45m, 2h. [default: 30m]")  # fmt: skip
@click.option("--max-price", type=output.USD, metavar="USD",
              help="The most that the machine may cost an hour.")  # fmt: skip
@click.option("--max-cost", type=output.USD, metavar="USD",
              help="The most that the run may cost; becomes a deadline.")  # fmt: skip
@output.store_option
@click.option("--dry-run", is_flag=True, help="Print the plan, create nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.json_option
@click.pass_context
def command(
    ctx: click.Context,
    on: tuple[str, ...] | None,
    gpu: GpuRequest | None,
    workload: Any,
    profile: Any,
    ttl: int | None,
    max_price: float | None,
    max_cost: float | None,
    store: str | None,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> int:
    """Smoke test, then benchmark, on the best target allowed; print the report.

    Without options it measures this machine, for free, in about a minute.
    """
    need = Need(
        targets=on or ("auto",),
        gpu=gpu,
        workload=workload or "all",
        profile=profile or "quick",
        ttl_s=ttl or LAUNCH_TTL_S,
        max_price_usd=max_price,
        max_cost_usd=max_cost,
    )
    from cloudrun import settings
    from cloudrun.launcher import lifecycle
    from cloudrun.reports.store import open_store

    where = open_store(str(settings.places().store) if store is None else store)
    if dry_run:
        _show_plan(lifecycle.plan(need), json)
        return 0
    with Progress(ctx.find_root().obj) as progress:
        report = lifecycle.launch(
            need,
            store=str(where.location),
            around=lifecycle.Around(lambda plan: _approve(plan, yes, progress), progress),
            argv=["cloudrun", *sys.argv[1:]],
        )
    if json:
        click.echo(output.harmless_json(report.to_json().decode()), nl=False)
    else:
        from cloudrun.reports.text import render

        click.echo(render(report, output.paint, where.show_command(report.id), output.width()))
    return 0 if report.outcome == "passed" else 1


def _approve(plan: Plan, yes: bool, progress: Progress) -> None:
    """Nothing that costs money starts without a plan shown and a yes."""
    if all(offer.usd_per_hour == 0 for offer in plan.offers):
        return
    progress.pause()
    for line in _plan_lines(plan):
        output.say(line)
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUsage(
            f"This run would cost about {format_usd(plan.usd)}, and there is nobody to ask.",
            "Input is not a terminal.",
            "Read the plan with --dry-run; then add --yes.",
        )
    if not click.confirm("Go ahead?", err=True):
        raise click.Abort


def _show_plan(plan: Plan, json: bool) -> None:
    if json:
        import msgspec

        output.print_json({**msgspec.to_builtins(plan), "seconds": plan.seconds, "usd": plan.usd})
        return
    for line in _plan_lines(plan):
        click.echo(line)


def _plan_lines(plan: Plan) -> list[str]:
    best = plan.offers[0]
    device = clip(clean(best.gpu or best.device.upper()), 40)
    price = "free" if best.usd_per_hour == 0 else f"{format_usd(best.usd_per_hour)} an hour"
    return [
        f"Where     {best.where}: {device}, {price}",
        f"What      {' and '.join(plan.need.workloads)}, profile {plan.need.profile}",
        f"Time      about {format_duration(plan.seconds)}; over after at most "
        f"{format_duration(plan.deadline_s)}",
        f"Cost      about {format_usd(plan.usd)}",
    ]
