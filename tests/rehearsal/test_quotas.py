"""Quotas: what the account may run, and that it is held to it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudrun.rehearsal import quotas
from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import Fault
from tests.doubles.aws import client
from tests.rehearsal.conftest import Launch

SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}
G, G_SPOT = "L-DB2E81BA", "L-3819A6DF"


@pytest.mark.parametrize(
    ("kind", "on_demand", "spot"),
    [
        ("g4dn.xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("gr6.4xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("vt1.3xlarge", "L-DB2E81BA", "L-3819A6DF"),
        ("p3.2xlarge", "L-417A185B", "L-7212CCBC"),
        ("p4d.24xlarge", "L-417A185B", "L-7212CCBC"),
        ("p5.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("t3.micro", "L-1216C47A", "L-34B43A08"),
        ("inf2.xlarge", "", ""),
        ("trn1.2xlarge", "", ""),
    ],
)
def test_each_family_has_its_quota(kind: str, on_demand: str, spot: str) -> None:
    assert quotas.code_for(kind, "on-demand") == on_demand
    assert quotas.code_for(kind, "spot") == spot


def test_quotas_are_listed_by_region(paper: Cloud) -> None:
    paper.quotas = {("eu-west-1", G): 0}
    for region, value in (("eu-west-1", 0), ("us-east-1", 64)):
        asking = client(paper, "service-quotas", region)
        pages = asking.get_paginator("list_service_quotas").paginate(ServiceCode="ec2")
        found = {each["QuotaCode"]: each for page in pages for each in page["Quotas"]}
        assert found[G]["QuotaName"] == "Running On-Demand G and VT instances"
        assert found[G]["Value"] == value
        assert asking.get_service_quota(ServiceCode="ec2", QuotaCode=G)["Quota"]["Value"] == value


def test_what_there_is_no_quota_of(paper: Cloud) -> None:
    asking = client(paper, "service-quotas")
    for service, code in (("ec2", "L-00000000"), ("vpc", G)):
        with pytest.raises(ClientError, match="NoSuchResourceException"):
            asking.get_service_quota(ServiceCode=service, QuotaCode=code)


def test_on_demand_is_held_to_its_quota(paper: Cloud, ec2: Any, launch: Launch) -> None:
    paper.quotas = {("us-east-1", G): 8}
    first = launch()
    launch()
    with pytest.raises(ClientError, match="VcpuLimitExceeded.*vCPU limit of 8 allows"):
        launch()
    assert launch(**SPOT)
    ec2.terminate_instances(InstanceIds=[first])
    assert launch()


def test_several_at_once_count_together(paper: Cloud, ec2: Any, asked: dict[str, Any]) -> None:
    paper.quotas = {("us-east-1", G): 8}
    with pytest.raises(ClientError, match="VcpuLimitExceeded"):
        ec2.run_instances(**{**asked, "MaxCount": 3})
    assert paper.instances == {}


def test_spot_is_held_to_its_own(paper: Cloud, launch: Launch) -> None:
    paper.quotas = {("us-east-1", G_SPOT): 0}
    with pytest.raises(ClientError, match="MaxSpotInstanceCountExceeded.*Max spot instance count"):
        launch(**SPOT)
    assert launch()


def test_a_stopped_instance_counts_no_more(paper: Cloud, launch: Launch) -> None:
    paper.quotas = {("us-east-1", G): 4}
    paper.powered_off(launch())
    paper.clock.skip(0)
    assert launch()


def test_who_asks_may_be_refused_or_throttled(paper: Cloud) -> None:
    paper.faults = [
        Fault("ListServiceQuotas", "TooManyRequestsException", times=1),
        Fault("ListServiceQuotas", "AccessDeniedException", times=1),
    ]
    for code in ("TooManyRequestsException", "AccessDeniedException"):
        with pytest.raises(ClientError, match=code):
            client(paper, "service-quotas").list_service_quotas(ServiceCode="ec2")
