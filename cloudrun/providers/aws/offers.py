"""What can be had at AWS: which types in which zones, and for how much."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloudrun.catalog.instances import Instance
from cloudrun.errors import CloudrunError, Unavailable
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.providers import fitting
from cloudrun.providers.aws import calls, regions
from cloudrun.providers.base import Tell, is_named, nobody, zones_named
from cloudrun.providers.fitting import Price, dated
from cloudrun.providers.patience import raise_if_hopeless, side_by_side

# From the order to the first answer of a GPU machine's sshd: an estimate, from what
# others' launchers take (facts in docs/aws.md); no account was at hand to measure it.
BOOT_S = 75.0
LEAST_BOOT_S = 5.0
# No torch for this GPU on Arm.
_WITHOUT_TORCH = {"T4G"}


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:
    """The machines for a need, the cheapest first; of equal ones those in the user's own region.

    Raises:
        Unavailable: AWS has no type that fits, or nowhere.
        CloudrunError: AWS cannot be asked.
    """
    types = fitting.types(need, "aws", "AWS", _WITHOUT_TORCH)
    named = zones_named(need.targets, "aws", "rehearsal")
    places = regions.checked(named) or regions.enabled()
    with ThreadPoolExecutor(2) as pool:
        priced = pool.submit(_list_prices, types, places) if not need.spot else None
        found = side_by_side(lambda region: _in_region(region, types, need.spot), places)
        prices = priced.result() if priced is not None else {}
    if all(isinstance(answer, CloudrunError) for answer in found):
        # In some of them you may not, as a company's rules have it: that is no reason yet.
        raise_if_hopeless(found)
    answered = dict(zip(places, found, strict=True))
    silent = {
        f"in {region}": f"{answer.what} {answer.why}"
        for region, answer in answered.items()
        if isinstance(answer, CloudrunError)
    }
    fitting.tell_of_silent("AWS", silent, tell)
    home = calls.home_region()
    rows = [
        offer
        for region, answer in answered.items()
        if not isinstance(answer, CloudrunError)
        for offer in _offers(region, answer, prices, need.spot)
        if is_named(named, region, offer.zone)
    ]
    if not rows:
        raise _nothing(types, places)
    order = {region: number for number, region in enumerate(places)}
    return sorted(
        rows,
        key=lambda o: (o.usd_per_hour, o.region != home, order[o.region or ""], o.zone or ""),
    )


@dataclass(frozen=True)
class _Region:
    """What a region answered: which zones have which types, and what spot machines cost there."""

    zones: Sequence[tuple[Instance, str]]
    spot: dict[tuple[str, str], Price]


def _in_region(region: str, types: Sequence[Instance], spot: bool) -> _Region:
    ec2 = calls.client("ec2", region, quick=True)
    names = [each.instance_type for each in types]
    offered = calls.everything(
        "list its machine types",
        ec2,
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": names}],
    )
    known = {each.instance_type: each for each in types}
    zones = sorted((row["InstanceType"], row["Location"]) for row in offered)
    return _Region(
        [(known[name], zone) for name, zone in zones if name in known],
        _spot_prices(ec2, names) if spot and zones else {},
    )


def _spot_prices(ec2: Any, names: Sequence[str]) -> dict[tuple[str, str], Price]:
    """What spot machines cost now, by type and zone."""
    rows = calls.everything(
        "tell its spot prices",
        ec2,
        "describe_spot_price_history",
        "SpotPriceHistory",
        InstanceTypes=list(names),
        ProductDescriptions=["Linux/UNIX"],
        StartTime=datetime.now(UTC),
    )
    rows.sort(key=lambda row: row["Timestamp"])
    return {
        (row["InstanceType"], row["AvailabilityZone"]): Price(
            float(row["SpotPrice"]), datetime.now(UTC).date().isoformat()
        )
        for row in rows
    }


def _list_prices(types: Sequence[Instance], places: Sequence[str]) -> dict[tuple[str, str], Price]:
    """What machines cost on demand, by type and region, as AWS's price list says now."""

    def of_type(instance: Instance) -> list[tuple[tuple[str, str], Price]]:
        return list(_live_prices(instance.instance_type, places))

    answers = side_by_side(of_type, types)
    return dict(
        row for answer in answers if not isinstance(answer, CloudrunError) for row in answer
    )


def _live_prices(
    instance_type: str, places: Sequence[str]
) -> Iterator[tuple[tuple[str, str], Price]]:
    """https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html"""
    wanted = {
        "instanceType": instance_type,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
    }
    if len(places) == 1:
        wanted["regionCode"] = places[0]
    products = calls.everything(
        "tell its prices",
        calls.client("pricing", calls.US_EAST, quick=True),
        "get_products",
        "PriceList",
        ServiceCode="AmazonEC2",
        Filters=[{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()],
    )
    today = datetime.now(UTC).date().isoformat()
    for text in products:
        product = json.loads(text)
        region = product["product"]["attributes"].get("regionCode", "")
        usd = max(_usd_per_hour(product), default=0.0)
        if usd > 0:
            yield (instance_type, region), Price(usd, today)


def _usd_per_hour(product: dict[str, Any]) -> Iterator[float]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            if dimension.get("unit") == "Hrs":
                yield float(dimension.get("pricePerUnit", {}).get("USD", 0))


def _offers(
    region: str, answer: _Region, prices: dict[tuple[str, str], Price], spot: bool
) -> Iterator[Offer]:
    for instance, zone in answer.zones:
        if spot:
            price = answer.spot.get((instance.instance_type, zone))
        else:
            price = prices.get((instance.instance_type, region)) or dated(instance, region)
        if price is None:
            continue
        yield Offer(
            provider="aws",
            device="cuda",
            region=region,
            zone=zone,
            instance_type=instance.instance_type,
            gpu=instance.gpu or None,
            gpu_count=int(instance.gpu_count or 0),
            spot=spot,
            usd_per_hour=price.usd,
            price_as_of=price.as_of,
            price_note=price.note,
            boot_s=BOOT_S,
        )


def _nothing(types: Sequence[Instance], places: Sequence[str]) -> Unavailable:
    names = ", ".join(each.instance_type for each in types)
    return Unavailable(
        f"AWS does not offer {names} in {', '.join(places[:5])}"
        f"{' and the rest' if len(places) > 5 else ''}, or tells no price.",
        "",
        "Leave the region out, or choose another GPU: cloudrun gpus",
    )
