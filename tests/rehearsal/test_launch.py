"""RunInstances: what is refused, what a token does, and what an instance gets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudrun.rehearsal import images
from cloudrun.rehearsal.cloud import Cloud
from tests.doubles.aws import client
from tests.rehearsal.conftest import Launch

SPOT = {"InstanceMarketOptions": {"MarketType": "spot"}}


def tags(kind: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": [{"Key": "cloudrun-run", "Value": "r1"}]}]


def described(ec2: Any, instance: str) -> dict[str, Any]:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return dict(reservation["Instances"][0])


def subnets(ec2: Any) -> dict[str, str]:
    return {s["AvailabilityZone"]: s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]}


def test_the_same_token_and_words_give_the_same_instance(paper: Cloud, launch: Launch) -> None:
    assert launch(ClientToken="a") == launch(ClientToken="a") != launch(ClientToken="b")
    assert len(paper.instances) == 2


def test_a_token_is_good_for_requests_at_the_same_time(paper: Cloud, launch: Launch) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(lambda _: launch(ClientToken="a"), range(4)))
    assert len(made) == len(paper.instances) == 1


def test_a_token_with_other_words_is_refused(launch: Launch) -> None:
    launch(ClientToken="a")
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        launch(ClientToken="a", InstanceType="g4dn.2xlarge")


def test_a_token_is_of_one_region(paper: Cloud, launch: Launch, asked: dict[str, Any]) -> None:
    launch(ClientToken="a")
    other = client(paper, "ec2", "us-west-2")
    image = next(iter(images.everything("us-west-2")))
    other.run_instances(**{**asked, "ImageId": image}, ClientToken="a")
    assert len(paper.instances) == 2


def test_a_token_outlives_its_instance(paper: Cloud, ec2: Any, asked: dict[str, Any]) -> None:
    made = ec2.run_instances(**asked, ClientToken="a")["Instances"][0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[made])
    (again,) = ec2.run_instances(**asked, ClientToken="a")["Instances"]
    assert (again["InstanceId"], again["State"]["Name"]) == (made, "terminated")
    paper.refuses_ended_tokens = True
    with pytest.raises(ClientError, match="IdempotentInstanceTerminated"):
        ec2.run_instances(**asked, ClientToken="a")


def test_boto3s_own_tokens_are_different(paper: Cloud, launch: Launch) -> None:
    assert launch() != launch()


def test_user_data_is_at_most_16_kilobytes(ec2: Any, launch: Launch) -> None:
    instance = launch(UserData="x" * 16384)
    attribute = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")
    assert attribute["UserData"]["Value"]
    with pytest.raises(ClientError, match="limited to 16384 bytes"):
        launch(UserData="x" * 16385)


def test_an_image_of_another_region_is_unknown(launch: Launch) -> None:
    with pytest.raises(ClientError, match=r"InvalidAMIID.NotFound.*'\[ami-.*\]' does not exist"):
        launch(ImageId=next(iter(images.everything("eu-west-1"))))


def test_an_image_may_be_a_parameter(ec2: Any, launch: Launch) -> None:
    name = "base-oss-nvidia-driver-gpu-ubuntu-22.04"
    parameter = f"/aws/service/deeplearning/ami/x86_64/{name}/latest/ami-id"
    instance = launch(ImageId=f"resolve:ssm:{parameter}")
    image = images.everything("us-east-1")[described(ec2, instance)["ImageId"]]
    assert image["Name"].startswith("Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04)")


def test_an_image_for_other_processors_is_refused(launch: Launch) -> None:
    with pytest.raises(ClientError, match="'arm64' of the specified instance type does not match"):
        launch(InstanceType="g5g.xlarge")


def test_a_type_that_a_zone_has_not_is_unsupported_there(ec2: Any, launch: Launch) -> None:
    there = subnets(ec2)
    with pytest.raises(ClientError, match=r"Unsupported.*\(us-east-1e\).*us-east-1a") as error:
        launch(InstanceType="g6.xlarge", SubnetId=there["us-east-1e"])
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    instance = launch(InstanceType="g6.xlarge", SubnetId=there["us-east-1b"])
    assert described(ec2, instance)["Placement"]["AvailabilityZone"] == "us-east-1b"


def test_a_type_that_no_zone_has_is_unsupported(launch: Launch) -> None:
    with pytest.raises(ClientError, match="Unsupported.*not supported in us-east-1"):
        launch(InstanceType="g9.huge")


def test_without_a_zone_one_is_taken_that_has_the_type(paper: Cloud, launch: Launch) -> None:
    launch(InstanceType="p4d.24xlarge")
    (run,) = paper.asked("RunInstances")
    offers = client(paper, "ec2").describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["p4d.24xlarge"]}],
    )
    assert run.zone in {each["Location"] for each in offers["InstanceTypeOfferings"]}


def test_a_group_and_a_subnet_of_different_networks_are_refused(ec2: Any, launch: Launch) -> None:
    vpc = ec2.create_vpc(CidrBlock="10.50.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="d", VpcId=vpc)["GroupId"]
    subnet = subnets(ec2)["us-east-1a"]
    for more in (
        {"SubnetId": subnet, "SecurityGroupIds": [group]},
        {"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group]}]},
    ):
        with pytest.raises(ClientError, match="InvalidParameter.*belong to different networks"):
            launch(**more)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"SubnetId": "subnet-1"}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": ["sg-1"]}, "InvalidGroup.NotFound"),
        ({"KeyName": "none"}, "InvalidKeyPair.NotFound"),
        ({"MinCount": 2}, "MinCount and MaxCount"),
        ({"Placement": {"AvailabilityZone": "us-east-1z"}}, "Invalid availability zone"),
        ({"TagSpecifications": tags("spot-instances-request")}, "not a valid taggable resource"),
        ({"CpuOptions": {"CoreCount": 1}}, "does not heed CpuOptions"),
        ({"InstanceMarketOptions": {"MarketType": "capacity-block"}}, "no market but spot"),
        (
            {"InstanceMarketOptions": {"SpotOptions": {"InstanceInterruptionBehavior": "stop"}}},
            "only terminates",
        ),
        (
            {"InstanceMarketOptions": {"SpotOptions": {"ValidUntil": 0}}},
            "does not heed ValidUntil",
        ),
        (
            {"SecurityGroupIds": ["sg-1"], "NetworkInterfaces": [{"DeviceIndex": 0}]},
            "InvalidParameterCombination",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    paper: Cloud, launch: Launch, more: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words):
        launch(**more)
    assert paper.instances == {}


def test_the_disk_is_the_images_if_not_told_otherwise(ec2: Any, launch: Launch) -> None:
    launch(TagSpecifications=tags("volume"))
    (volume,) = ec2.describe_volumes()["Volumes"]
    (attachment,) = volume["Attachments"]
    assert (volume["Size"], volume["VolumeType"]) == (35, "gp3")
    assert (attachment["Device"], attachment["DeleteOnTermination"]) == ("/dev/sda1", True)
    assert volume["Tags"] == tags("volume")[0]["Tags"]


def test_the_disk_may_be_larger_but_not_smaller_than_the_image(ec2: Any, launch: Launch) -> None:
    def disk(size: int) -> list[dict[str, Any]]:
        ebs = {"VolumeSize": size, "Encrypted": True}
        return [{"DeviceName": "/dev/sda1", "Ebs": ebs}]

    with pytest.raises(ClientError, match="smaller than snapshot 'snap-.*expect size >= 35GB"):
        launch(BlockDeviceMappings=disk(34))
    launch(BlockDeviceMappings=disk(100))
    (volume,) = ec2.describe_volumes()["Volumes"]
    assert (volume["Size"], volume["Encrypted"]) == (100, True)
    assert volume["Attachments"][0]["DeleteOnTermination"]


def test_what_is_asked_for_is_kept(ec2: Any, launch: Launch) -> None:
    group = ec2.create_security_group(GroupName="g", Description="d")["GroupId"]
    instance = launch(
        ClientToken="a",
        SecurityGroupIds=[group],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        InstanceInitiatedShutdownBehavior="terminate",
        TagSpecifications=tags("instance"),
    )
    found = described(ec2, instance)
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert found["SecurityGroups"] == [{"GroupId": group, "GroupName": "g"}]
    assert (found["ClientToken"], found["Tags"]) == ("a", tags("instance")[0]["Tags"])
    behaviour = "instanceInitiatedShutdownBehavior"
    told = ec2.describe_instance_attribute(InstanceId=instance, Attribute=behaviour)
    assert told["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"


def test_several_at_once(paper: Cloud, ec2: Any, asked: dict[str, Any]) -> None:
    made = ec2.run_instances(**{**asked, "MaxCount": 3}, ClientToken="a")["Instances"]
    again = ec2.run_instances(**{**asked, "MaxCount": 3}, ClientToken="a")["Instances"]
    assert len(made) == len(paper.instances) == 3
    assert [each["InstanceId"] for each in made] == [each["InstanceId"] for each in again]


def test_a_network_card_may_go_without_a_public_address(ec2: Any, launch: Launch) -> None:
    card = {"DeviceIndex": 0, "SubnetId": subnets(ec2)["us-east-1a"]}
    private = launch(NetworkInterfaces=[{**card, "AssociatePublicIpAddress": False}])
    public = launch(NetworkInterfaces=[{**card, "AssociatePublicIpAddress": True}])
    assert "PublicIpAddress" not in described(ec2, private)
    assert "PublicIpAddress" in described(ec2, public)
