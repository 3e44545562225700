"""What `launch` and `run` share: where to run, what it may cost, who is asked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from cloudrun.cli import defaults, output
from cloudrun.cli.progress import Progress
from cloudrun.errors import WrongUsage
from cloudrun.model.columns import clip
from cloudrun.model.need import NOTEBOOKS, Need, Rehearsal
from cloudrun.model.offer import Plan
from cloudrun.model.words import clean, format_duration, format_usd, parse_duration

if TYPE_CHECKING:
    from cloudrun.hosts.base import Person
    from cloudrun.launcher.lifecycle import Around


class _Parsed(click.ParamType[Any]):
    """An option that one of our own functions reads; its error is ours, in our words."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._read(value) if isinstance(value, str) else value


def where(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--on` and `--gpu`."""
    for option in (
        click.option("--gpu", type=_Parsed("gpu", defaults.gpu), metavar="NAME[:COUNT]",
                     help="GPU model as people say it: T4, l4, A100-80GB:8. [default: any]"),
        click.option("--on", type=_Parsed("target", defaults.targets), metavar="TARGET[,...]",
                     help="Where: auto (this machine's accelerator, else its CPU; never a paid "
                     "one), local, colab, kaggle, free (the first of kaggle, colab, local), "
                     "aws[/REGION[/ZONE]], gcp[/...], ssh://[USER@]HOST[:PORT], or a name from the "
                     "settings' [hosts]. [default: auto]"),
    ):  # fmt: skip
        function = option(function)
    return function


def rented(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what is said of a machine that is rented."""
    for option in (
        click.option("--ssh-from", type=_Parsed("range", defaults.address_range), metavar="CIDR",
                     help="Who may reach the machine. [default: your address alone]"),
        click.option("--private-ip", is_flag=True,
                     help="Reach it by its private address (VPN, peering)."),
        click.option("--spot/--on-demand", default=False,
                     help="Take what others have left: cheaper, and taken back at any time. "
                     "[default: on-demand]"),
        click.option("--disk", type=click.IntRange(8, 16384), metavar="GB",
                     help="Its disk, in GB."),
        click.option("--image", metavar="ID", help="The cloud's id of an image of your own."),
        click.option("--instance-type", metavar="TYPE",
                     help="The cloud's own name for the machine: g4dn.xlarge."),
    ):  # fmt: skip
        function = option(function)
    return function


def limits(ttl: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add `--ttl`, whose default is `ttl`, and the ceilings of money."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--max-cost", type=output.USD, metavar="USD",
                         help="The most that the run may cost; becomes a deadline."),
            click.option("--max-price", type=output.USD, metavar="USD",
                         help="The most that the machine may cost an hour."),
            click.option("--ttl", type=_Parsed("duration", parse_duration), metavar="DURATION",
                         help=f"The run is over after this: 90s, 45m, 2h. [default: {ttl}]"),
        ):  # fmt: skip
            function = option(function)
        return function

    return add


def manner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--keep`, `--keep-failed`, `--detach`, `--store`, `--dry-run`, `--yes` and `--json`."""
    for option in (
        output.json_option,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--dry-run", is_flag=True, help="Print the plan, create nothing."),
        click.option("--rehearse", is_flag=False, flag_value="plain",
                     type=output.OneOf(get_args(Rehearsal)), metavar="[WHAT]",
                     help="The whole AWS flow against a simulated cloud, with a pretend bill; "
                     f"something can go wrong in it: {', '.join(get_args(Rehearsal)[1:])}."),
        output.store_option,
        click.option("--detach", is_flag=True, help="Return as soon as the job runs."),
        click.option("--keep-failed", type=_Parsed("duration", parse_duration), metavar="DURATION",
                     help="Leave the machine so long as it is when the run failed."),
        click.option("--keep", is_flag=True,
                     help="Leave the machine as it is until its deadline; 'down' ends it."),
    ):  # fmt: skip
        function = option(function)
    return function


def wanted(given: dict[str, Any], ttl_s: int) -> dict[str, Any]:
    """What the shared options say of a need, by its fields; `ttl_s` where no time is given."""
    return {
        "targets": given["on"] or ("auto",),
        "gpu": given["gpu"],
        "ttl_s": given["ttl"] or ttl_s,
        "max_price_usd": given["max_price"],
        "max_cost_usd": given["max_cost"],
        "keep": given["keep"],
        "keep_failed_s": given["keep_failed"] or 0,
        "spot": given["spot"],
        "instance_type": given["instance_type"],
        "image": given["image"],
        "disk_gb": given["disk"],
        "private_ip": given["private_ip"],
        "ssh_from": given["ssh_from"],
    }


@contextlib.contextmanager
def stage(need: Need, rehearse: Rehearsal | None) -> Iterator[Need]:
    """The need as it is, or played on a simulated AWS."""
    if rehearse is None:
        yield need
        return
    from cloudrun.providers import rehearsal

    places = [target.partition("/")[2] for target in need.targets if target.startswith("aws/")]
    places = places or list(rehearsal.REGIONS)
    targets = tuple(f"rehearsal/{place}" for place in places)
    spot = need.spot or rehearse == "spot-interruption"
    with rehearsal.playing(rehearse):
        yield msgspec.structs.replace(need, targets=targets, spot=spot)


def around(progress: Progress, yes: bool) -> Around:
    """Who approves of a run, is told of it and can be asked."""
    from cloudrun.launcher.lifecycle import Around

    return Around(lambda plan: _approve(plan, yes, progress), progress, person(progress))


def person(progress: Progress) -> Person:
    """Whoever sits at the terminal; nobody where there is none."""
    from cloudrun.hosts.base import Person
    from cloudrun.model.events import Noted

    def tell(sentence: str) -> None:
        progress(Noted(sentence))

    if not sys.stdin.isatty():
        return Person(tell=tell)

    def ask(question: str) -> bool:
        progress.pause()
        output.say(question)
        return click.confirm("Yes or no?", err=True)

    def passphrase(key: Path) -> str | None:
        progress.pause()
        return ask_passphrase(key)

    def leave() -> bool:
        progress.pause()
        while True:
            click.echo("\nStop the job, or leave it running? [stop/leave] ", err=True, nl=False)
            line = sys.stdin.readline()
            if not line or line.strip().lower() in ("l", "leave"):
                # No line at all: the terminal has gone.
                return True
            if line.strip().lower() in ("s", "stop"):
                return False

    return Person(ask, passphrase, tell, leave)


def ask_passphrase(key: Path) -> str | None:
    """Ask for the passphrase of a private key; None where nothing is typed."""
    typed = click.prompt(
        f"Passphrase for {clean(str(key))}",
        hide_input=True,
        err=True,
        default="",
        show_default=False,
    )
    return str(typed) or None


def _approve(plan: Plan, yes: bool, progress: Progress) -> None:
    """Nothing that costs money starts without a plan shown and a yes."""
    _agree_to_terms(plan, yes, progress)
    if all(offer.usd_per_hour == 0 for offer in plan.offers):
        return
    progress.pause()
    for line in _plan_lines(plan):
        click.echo(line, err=True)
    if yes or (plan.offers[0].provider == "rehearsal" and not sys.stdin.isatty()):
        return
    if not sys.stdin.isatty():
        raise WrongUsage(
            f"This run would cost about {format_usd(plan.usd)}, and there is nobody to ask.",
            "Input is not a terminal.",
            "Read the plan with --dry-run; then add --yes.",
        )
    if not click.confirm("Go ahead?", err=True):
        raise click.Abort


def _agree_to_terms(plan: Plan, yes: bool, progress: Progress) -> None:
    """Who uses a notebook service first is told what it asks of its users, and asked."""
    if not any(offer.provider in NOTEBOOKS for offer in plan.offers):
        return
    from cloudrun.notebooks import terms

    for service in terms.not_agreed(offer.provider for offer in plan.offers):
        progress.pause()
        output.say(terms.TERMS[service])
        if not yes and not sys.stdin.isatty():
            raise WrongUsage(
                f"This is the first use of {service.capitalize()}, and there is nobody to ask.",
                "Input is not a terminal.",
                "If you agree to its rules, add --yes, this once.",
            )
        if not yes and not click.confirm("Go ahead?", err=True):
            raise click.Abort
        terms.agree(service)


def show_plan_for(need: Need, options: output.Options, json: bool) -> None:
    """Plan, tell what is passed over, and print the plan on stdout."""
    from cloudrun.launcher import lifecycle
    from cloudrun.model.events import Event, Noted

    def tell(event: Event) -> None:
        if isinstance(event, Noted) and not options.quiet:
            output.say(event.text)

    show_plan(lifecycle.plan(need, tell), json)


def show_plan(plan: Plan, json: bool) -> None:
    """Print a plan on stdout."""
    if json:
        import msgspec

        output.print_json({**msgspec.to_builtins(plan), "seconds": plan.seconds, "usd": plan.usd})
        return
    for line in _plan_lines(plan):
        click.echo(line)


def _plan_lines(plan: Plan) -> list[str]:
    return [output.hanging(f"{label:<10}", text) for label, text in _plan_rows(plan)]


def _plan_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    """What is to be done, where, for how long and for how much, each with its label."""
    from cloudrun.launcher.planner import most_usd

    best, command = plan.offers[0], plan.need.command
    price = "free" if best.usd_per_hour == 0 else f"{format_usd(best.usd_per_hour)} an hour"
    notes = ", ".join(filter(None, (best.price_note, best.price_as_of)))
    note = f" ({notes})" if best.price_note else ""
    yield "Where", f"{best.where}: {clip(best.device_in_words, 40)}, {price}{note}"
    yield "What", clip(clean(plan.need.in_words()), 60)
    if len(plan.offers) > 1:
        yield "Else", _others(plan)
    if command is not None and best.provider in NOTEBOOKS:
        yield "Pushes", f"the small files of {clip(clean(command.folder), 40)} without secrets"
    elif command is not None and best.provider != "local":
        yield "Pushes", f"{clip(clean(command.folder), 60)}, as a whole"
    if command is None:
        yield "Time", f"about {format_duration(plan.seconds)}"
    ends = "; the machine then ends itself, whatever happens here" if best.boot_s else ""
    yield "Deadline", f"over after at most {format_duration(plan.deadline_s)}{ends}"
    most = most_usd(plan)
    limit = f", at most {format_usd(most)}, whichever machine is had" if most else ""
    yield "Cost", f"about {format_usd(min(plan.usd, most) if most else plan.usd)}{limit}"
    if best.provider == "rehearsal":
        yield "Note", "a rehearsal: nothing is rented, and the bill is pretended"


def _others(plan: Plan) -> str:
    """What is tried when the best offer cannot be had."""
    others = plan.offers[1:]
    named = ", ".join(dict.fromkeys(offer.where for offer in others[:3]))
    dearest = max(offer.usd_per_hour for offer in others)
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"{named}{more}, " + (f"up to {format_usd(dearest)} an hour" if dearest else "free")
