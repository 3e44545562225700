"""A simulated AWS whose instances are on paper only, and boto3's clients of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloudrun.rehearsal.cloud import Cloud
from tests.doubles.aws import client

Launch = Callable[..., str]


@pytest.fixture
def paper() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def ec2(paper: Cloud) -> Any:
    return client(paper, "ec2")


@pytest.fixture
def asked(paper: Cloud) -> dict[str, Any]:
    """What RunInstances needs, and no more."""
    images = client(paper, "ssm").get_parameter(
        Name="/aws/service/deeplearning/ami/x86_64/"
        "oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04/latest/ami-id"
    )
    image = images["Parameter"]["Value"]
    return {"ImageId": image, "InstanceType": "g4dn.xlarge", "MinCount": 1, "MaxCount": 1}


@pytest.fixture
def launch(ec2: Any, asked: dict[str, Any]) -> Launch:
    def run(**more: Any) -> str:
        return str(ec2.run_instances(**{**asked, **more})["Instances"][0]["InstanceId"])

    return run
