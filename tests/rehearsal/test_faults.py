"""What goes wrong on purpose, as boto3 sees it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    IncompleteReadError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import ProtocolError

from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import ERRORS, Fault, no_capacity, throttled
from tests.doubles.aws import client
from tests.rehearsal.conftest import Launch

GONE = (ConnectionClosedError, EndpointConnectionError)


def refusal(ask: Any, *args: Any, **params: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as error:
        ask(*args, **params)
    told = error.value.response
    status = told["ResponseMetadata"]["HTTPStatusCode"]
    return told["Error"]["Code"], status, told["Error"]["Message"]


@pytest.mark.parametrize("code", [*ERRORS])
def test_every_error_arrives_with_its_code_and_status(paper: Cloud, ec2: Any, code: str) -> None:
    paper.faults = [Fault("DescribeVpcs", code)]
    assert refusal(ec2.describe_vpcs)[:2] == (code, ERRORS[code][0])


def test_an_error_of_ones_own(paper: Cloud) -> None:
    paper.faults = [Fault("*", "Odd", status=418, message="a <teapot> & no cloud")]
    told = refusal(client(paper, "ec2").describe_vpcs)
    assert told == ("Odd", 418, "a <teapot> & no cloud")
    told = refusal(client(paper, "sts").get_caller_identity)
    assert told == ("Odd", 418, "a <teapot> & no cloud")
    told = refusal(client(paper, "ssm").get_parameter, Name="/a")
    assert told == ("Odd", 418, "a <teapot> & no cloud")


def test_no_capacity_is_by_zone_and_a_servers_error(paper: Cloud, launch: Launch) -> None:
    paper.faults = [no_capacity(zone="us-east-1a")]
    code, status, words = refusal(launch, Placement={"AvailabilityZone": "us-east-1a"})
    assert (code, status) == ("InsufficientInstanceCapacity", 500)
    assert "sufficient g4dn.xlarge capacity in the Availability Zone you requested" in words
    assert "(us-east-1a)" in words
    assert "choosing us-east-1b, us-east-1c" in words
    assert launch(Placement={"AvailabilityZone": "us-east-1b"})
    assert len(paper.instances) == 1


def test_no_capacity_is_by_market_and_type_too(paper: Cloud, launch: Launch) -> None:
    paper.faults = [no_capacity(market="spot"), no_capacity(instance_type="g5.xlarge")]
    spot = {"InstanceMarketOptions": {"MarketType": "spot"}}
    assert "no Spot capacity" in refusal(launch, **spot)[2]
    assert refusal(launch, InstanceType="g5.xlarge")[0] == "InsufficientInstanceCapacity"
    assert launch()


def test_a_fault_is_by_region(paper: Cloud) -> None:
    paper.faults = [Fault("DescribeVpcs", "InternalError", region="eu-west-1")]
    assert refusal(client(paper, "ec2", "eu-west-1").describe_vpcs)[0] == "InternalError"
    assert client(paper, "ec2", "us-west-2").describe_vpcs()


def test_a_fault_strikes_so_often_after_so_many(paper: Cloud, ec2: Any) -> None:
    paper.faults = [Fault("DescribeVpcs", "InternalError", times=2, skip=1)]
    seen = []
    for _ in range(5):
        try:
            ec2.describe_vpcs()
            seen.append("")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
    assert seen == ["", "InternalError", "InternalError", "", ""]


def test_the_first_fault_that_is_not_spent_strikes(paper: Cloud, ec2: Any) -> None:
    paper.faults = [Fault("*", "InternalError", times=1), Fault("*", "Unavailable", times=1)]
    assert refusal(ec2.describe_vpcs)[0] == "InternalError"
    assert refusal(ec2.describe_vpcs)[0] == "Unavailable"
    assert ec2.describe_vpcs()


def test_throttling_is_outlasted_by_boto3s_own_retries(paper: Cloud) -> None:
    paper.faults = [throttled("DescribeVpcs", times=1)]
    patient = client(paper, "ec2", retries={"mode": "standard", "total_max_attempts": 2})
    assert patient.describe_vpcs()["ResponseMetadata"]["RetryAttempts"] == 1
    assert [each.status for each in paper.requests] == [503, 200]


@pytest.mark.parametrize(("how", "made"), [("lost before", 0), ("lost after", 1)])
def test_a_lost_answer_is_no_answer(paper: Cloud, launch: Launch, how: Any, made: int) -> None:
    paper.faults = [Fault("RunInstances", how=how)]
    with pytest.raises(GONE):
        launch()
    assert len(paper.instances) == made
    assert paper.asked("RunInstances")[0].status is None


def test_a_token_makes_one_instance_of_a_lost_answer(paper: Cloud, asked: Any) -> None:
    paper.faults = [Fault("RunInstances", how="lost after", times=1)]
    patient = client(paper, "ec2", retries={"mode": "standard", "total_max_attempts": 2})
    patient.run_instances(**asked, ClientToken="once")
    assert [each.status for each in paper.asked("RunInstances")] == [None, 200]
    assert len(paper.instances) == 1


def test_an_answer_may_not_come(paper: Cloud) -> None:
    paper.faults = [Fault("DescribeVpcs", how="hang")]
    hasty = client(paper, "ec2", read_timeout=0.2)
    with pytest.raises(ReadTimeoutError):
        hasty.describe_vpcs()
    assert client(paper, "ec2").describe_regions()


def test_a_cloud_that_stops_lets_go_of_who_hangs() -> None:
    entered, seen = threading.Event(), []
    with Cloud() as cloud:
        cloud.faults = [Fault("DescribeVpcs", how="hang")]
        cloud.before = lambda _request: entered.set()

        def ask() -> None:
            with pytest.raises(GONE) as error:
                client(cloud, "ec2").describe_vpcs()
            seen.append(error.type)

        asking = threading.Thread(target=ask)
        asking.start()
        assert entered.wait(10)
    asking.join(10)
    assert seen


def test_garbage_from_a_proxy(paper: Cloud, ec2: Any) -> None:
    paper.faults = [Fault("*", how="html")]
    # What is no answer of AWS's either fails to be parsed, or has no code.
    with pytest.raises((ClientError, ResponseParserError)) as error:
        ec2.describe_vpcs()
    assert "502" in str(error.value) or "invalid XML" in str(error.value)


def test_half_an_answer(paper: Cloud, launch: Launch) -> None:
    paper.faults = [Fault("RunInstances", how="cut")]
    with pytest.raises((*GONE, IncompleteReadError, ProtocolError, ResponseParserError)):
        launch()
    assert len(paper.instances) == 1
