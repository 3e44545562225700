"""Spot requests: fulfilled, cancelled, interrupted, and what that says of the instance."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudrun.rehearsal.cloud import Cloud
from tests.doubles.aws import client
from tests.rehearsal.conftest import Launch


def market(**options: str) -> dict[str, Any]:
    return {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": options}}


def the_request(ec2: Any) -> dict[str, Any]:
    (found,) = ec2.describe_spot_instance_requests()["SpotInstanceRequests"]
    return dict(found)


def described(ec2: Any, instance: str) -> dict[str, Any]:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return dict(reservation["Instances"][0])


def test_a_spot_instance_has_a_request(ec2: Any, launch: Launch) -> None:
    tags = [{"Key": "cloudrun-run", "Value": "r1"}]
    asked = [{"ResourceType": "spot-instances-request", "Tags": tags}]
    instance = launch(**market(MaxPrice="0.5"), TagSpecifications=asked)
    found = the_request(ec2)
    assert found["State"] == "active"
    assert found["Status"]["Code"] == "fulfilled"
    assert (found["InstanceId"], found["Type"]) == (instance, "one-time")
    assert (float(found["SpotPrice"]), found["Tags"]) == (0.5, tags)
    assert found["LaunchSpecification"]["InstanceType"] == "g4dn.xlarge"
    told = described(ec2, instance)
    assert told["InstanceLifecycle"] == "spot"
    assert told["SpotInstanceRequestId"] == found["SpotInstanceRequestId"]


def test_an_on_demand_instance_has_none(paper: Cloud, ec2: Any, launch: Launch) -> None:
    instance = launch()
    assert ec2.describe_spot_instance_requests()["SpotInstanceRequests"] == []
    assert not {"InstanceLifecycle", "SpotInstanceRequestId"} & set(described(ec2, instance))
    with pytest.raises(KeyError):
        paper.interrupt(instance)


def test_filters(paper: Cloud, ec2: Any, launch: Launch) -> None:
    tags = [{"ResourceType": "spot-instances-request", "Tags": [{"Key": "run", "Value": "1"}]}]
    one, two = launch(**market(), TagSpecifications=tags), launch(**market())
    ec2.terminate_instances(InstanceIds=[two])

    def listed(name: str, value: str) -> list[str]:
        asked = [{"Name": name, "Values": [value]}]
        found = ec2.describe_spot_instance_requests(Filters=asked)["SpotInstanceRequests"]
        return [each["InstanceId"] for each in found]

    assert listed("tag:run", "1") == listed("state", "active") == [one]
    assert listed("status-code", "instance-terminated-*") == [two]
    assert listed("instance-id", two) == [two]
    other = client(paper, "ec2", "eu-west-1")
    assert other.describe_spot_instance_requests()["SpotInstanceRequests"] == []


def test_a_price_below_the_spot_price_is_refused(paper: Cloud, launch: Launch) -> None:
    paper.spot_prices = {("us-east-1a", "g4dn.xlarge"): 0.3}
    with pytest.raises(ClientError, match="SpotMaxPriceTooLow.*price of 0.29 is lower.*price of 0"):
        launch(**market(MaxPrice="0.29"))
    assert launch(**market(MaxPrice="0.3"))


def test_terminating_closes_the_request(ec2: Any, launch: Launch) -> None:
    ec2.terminate_instances(InstanceIds=[launch(**market())])
    found = the_request(ec2)
    assert (found["State"], found["Status"]["Code"]) == ("closed", "instance-terminated-by-user")


def test_a_persistent_request_opens_again(ec2: Any, launch: Launch) -> None:
    ec2.terminate_instances(InstanceIds=[launch(**market(SpotInstanceType="persistent"))])
    assert the_request(ec2)["State"] == "open"


def test_cancelling_leaves_the_instance_running(ec2: Any, launch: Launch) -> None:
    instance = launch(**market())
    request_id = the_request(ec2)["SpotInstanceRequestId"]
    done = ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request_id])
    assert done["CancelledSpotInstanceRequests"] == [
        {"SpotInstanceRequestId": request_id, "State": "cancelled"}
    ]
    found = the_request(ec2)
    assert found["State"] == "cancelled"
    assert found["Status"]["Code"] == "request-canceled-and-instance-running"
    assert described(ec2, instance)["State"]["Name"] == "running"
    ec2.terminate_instances(InstanceIds=[instance])
    found = the_request(ec2)
    assert (found["State"], found["Status"]["Code"]) == ("cancelled", "instance-terminated-by-user")


def test_an_unknown_request_is_not_found(paper: Cloud, ec2: Any, launch: Launch) -> None:
    launch(**market())
    request_id = the_request(ec2)["SpotInstanceRequestId"]
    for ask in (
        lambda: ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=["sir-00000000"]),
        lambda: client(paper, "ec2", "eu-west-1").describe_spot_instance_requests(
            SpotInstanceRequestIds=[request_id]
        ),
    ):
        with pytest.raises(ClientError, match="InvalidSpotInstanceRequestID.NotFound"):
            ask()


@pytest.mark.parametrize("why", ["no-capacity", "by-price", "capacity-oversubscribed"])
def test_an_interruption_gives_notice_then_ends(
    paper: Cloud, ec2: Any, launch: Launch, why: str
) -> None:
    instance = launch(**market())
    paper.interrupt(instance, notice_s=120, why=why)
    found = the_request(ec2)
    assert (found["State"], found["Status"]["Code"]) == ("active", "marked-for-termination")
    paper.clock.skip(119)
    assert described(ec2, instance)["State"]["Name"] == "running"
    paper.clock.skip(1)
    told = described(ec2, instance)
    assert told["State"]["Name"] == "terminated"
    assert told["StateReason"] == {
        "Code": "Server.SpotInstanceTermination",
        "Message": "Server.SpotInstanceTermination: Spot instance termination",
    }
    found = the_request(ec2)
    assert (found["State"], found["Status"]["Code"]) == ("closed", f"instance-terminated-{why}")


def test_who_ends_it_in_time_is_the_user(paper: Cloud, ec2: Any, launch: Launch) -> None:
    instance = launch(**market())
    paper.interrupt(instance, notice_s=120)
    ec2.terminate_instances(InstanceIds=[instance])
    paper.clock.skip(120)
    assert described(ec2, instance)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert the_request(ec2)["Status"]["Code"] == "instance-terminated-by-user"


def test_it_is_not_interrupted_for_no_reason(paper: Cloud, launch: Launch) -> None:
    with pytest.raises(ValueError, match="no spot instance is interrupted 'a-whim'"):
        paper.interrupt(launch(**market()), why="a-whim")
