"""What machines cost: the Price List for on-demand ones, and the history of spot prices.

On demand, us-east-1 is as in `cloudrun.catalog.instances`; elsewhere a factor dearer.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cloudrun.catalog.instances import Instance, all_instances
from cloudrun.rehearsal.account import Account
from cloudrun.rehearsal.regions import ALWAYS, BY_CHOICE
from cloudrun.rehearsal.wire import Refused, Request, page, sift

# https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/price-changes.html
ENDPOINTS = ("us-east-1", "eu-central-1", "ap-south-1")
_FACTORS = {"us-east-1": 1.0, "us-east-2": 1.0, "us-west-2": 1.0, "eu-west-1": 1.1}
_DEARER = 1.2
_PLACES = {
    "us-east-1": "US East (N. Virginia)",
    "us-east-2": "US East (Ohio)",
    "us-west-2": "US West (Oregon)",
    "eu-west-1": "EU (Ireland)",
    "eu-central-1": "EU (Frankfurt)",
}
_SPOT_FILTERS = {
    "availability-zone": "AvailabilityZone",
    "instance-type": "InstanceType",
    "product-description": "ProductDescription",
    "spot-price": "SpotPrice",
}
_LINUX = "Linux/UNIX"
# A spot price changes so often, and the history goes back so far.
_EVERY = timedelta(hours=6)
_BACK = timedelta(days=90)


def on_demand(region: str, instance_type: str) -> float | None:
    """US dollars per hour; None if the catalogue has no price."""
    instance = _catalogue().get(instance_type)
    if instance is None or instance.usd_per_hour is None:
        return None
    return round(instance.usd_per_hour * _FACTORS.get(region, _DEARER), 5)


def spot(account: Account, zone: str, instance_type: str, at: datetime) -> float | None:
    """The spot price in a zone at a time, in US dollars per hour; None if there is none."""
    if (zone, instance_type) in account.spot_prices:
        return account.spot_prices[zone, instance_type]
    full = on_demand(zone[:-1], instance_type)
    if full is None:
        return None
    turn = int(at.timestamp() // _EVERY.total_seconds())
    # A third to a half of the full price, another in each zone, moving a little.
    share = 0.33 + 0.15 * _chance(zone, instance_type) + 0.02 * _chance(zone, instance_type, turn)
    return round(full * share, 4)


def get_products(_account: Account, request: Request) -> dict[str, Any]:
    """The Price List's GetProducts, for Linux machines of one's own, shared tenancy.

    https://docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/using-price-list-query-api.html
    """
    params = request.params
    if request.region not in ENDPOINTS:
        text = f"The Price List has no endpoint in {request.region}"
        raise Refused("UnknownEndpoint", text, 404)
    if params.get("ServiceCode") != "AmazonEC2":
        raise Refused("InvalidParameterException", "The rehearsal sells AmazonEC2 only")
    wanted = [_wanted(each) for each in params.get("Filters", [])]
    found = [
        product
        for product in _products()
        if all(product["product"]["attributes"].get(field) == value for field, value in wanted)
    ]
    part, token = page([json.dumps(each) for each in found], params, 100)
    return {"FormatVersion": "aws_v1", "PriceList": part, "NextToken": token}


def spot_history(account: Account, request: Request) -> dict[str, Any]:
    """DescribeSpotPriceHistory: newest first, with the price in force at StartTime too.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeSpotPriceHistory.html
    """
    params = request.params
    now = datetime.now(UTC)
    start, end = _utc(params.get("StartTime"), now - _BACK), _utc(params.get("EndTime"), now)
    products = params.get("ProductDescriptions") or [_LINUX]
    rows = []
    if _LINUX in products:
        for zone, instance_type in _offered(account, request):
            rows += _history(account, zone, instance_type, start, min(end, now))
    rows = sift(rows, params.get("Filters", []), _SPOT_FILTERS)
    rows.sort(key=lambda row: row["Timestamp"], reverse=True)
    part, token = page(rows, params, 1000)
    return {"SpotPriceHistory": part, "NextToken": token or ""}


def _wanted(each: dict[str, Any]) -> tuple[str, str]:
    if each.get("Type") != "TERM_MATCH":
        raise Refused("InvalidParameterException", "The rehearsal knows TERM_MATCH only")
    return each["Field"], each["Value"]


@cache
def _catalogue() -> dict[str, Instance]:
    return {each.instance_type: each for each in all_instances() if each.cloud == "aws"}


@cache
def _products() -> tuple[dict[str, Any], ...]:
    return tuple(
        _product(region, instance, price)
        for region in sorted({*ALWAYS, *BY_CHOICE})
        for instance in _catalogue().values()
        if (price := on_demand(region, instance.instance_type)) is not None
    )


def _product(region: str, instance: Instance, price: float) -> dict[str, Any]:
    kind = instance.instance_type
    sku = _code(region, kind)
    term, rate = "JRTCKXETXF", "6YS6EN2CT7"
    prefix = "" if region == "us-east-1" else f"{region.upper()}-"
    dimension = {
        "unit": "Hrs",
        "endRange": "Inf",
        "description": f"${price} per On Demand Linux {kind} Instance Hour",
        "appliesTo": [],
        "rateCode": f"{sku}.{term}.{rate}",
        "beginRange": "0",
        "pricePerUnit": {"USD": f"{price:.10f}"},
    }
    offer = {
        "priceDimensions": {f"{sku}.{term}.{rate}": dimension},
        "sku": sku,
        "effectiveDate": "2026-11-01T00:00:00Z",
        "offerTermCode": term,
        "termAttributes": {},
    }
    attributes = {
        "capacitystatus": "Used",
        "currentGeneration": "Yes",
        "gpu": str(instance.gpu_count),
        "instanceFamily": "GPU instance",
        "instanceType": kind,
        "licenseModel": "No License required",
        "location": _PLACES.get(region, region),
        "locationType": "AWS Region",
        "marketoption": "OnDemand",
        "memory": f"{instance.memory_gb} GiB",
        "operatingSystem": "Linux",
        "operation": "RunInstances",
        "preInstalledSw": "NA",
        "regionCode": region,
        "servicecode": "AmazonEC2",
        "servicename": "Amazon Elastic Compute Cloud",
        "tenancy": "Shared",
        "usagetype": f"{prefix}BoxUsage:{kind}",
        "vcpu": str(instance.vcpus),
    }
    return {
        "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": sku},
        "serviceCode": "AmazonEC2",
        "terms": {"OnDemand": {f"{sku}.{term}": offer}},
        "version": "20261120153211",
        "publicationDate": "2026-11-20T15:32:11Z",
    }


def _offered(account: Account, request: Request) -> list[tuple[str, str]]:
    """Zones and types to give prices of: of those asked for, the ones to be had."""
    params = request.params
    types = params.get("InstanceTypes") or sorted(_catalogue())
    offers = account.moto.ask(
        request.region,
        "DescribeInstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": types}],
    )["InstanceTypeOfferings"]
    pairs = [(each["Location"], each["InstanceType"]) for each in offers]
    return [pair for pair in pairs if params.get("AvailabilityZone") in (None, pair[0])]


def _history(
    account: Account, zone: str, instance_type: str, start: datetime, end: datetime
) -> list[dict[str, Any]]:
    rows = []
    step = _EVERY.total_seconds()
    # The change at or before the start is what was in force then.
    at = datetime.fromtimestamp(start.timestamp() // step * step, UTC)
    while at <= end:
        price = spot(account, zone, instance_type, at)
        if price is not None:
            rows.append(
                {
                    "AvailabilityZone": zone,
                    "InstanceType": instance_type,
                    "ProductDescription": _LINUX,
                    "SpotPrice": f"{price:.6f}",
                    "Timestamp": at,
                }
            )
        at += _EVERY
    return rows


def _utc(given: datetime | None, otherwise: datetime) -> datetime:
    if given is None:
        return otherwise
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def _chance(*of: object) -> float:
    """From 0 to 1, the same for the same."""
    return int(hashlib.sha256(repr(of).encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def _code(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:16].upper()
