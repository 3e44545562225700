"""What can be had at AWS: asked of a simulated one, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    HostUnreachable,
    Unavailable,
    WrongUsage,
)
from cloudrun.model.need import GpuRequest, Need
from cloudrun.providers import aws
from cloudrun.providers.aws import calls
from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import Fault


def need(*targets: str, gpu: str = "T4", count: int = 1, **more: Any) -> Need:
    return Need(targets=targets or ("aws",), gpu=GpuRequest(gpu, count), **more)


def test_the_cheapest_comes_first_with_its_live_price(paper: Cloud) -> None:
    offers = aws.offers(need("aws/us-east-1"))
    assert offers[0].instance_type == "g4dn.xlarge"
    assert offers[0].usd_per_hour == 0.526
    assert offers[0].price_as_of == datetime.now(UTC).date().isoformat()
    assert (offers[0].gpu, offers[0].gpu_count, offers[0].device) == ("T4", 1, "cuda")
    assert [o.usd_per_hour for o in offers] == sorted(o.usd_per_hour for o in offers)
    assert {o.region for o in offers} == {"us-east-1"}
    # moto knows, from AWS, that us-east-1e has none.
    assert {o.zone for o in offers if o.instance_type == "g4dn.xlarge"} >= {"us-east-1a"}
    assert "us-east-1e" not in {o.zone for o in offers}


def test_of_equal_prices_the_users_own_region_comes_first(
    paper: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    calls.forget()
    offers = aws.offers(need())
    cheapest = [o for o in offers if o.usd_per_hour == offers[0].usd_per_hour]
    assert len({o.region for o in cheapest}) > 1
    assert offers[0].region == "us-west-2"


def test_a_region_that_a_companys_rules_forbid_is_left_out(paper: Cloud) -> None:
    fault = Fault("DescribeInstanceTypeOfferings", "UnauthorizedOperation", region="eu-west-3")
    paper.faults.append(fault)
    regions = {o.region for o in aws.offers(need())}
    assert "us-east-1" in regions
    assert "eu-west-3" not in regions


def test_several_zones_of_a_region_can_be_named(paper: Cloud) -> None:
    both = ("aws/us-east-1/us-east-1a", "aws/us-east-1/us-east-1b")
    assert {o.zone for o in aws.offers(need(*both))} == {"us-east-1a", "us-east-1b"}


@pytest.mark.parametrize("wrong", ["aws/us-est-1", "aws/us east"])
def test_a_region_that_there_is_not(paper: Cloud, wrong: str) -> None:
    with pytest.raises(WrongUsage, match="AWS has no region"):
        aws.offers(need(wrong))


def test_settings_that_make_no_sense(paper: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "foo")
    calls.forget()
    with pytest.raises(BadSettings, match="settings for AWS"):
        aws.offers(need())


def test_a_zone_that_is_named_is_kept_to(paper: Cloud) -> None:
    assert {o.zone for o in aws.offers(need("aws/us-east-1/us-east-1c"))} == {"us-east-1c"}


def test_several_gpus_and_models(paper: Cloud) -> None:
    four = aws.offers(need("aws/us-east-1", count=4))
    assert {o.instance_type for o in four} == {"g4dn.12xlarge"}
    assert aws.offers(need("aws/us-east-1", gpu="L4"))[0].instance_type == "g6.xlarge"
    with pytest.raises(Unavailable, match=r"no machine with 3 x T4.*some with 1, 4, 8"):
        aws.offers(need(count=3))
    # The T4G hangs on Arm, for which no torch computes on it.
    with pytest.raises(Unavailable, match="rents none of this model"):
        aws.offers(need(gpu="T4G"))


def test_any_gpu_is_the_cheapest(paper: Cloud) -> None:
    offers = aws.offers(Need(targets=("aws/us-east-1",)))
    assert offers[0].instance_type == "g4dn.xlarge"


def test_a_type_that_is_named(paper: Cloud) -> None:
    offers = aws.offers(Need(targets=("aws/us-east-1",), instance_type="g4dn.2xlarge"))
    assert {o.instance_type for o in offers} == {"g4dn.2xlarge"}
    with pytest.raises(Unavailable, match=r"does not offer g9\.tiny in us-east-1"):
        aws.offers(Need(targets=("aws/us-east-1",), instance_type="g9.tiny"))


def test_spot_prices_are_those_of_the_zones(paper: Cloud) -> None:
    paper.spot_prices["us-east-1b", "g4dn.xlarge"] = 0.111
    offers = aws.offers(need("aws/us-east-1", spot=True))
    assert (offers[0].zone, offers[0].usd_per_hour) == ("us-east-1b", 0.111)
    assert all(o.spot for o in offers)


def test_where_the_price_list_does_not_answer_the_catalogue_does(paper: Cloud) -> None:
    paper.faults.append(Fault("GetProducts", "InternalFailure"))
    here = aws.offers(need("aws/us-east-1"))[0]
    assert (here.usd_per_hour, here.price_as_of, here.price_note) == (0.526, "2026-07-20", "")
    there = aws.offers(need("aws/eu-west-1"))[0]
    assert there.price_note == "the price of us-east-1"


def test_a_region_that_does_not_answer_is_left_out(paper: Cloud) -> None:
    paper.faults.append(
        Fault("DescribeInstanceTypeOfferings", region="us-west-2", how="lost before")
    )
    told: list[str] = []
    regions = {o.region for o in aws.offers(need(), told.append)}
    assert "us-east-1" in regions
    assert "us-west-2" not in regions
    assert [sentence.partition(":")[0] for sentence in told] == [
        "AWS does not say what it has in us-west-2"
    ]


def test_when_no_region_answers_the_first_reason_is_told(paper: Cloud) -> None:
    paper.faults.append(Fault("DescribeInstanceTypeOfferings", how="lost before"))
    with pytest.raises(HostUnreachable, match="no answer that makes sense"):
        aws.offers(need("aws/us-east-1"))


@pytest.mark.parametrize("code", ["ExpiredToken", "AuthFailure", "UnauthorizedOperation"])
def test_no_credentials_are_no_lack_of_offers(paper: Cloud, code: str) -> None:
    paper.faults.append(Fault("DescribeInstanceTypeOfferings", code))
    with pytest.raises(AccessDenied):
        aws.offers(need())


def test_without_the_permission_to_list_regions_the_own_one_is_asked(paper: Cloud) -> None:
    paper.deny.add("ec2:DescribeRegions")
    assert {o.region for o in aws.offers(need())} == {"us-east-1"}


def test_no_credentials_at_all(paper: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    calls.forget()
    with pytest.raises(AccessDenied, match=r"no credentials for AWS.*aws configure"):
        aws.offers(need())
