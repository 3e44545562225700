"""The Price List, and the history of spot prices."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudrun.catalog import instances
from cloudrun.rehearsal.cloud import Cloud
from tests.doubles.aws import client

USUAL = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}


def products(paper: Cloud, **fields: str) -> list[dict[str, Any]]:
    filters = [{"Type": "TERM_MATCH", "Field": f, "Value": v} for f, v in fields.items()]
    pages = client(paper, "pricing").get_paginator("get_products")
    asked = pages.paginate(ServiceCode="AmazonEC2", Filters=filters)
    return [json.loads(each) for page in asked for each in page["PriceList"]]


def usd(product: dict[str, Any]) -> float:
    (offer,) = product["terms"]["OnDemand"].values()
    (dimension,) = offer["priceDimensions"].values()
    assert dimension["unit"] == "Hrs"
    return float(dimension["pricePerUnit"]["USD"])


def test_us_east_1_is_as_in_the_catalogue(paper: Cloud) -> None:
    t4 = instances.cheapest("T4", cloud="aws")
    assert t4 is not None
    kind = t4.instance_type
    (product,) = products(paper, instanceType=kind, regionCode="us-east-1", **USUAL)
    attributes = product["product"]["attributes"]
    assert (attributes["instanceType"], attributes["vcpu"]) == (kind, str(t4.vcpus))
    assert usd(product) == t4.usd_per_hour


def test_other_regions_are_dearer(paper: Cloud) -> None:
    found = products(paper, instanceType="g4dn.xlarge", **USUAL)
    prices = {each["product"]["attributes"]["regionCode"]: usd(each) for each in found}
    assert len(prices) > 17
    assert prices["us-west-2"] == prices["us-east-1"] < prices["eu-west-1"] < prices["sa-east-1"]


@pytest.mark.parametrize(("field", "value"), [("operatingSystem", "Windows"), ("tenancy", "Host")])
def test_other_systems_and_tenancies_are_not_sold(paper: Cloud, field: str, value: str) -> None:
    assert products(paper, instanceType="g4dn.xlarge", **{**USUAL, field: value}) == []


def test_pages_hold_a_hundred(paper: Cloud) -> None:
    pricing = client(paper, "pricing")
    page = pricing.get_products(ServiceCode="AmazonEC2")
    assert (len(page["PriceList"]), page["FormatVersion"]) == (100, "aws_v1")
    other = pricing.get_products(ServiceCode="AmazonEC2", NextToken=page["NextToken"])
    assert not set(page["PriceList"]) & set(other["PriceList"])


def test_the_price_list_is_in_few_regions(paper: Cloud) -> None:
    assert client(paper, "pricing", "eu-central-1").get_products(ServiceCode="AmazonEC2")
    with pytest.raises(ClientError, match="UnknownEndpoint"):
        client(paper, "pricing", "us-west-2").get_products(ServiceCode="AmazonEC2")


def test_what_the_price_list_does_not_know(paper: Cloud) -> None:
    pricing = client(paper, "pricing")
    with pytest.raises(ClientError, match="InvalidParameterException"):
        pricing.get_products(ServiceCode="AmazonS3")
    anywhere = [{"Type": "CONTAINS", "Field": "instanceType", "Value": "g4dn"}]
    with pytest.raises(ClientError, match="InvalidParameterException"):
        pricing.get_products(ServiceCode="AmazonEC2", Filters=anywhere)


def history(paper: Cloud, **more: Any) -> list[dict[str, Any]]:
    asked = {"InstanceTypes": ["g4dn.xlarge"], "ProductDescriptions": ["Linux/UNIX"], **more}
    found = client(paper, "ec2").describe_spot_price_history(**asked)
    return list(found["SpotPriceHistory"])


def test_spot_prices_of_now_are_one_a_zone(paper: Cloud) -> None:
    now = datetime.now(UTC)
    found = history(paper, StartTime=now)
    zones = [each["AvailabilityZone"] for each in found]
    assert len(zones) == len(set(zones)) > 1
    for each in found:
        assert 0.3 * 0.526 < float(each["SpotPrice"]) < 0.51 * 0.526
        assert now - timedelta(hours=6) <= each["Timestamp"] <= now
    assert len({each["SpotPrice"] for each in found}) > 1


def test_spot_prices_of_days_are_the_newest_first(paper: Cloud) -> None:
    start = datetime.now(UTC) - timedelta(days=2)
    found = history(paper, StartTime=start, AvailabilityZone="us-east-1a")
    times = [each["Timestamp"] for each in found]
    assert times == sorted(times, reverse=True)
    assert len(times) == 9
    assert {each["AvailabilityZone"] for each in found} == {"us-east-1a"}
    early = history(paper, EndTime=start, StartTime=start, AvailabilityZone="us-east-1a")
    assert [each["Timestamp"] for each in early] == times[-1:]


def test_a_test_may_set_a_spot_price(paper: Cloud) -> None:
    paper.spot_prices = {("us-east-1b", "g4dn.xlarge"): 0.01}
    found = history(paper, StartTime=datetime.now(UTC))
    assert {e["AvailabilityZone"] for e in found if float(e["SpotPrice"]) == 0.01} == {"us-east-1b"}


def test_a_zone_that_has_not_the_type_has_no_price(paper: Cloud) -> None:
    found = history(paper, InstanceTypes=["g6.xlarge"], StartTime=datetime.now(UTC))
    assert "us-east-1e" not in {each["AvailabilityZone"] for each in found}


def test_windows_is_not_sold(paper: Cloud) -> None:
    assert history(paper, ProductDescriptions=["Windows"]) == []
