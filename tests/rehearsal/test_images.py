"""Images and the parameters that lead to them; regions."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from cloudrun.rehearsal.cloud import Cloud
from tests.doubles.aws import client

PATH = "/aws/service/deeplearning/ami/x86_64"
PYTORCH = f"{PATH}/oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04/latest/ami-id"


def named(ec2: Any, pattern: str, **more: Any) -> list[dict[str, Any]]:
    found = ec2.describe_images(Filters=[{"Name": "name", "Values": [pattern]}], **more)
    return list(found["Images"])


def test_a_parameter_leads_to_the_newest_image(paper: Cloud, ec2: Any) -> None:
    image = client(paper, "ssm").get_parameter(Name=PYTORCH)["Parameter"]["Value"]
    found = named(ec2, "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.9 (Ubuntu 24.04) *")
    assert len(found) == 2
    newest = max(found, key=lambda each: each["CreationDate"])
    assert newest["ImageId"] == image
    assert newest["Description"].startswith("Supported EC2 instances: G4dn, G5, G6, Gr6, G6e, P4d")
    assert (newest["OwnerId"], newest["ImageOwnerAlias"]) == ("898082745236", "amazon")
    assert newest["RootDeviceName"] == newest["BlockDeviceMappings"][0]["DeviceName"] == "/dev/sda1"
    assert newest["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 35


def test_each_region_has_ids_of_its_own(paper: Cloud) -> None:
    here, there = (
        {
            each["Name"]: each["ImageId"]
            for each in client(paper, "ec2", region).describe_images()["Images"]
        }
        for region in ("us-east-1", "eu-west-1")
    )
    assert set(here) == set(there)
    assert not set(here.values()) & set(there.values())


def test_parameters_come_ten_a_page(paper: Cloud) -> None:
    ssm = client(paper, "ssm")
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=PATH, Recursive=True)
    found = [[each["Name"] for each in page["Parameters"]] for page in pages]
    assert len(found[0]) == 10
    names = [name for page in found for name in page]
    assert len(names) == len(set(names)) > 10
    assert PYTORCH in names
    with pytest.raises(ClientError, match="ValidationException"):
        ssm.get_parameters_by_path(Path=PATH, MaxResults=11)
    with pytest.raises(ClientError, match="InvalidNextToken"):
        ssm.get_parameters_by_path(Path=PATH, Recursive=True, NextToken="mine")


def test_a_path_alone_is_not_its_depths(paper: Cloud) -> None:
    ssm = client(paper, "ssm")
    assert ssm.get_parameters_by_path(Path=PATH)["Parameters"] == []
    (found,) = ssm.get_parameters_by_path(Path=PYTORCH.rpartition("/")[0])["Parameters"]
    assert found["Name"] == PYTORCH


def test_parameters_that_are_not_there(paper: Cloud) -> None:
    ssm = client(paper, "ssm")
    with pytest.raises(ssm.exceptions.ParameterNotFound):
        ssm.get_parameter(Name=f"{PATH}/none/latest/ami-id")
    found = ssm.get_parameters(Names=[PYTORCH, "/none"])
    assert [each["Name"] for each in found["Parameters"]] == [PYTORCH]
    assert found["InvalidParameters"] == ["/none"]
    with pytest.raises(ClientError, match="ValidationException"):
        ssm.get_parameters(Names=[f"/none/{number}" for number in range(11)])


def test_images_by_owner_id_and_filter(ec2: Any) -> None:
    everything = ec2.describe_images()["Images"]
    assert ec2.describe_images(Owners=["amazon"])["Images"] == everything
    assert ec2.describe_images(Owners=["898082745236"])["Images"] == everything
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    one = everything[0]
    assert ec2.describe_images(ImageIds=[one["ImageId"]])["Images"] == [one]
    arm = ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["arm64"]}])["Images"]
    assert {each["Architecture"] for each in arm} == {"arm64"}
    assert all("G5g" in each["Description"] for each in arm)
    with pytest.raises(ClientError, match="InvalidAMIID.NotFound"):
        ec2.describe_images(ImageIds=["ami-0123456789abcdef0"])


def regions(paper: Cloud, **more: Any) -> dict[str, str]:
    found = client(paper, "ec2").describe_regions(**more)["Regions"]
    return {each["RegionName"]: each["OptInStatus"] for each in found}


def test_seventeen_regions_are_open_to_all(paper: Cloud) -> None:
    assert len(regions(paper)) == 17
    assert set(regions(paper).values()) == {"opt-in-not-required"}
    everything = regions(paper, AllRegions=True)
    assert everything["af-south-1"] == "not-opted-in"
    closed = [{"Name": "opt-in-status", "Values": ["not-opted-in"]}]
    assert len(regions(paper, AllRegions=True, Filters=closed)) == len(everything) - 17


def test_one_may_opt_into_a_region(paper: Cloud) -> None:
    paper.opted_in = {"eu-south-2"}
    assert regions(paper)["eu-south-2"] == "opted-in"
    assert client(paper, "ec2", "eu-south-2").describe_images()["Images"]


def test_regions_by_name(paper: Cloud) -> None:
    assert regions(paper, RegionNames=["us-east-1", "me-south-1"]) == {
        "us-east-1": "opt-in-not-required",
        "me-south-1": "not-opted-in",
    }
    with pytest.raises(ClientError, match="InvalidParameterValue.*moon-1"):
        regions(paper, RegionNames=["moon-1"])


@pytest.mark.parametrize(
    ("service", "action", "code"),
    [
        ("ec2", "describe_regions", "AuthFailure"),
        ("service-quotas", "list_services", "UnrecognizedClientException"),
        ("sts", "get_caller_identity", "InvalidClientTokenId"),
    ],
)
def test_a_region_not_opted_into_takes_no_credentials(
    paper: Cloud, service: str, action: str, code: str
) -> None:
    with pytest.raises(ClientError, match=code):
        getattr(client(paper, service, "af-south-1"), action)()
