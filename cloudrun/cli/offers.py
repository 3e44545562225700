"""`cloudrun offers`: what can be had now, cheapest first."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from cloudrun.cli import options, output
from cloudrun.errors import Unavailable
from cloudrun.model.events import Event, Noted
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.model.words import clean, format_usd

_MOST_ROWS = 20


@click.command("offers", cls=output.Command)
@options.where
@click.option("--spot/--on-demand", default=False,
              help="Machines that others have left. [default: on-demand]")  # fmt: skip
@click.option("--instance-type", metavar="TYPE", help="The cloud's own name: g4dn.xlarge.")
@click.option("--max-price", type=output.USD, metavar="USD", help="The most an hour.")
@output.json_option
def command(json: bool, **given: Any) -> None:
    """What can be had now, cheapest first: asked of the clouds themselves.

    Without --on, every cloud that you have credentials for is asked. Example:

      cloudrun offers --gpu T4 --on aws
    """
    from cloudrun.launcher import provision
    from cloudrun.providers import base as providers

    need = Need(
        targets=given["on"] or providers.clouds(),
        gpu=given["gpu"],
        spot=given["spot"],
        instance_type=given["instance_type"],
        max_price_usd=given["max_price"],
    )
    found, most = provision.offers(need, _tell), need.max_price_usd
    rows = [offer for offer in found if most is None or offer.usd_per_hour <= most]
    if not found:
        raise Unavailable("Nothing that fits can be had.", "", "Other GPUs: cloudrun gpus")
    if not rows:
        cheapest = format_usd(min(offer.usd_per_hour for offer in found))
        raise Unavailable("Nothing costs so little.", f"The cheapest costs {cheapest} an hour.",
                          "Raise --max-price.")  # fmt: skip
    if json:
        output.print_json([msgspec.to_builtins(offer) for offer in rows])
        return
    _show(rows)


def _tell(event: Event) -> None:
    if isinstance(event, Noted):
        output.say(clean(event.text))


def _show(rows: list[Offer]) -> None:
    """One row for each type, place and price, its zones together."""
    zones: dict[tuple[Any, ...], list[Offer]] = {}
    for offer in rows:
        place = (offer.provider, offer.region, offer.instance_type, offer.usd_per_hour)
        zones.setdefault(place, []).append(offer)
    shown = list(zones.values())[:_MOST_ROWS]
    output.print_table(
        ("USD/HOUR", "GPU", "TYPE", "WHERE", "ZONES", "PRICE OF"),
        [
            (
                format_usd(same[0].usd_per_hour),
                clean(f"{same[0].gpu_count} x {same[0].gpu or '?'}"),
                clean(same[0].instance_type or ""),
                clean(f"{same[0].provider} {same[0].region or ''}".strip()),
                ",".join(
                    clean((o.zone or "").removeprefix(o.region or "").lstrip("-")) for o in same
                ),
                same[0].price_note or same[0].price_as_of or "",
            )
            for same in shown
        ],
        right=(0,),
        elastic=(4,),
    )
    if len(zones) > len(shown):
        output.say(f"And {len(zones) - len(shown)} more: --json shows all.")
