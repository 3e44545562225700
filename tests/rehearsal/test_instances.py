"""Instances over time: pending, running, seen late, ended from here, from inside, or by nobody."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudrun.rehearsal import images
from cloudrun.rehearsal.cloud import Cloud
from tests.doubles.aws import client
from tests.rehearsal.conftest import Launch


class Paper:
    """Machines that are a note only."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, ...]] = []
        self.stopped: list[str] = []

    def start(self, instance_id: str, user_data: bytes, **more: str) -> str:
        self.started.append((instance_id, user_data, more))
        return "10.99.77.1"

    def stop(self, instance_id: str) -> None:
        self.stopped.append(instance_id)


def described(ec2: Any, instance: str) -> dict[str, Any]:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return dict(reservation["Instances"][0])


def state(ec2: Any, instance: str) -> str:
    return str(described(ec2, instance)["State"]["Name"])


def listed(ec2: Any, **filters: str) -> list[str]:
    asked = [{"Name": name.replace("_", "-"), "Values": [v]} for name, v in filters.items()]
    found = ec2.describe_instances(Filters=asked)["Reservations"]
    return [each["InstanceId"] for reservation in found for each in reservation["Instances"]]


def test_it_is_pending_for_a_while(paper: Cloud, ec2: Any, asked: dict[str, Any]) -> None:
    paper.pending_s = 30
    (made,) = ec2.run_instances(**asked)["Instances"]
    instance = made["InstanceId"]
    assert (made["State"]["Name"], made.get("PublicIpAddress")) == ("pending", None)
    paper.clock.skip(29)
    assert state(ec2, instance) == "pending"
    assert "PublicIpAddress" not in described(ec2, instance)
    assert listed(ec2, instance_state_name="pending") == [instance]
    paper.clock.skip(1)
    assert state(ec2, instance) == "running"
    assert described(ec2, instance)["PublicIpAddress"]
    assert listed(ec2, instance_state_name="pending") == []


def test_run_says_pending_even_if_it_runs_at_once(ec2: Any, asked: dict[str, Any]) -> None:
    (made,) = ec2.run_instances(**asked)["Instances"]
    assert (made["State"]["Name"], made["State"]["Code"]) == ("pending", 0)
    assert state(ec2, made["InstanceId"]) == "running"


def test_others_know_it_only_after_a_while(paper: Cloud, ec2: Any, launch: Launch) -> None:
    paper.blind_s = 10
    instance = launch()
    for ask in (
        lambda: ec2.describe_instances(InstanceIds=[instance]),
        lambda: ec2.describe_instance_status(InstanceIds=[instance]),
        lambda: ec2.terminate_instances(InstanceIds=[instance]),
        lambda: ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData"),
        lambda: ec2.get_console_output(InstanceId=instance),
    ):
        with pytest.raises(ClientError, match="InvalidInstanceID.NotFound.*does not exist"):
            ask()
    assert listed(ec2) == []
    paper.clock.skip(10)
    assert listed(ec2) == [instance]
    assert ec2.terminate_instances(InstanceIds=[instance])


def test_an_instance_is_of_one_region(paper: Cloud, ec2: Any, launch: Launch) -> None:
    instance = launch()
    other = client(paper, "ec2", "eu-west-1")
    assert listed(other) == []
    with pytest.raises(ClientError, match="InvalidInstanceID.NotFound"):
        other.terminate_instances(InstanceIds=[instance])


def test_ending_takes_a_while(paper: Cloud, ec2: Any, launch: Launch) -> None:
    paper.ending_s = 60
    instance = launch()
    (change,) = ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"]
    assert change["PreviousState"] == {"Code": 16, "Name": "running"}
    assert change["CurrentState"] == {"Code": 32, "Name": "shutting-down"}
    paper.clock.skip(59)
    assert state(ec2, instance) == "shutting-down"
    assert ec2.describe_volumes()["Volumes"]
    paper.clock.skip(1)
    found = described(ec2, instance)
    assert found["State"] == {"Code": 48, "Name": "terminated"}
    assert found["StateReason"] == {
        "Code": "Client.UserInitiatedShutdown",
        "Message": "Client.UserInitiatedShutdown: User initiated shutdown",
    }
    assert found["StateTransitionReason"].startswith("User initiated (")
    assert not {"PublicIpAddress", "PrivateIpAddress", "SubnetId", "VpcId"} & set(found)
    assert ec2.describe_volumes()["Volumes"] == []


def test_ending_twice_is_as_ending_once(ec2: Any, launch: Launch) -> None:
    instance = launch()
    ec2.terminate_instances(InstanceIds=[instance, instance])
    (change,) = ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"]
    assert change["PreviousState"]["Name"] == change["CurrentState"]["Name"] == "terminated"


def test_one_unknown_instance_saves_all(ec2: Any, launch: Launch) -> None:
    instance = launch()
    with pytest.raises(ClientError, match="InvalidInstanceID.NotFound"):
        ec2.terminate_instances(InstanceIds=[instance, "i-0123456789abcdef0"])
    assert state(ec2, instance) == "running"


def test_a_protected_instance_stays(ec2: Any, launch: Launch) -> None:
    instance = launch()
    ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination={"Value": True})
    with pytest.raises(ClientError, match="OperationNotPermitted.*may not be terminated"):
        ec2.terminate_instances(InstanceIds=[instance])


def test_ended_while_pending_it_never_runs(paper: Cloud, ec2: Any, launch: Launch) -> None:
    paper.pending_s = 30
    instance = launch()
    ec2.terminate_instances(InstanceIds=[instance])
    paper.clock.skip(30)
    assert state(ec2, instance) == "terminated"


def test_a_group_is_held_until_its_instance_is_terminated(
    paper: Cloud, ec2: Any, launch: Launch
) -> None:
    paper.ending_s = 60
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    instance = launch(SecurityGroupIds=[group])
    with pytest.raises(ClientError, match="DependencyViolation.*has a dependent object"):
        ec2.delete_security_group(GroupId=group)
    ec2.terminate_instances(InstanceIds=[instance])
    with pytest.raises(ClientError, match="DependencyViolation"):
        ec2.delete_security_group(GroupId=group)
    paper.clock.skip(60)
    ec2.delete_security_group(GroupId=group)


def test_a_group_on_a_network_card_is_held_too(ec2: Any, launch: Launch) -> None:
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    launch(NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group]}])
    with pytest.raises(ClientError, match="DependencyViolation"):
        ec2.delete_security_group(GroupId=group)


def test_an_instance_may_be_given_other_groups(ec2: Any, launch: Launch) -> None:
    one, two = (
        ec2.create_security_group(GroupName=name, Description="d")["GroupId"] for name in "ab"
    )
    instance = launch(SecurityGroupIds=[one])
    ec2.modify_instance_attribute(InstanceId=instance, Groups=[two])
    ec2.delete_security_group(GroupId=one)
    assert [g["GroupId"] for g in described(ec2, instance)["SecurityGroups"]] == [two]
    with pytest.raises(ClientError, match="DependencyViolation"):
        ec2.delete_security_group(GroupId=two)


def test_its_groups_are_those_of_its_card_which_goes_with_it(ec2: Any, launch: Launch) -> None:
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    carded = launch(NetworkInterfaces=[{"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group]}])
    plain = launch()
    assert described(ec2, carded)["SecurityGroups"] == [{"GroupId": group, "GroupName": "g"}]
    (default,) = described(ec2, plain)["SecurityGroups"]
    assert default["GroupName"] == "default"
    ec2.terminate_instances(InstanceIds=[carded, plain])
    assert state(ec2, carded) == state(ec2, plain) == "terminated"
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_disks_that_are_to_stay_stay(ec2: Any, launch: Launch) -> None:
    ebs = {"VolumeSize": 50, "DeleteOnTermination": False}
    instance = launch(BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": ebs}])
    assert len(ec2.describe_volumes()["Volumes"]) == 2
    ec2.terminate_instances(InstanceIds=[instance])
    described(ec2, instance)
    (volume,) = ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["State"]) == (50, "available")


@pytest.mark.parametrize(
    ("behaviour", "between", "then", "disks"),
    [("terminate", "shutting-down", "terminated", 0), ("stop", "stopping", "stopped", 1)],
)
def test_a_machine_that_powers_itself_off(
    paper: Cloud,
    ec2: Any,
    launch: Launch,
    behaviour: str,
    between: str,
    then: str,
    disks: int,
) -> None:
    paper.ending_s = 60
    instance = launch(InstanceInitiatedShutdownBehavior=behaviour)
    paper.powered_off(instance)
    assert state(ec2, instance) == between
    paper.clock.skip(60)
    found = described(ec2, instance)
    assert found["State"]["Name"] == then
    assert found["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert len(ec2.describe_volumes()["Volumes"]) == disks


def test_a_stopped_instance_can_be_terminated(paper: Cloud, ec2: Any, launch: Launch) -> None:
    instance = launch()
    paper.powered_off(instance)
    assert state(ec2, instance) == "stopped"
    assert "PublicIpAddress" not in described(ec2, instance)
    ec2.terminate_instances(InstanceIds=[instance])
    assert state(ec2, instance) == "terminated"


def test_an_instance_may_come_to_nothing(paper: Cloud, ec2: Any, launch: Launch) -> None:
    paper.pending_s = 30
    instance = launch()
    paper.fail(instance)
    assert described(ec2, instance)["StateReason"]["Code"] == "Server.InternalError"
    assert state(ec2, instance) == "terminated"


def test_machines_are_given_and_taken_away(paper: Cloud, ec2: Any, launch: Launch) -> None:
    paper.machines = machines = Paper()
    instance = launch(UserData="#cloud-config\n")
    ((name, data, more),) = machines.started
    assert (name, data) == (instance, b"#cloud-config\n")
    assert (more["region"], more["instance_type"]) == ("us-east-1", "g4dn.xlarge")
    assert "PyTorch 2.9" in more["image"]
    found = described(ec2, instance)
    assert found["PublicIpAddress"] == found["PrivateIpAddress"] == "10.99.77.1"
    (card,) = found["NetworkInterfaces"]
    assert card["Association"]["PublicIp"] == card["PrivateIpAddress"] == "10.99.77.1"
    ec2.terminate_instances(InstanceIds=[instance])
    assert machines.stopped == [instance]


def test_a_cloud_that_ends_takes_its_machines_away(paper: Cloud) -> None:
    machines = Paper()
    with Cloud(machines) as cloud:
        image = next(iter(images.everything("us-east-1")))
        asked = {"ImageId": image, "InstanceType": "g4dn.xlarge", "MinCount": 1, "MaxCount": 1}
        client(cloud, "ec2").run_instances(**asked)
    assert machines.stopped == [machines.started[0][0]]


def test_filters(ec2: Any, launch: Launch) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "owner", "Value": "me [x]"}]}]
    one = launch(ClientToken="t-1", TagSpecifications=tags)
    two = launch(InstanceType="g4dn.2xlarge", InstanceMarketOptions={"MarketType": "spot"})
    assert listed(ec2, **{"client-token": "t-1"}) == [one]
    assert listed(ec2, tag_key="owner") == [one]
    assert listed(ec2, **{"tag:owner": "me*"}) == [one]
    assert listed(ec2, **{"tag:owner": "me [x]"}) == [one]
    assert listed(ec2, **{"tag:owner": "me"}) == []
    assert listed(ec2, instance_type="*.2xlarg?") == [two]
    assert listed(ec2, instance_lifecycle="spot") == [two]
    assert listed(ec2, instance_state_name="running", instance_type="g4dn.xlarge") == [one]


def test_pages(ec2: Any, launch: Launch) -> None:
    made = {launch(), launch(), launch()}
    pages = list(ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 2}))
    assert [len(each["Reservations"]) for each in pages] == [2, 1]
    found = {r["Instances"][0]["InstanceId"] for page in pages for r in page["Reservations"]}
    assert found == made
    with pytest.raises(ClientError, match="InvalidNextToken"):
        ec2.describe_instances(NextToken="mine")
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        ec2.describe_instances(InstanceIds=[*made], MaxResults=5)


def test_status_is_of_running_instances(paper: Cloud, ec2: Any, launch: Launch) -> None:
    one, two = launch(), launch()
    ec2.terminate_instances(InstanceIds=[two])
    (status,) = ec2.describe_instance_status()["InstanceStatuses"]
    assert (status["InstanceId"], status["InstanceStatus"]["Status"]) == (one, "ok")
    everything = ec2.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"]
    assert {each["InstanceState"]["Name"] for each in everything} == {"running", "terminated"}


def test_the_console_says_what_it_is_told_to(paper: Cloud, ec2: Any, launch: Launch) -> None:
    instance = launch()
    assert "Output" not in ec2.get_console_output(InstanceId=instance)
    paper.console[instance] = "Kernel panic\n"
    assert ec2.get_console_output(InstanceId=instance)["Output"] == "Kernel panic\n"


def test_the_default_network_leads_to_the_internet(ec2: Any) -> None:
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    inside = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    (table,) = ec2.describe_route_tables(Filters=inside)["RouteTables"]
    routes = {r["DestinationCidrBlock"]: r["GatewayId"] for r in table["Routes"]}
    assert routes["0.0.0.0/0"].startswith("igw-")
