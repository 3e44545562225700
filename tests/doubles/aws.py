"""A simulated AWS whose instances are real machines in network namespaces."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.wire import Refused
from tests.doubles import rack
from tests.doubles.rack import BadUserData, Boot


class Rack(rack.Rack):
    """Gives EC2 instances machines."""

    def start(
        self, instance_id: str, user_data: bytes, *, region: str, instance_type: str, image: str
    ) -> str:
        """Begin to start a machine; returns its address."""
        pythons = ["/usr/local/bin/python3"]
        if "PyTorch" in image:
            pythons.append("/opt/pytorch/bin/python")
        try:
            config = rack.read(user_data)
            return self.begin(instance_id, Boot(config, pythons=tuple(pythons)))
        except BadUserData as error:
            self.failures.append(f"{instance_id}: {error}")
            raise Refused("InvalidUserData", f"cloud-init would not take it: {error}") from error


class RackedCloud(Cloud):
    """The simulated AWS, and the rack that has its machines."""

    def __init__(self, machines: Rack) -> None:
        super().__init__(machines=machines)
        self.rack = machines
        machines.cloud = self


@contextlib.contextmanager
def cloud(bridge: str, folder: Path) -> Iterator[RackedCloud]:
    """A simulated AWS with machines on the bridge; raises at the end what went wrong in a boot."""
    machines = Rack(bridge, folder, 20)
    with RackedCloud(machines) as started:
        yield started
    machines.join()


def client(cloud: Cloud, service: str, region: str = "us-east-1", **config: Any) -> Any:
    """boto3's own client of the cloud, that tries once only if `config` does not say otherwise."""
    return boto3.client(
        service,
        region_name=region,
        endpoint_url=cloud.url,
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="none",  # noqa: S106
        config=Config(**{"retries": {"total_max_attempts": 1}, **config}),
    )
