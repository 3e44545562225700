"""The images that AWS publishes for deep learning, and the parameters that lead to them.

Names and parameters are real ones; ids are made up, each region having its own.
https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cloudrun.rehearsal.account import Account
from cloudrun.rehearsal.wire import Refused, Request, page, sift

OWNER = "898082745236"
_NOTES = "https://docs.aws.amazon.com/dlami/latest/devguide/appendix-ami-release-notes.html"
_TURING_ON = "G4dn, G5, G6, Gr6, G6e, P4d, P4de, P5, P5e, P5en, P6-B200"
_FILTERS = {
    "architecture": "Architecture",
    "description": "Description",
    "image-id": "ImageId",
    "image-type": "ImageType",
    "is-public": "Public",
    "name": "Name",
    "owner-alias": "ImageOwnerAlias",
    "owner-id": "OwnerId",
    "root-device-type": "RootDeviceType",
    "state": "State",
    "virtualization-type": "VirtualizationType",
}


@dataclass(frozen=True)
class _Line:
    """A line of images: its parameter, its name, and the days of its builds, the newest last."""

    architecture: str
    parameter: str
    name: str
    gigabytes: int
    builds: tuple[str, ...]
    supports: str = _TURING_ON


_LINES = (
    _Line(
        "x86_64",
        "base-oss-nvidia-driver-gpu-ubuntu-22.04",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04)",
        75,
        ("20261030", "20261113"),
    ),
    _Line(
        "x86_64",
        "base-oss-nvidia-driver-gpu-ubuntu-24.04",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)",
        75,
        ("20261030", "20261114"),
    ),
    _Line(
        "x86_64",
        "base-oss-nvidia-driver-gpu-amazon-linux-2023",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Amazon Linux 2023)",
        75,
        ("20261030", "20261113"),
    ),
    _Line(
        "x86_64",
        "base-with-single-cuda-ubuntu-22.04",
        "Deep Learning Base AMI with Single CUDA (Ubuntu 22.04)",
        45,
        ("20261030", "20261113"),
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.6-ubuntu-22.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.6 (Ubuntu 22.04)",
        35,
        ("20250602", "20251003"),
        "G4dn, G5, G6, Gr6, G6e, P4d, P4de, P5, P5e, P5en",
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.7-ubuntu-22.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.7 (Ubuntu 22.04)",
        35,
        ("20250602", "20260409"),
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.8-ubuntu-24.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.8 (Ubuntu 24.04)",
        35,
        ("20251017", "20260724"),
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.9-amazon-linux-2023",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.9 (Amazon Linux 2023)",
        35,
        ("20260320", "20261023"),
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.9-ubuntu-24.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.9 (Ubuntu 24.04)",
        35,
        ("20260320", "20261023"),
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.10-ubuntu-24.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.10 (Ubuntu 24.04)",
        35,
        ("20260515", "20261106"),
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.12 (Ubuntu 24.04)",
        35,
        ("20260821", "20261106"),
    ),
    _Line(
        "x86_64",
        "oss-nvidia-driver-gpu-pytorch-2.13-ubuntu-26.04",
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.13 (Ubuntu 26.04)",
        35,
        ("20260828", "20261113"),
    ),
    _Line(
        "arm64",
        "base-oss-nvidia-driver-gpu-ubuntu-24.04",
        "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04)",
        75,
        ("20261030", "20261113"),
        "G5g, P6e-GB200",
    ),
    _Line(
        "arm64",
        "oss-nvidia-driver-gpu-pytorch-2.12-ubuntu-24.04",
        "Deep Learning ARM64 AMI OSS Nvidia Driver GPU PyTorch 2.12 (Ubuntu 24.04)",
        35,
        ("20260821", "20261106"),
        "G5g, P6e-GB200",
    ),
)


def describe(_account: Account, request: Request) -> dict[str, Any]:
    """DescribeImages.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html
    """
    params = request.params
    images = everything(request.region)
    if unknown := [each for each in params.get("ImageIds", []) if each not in images]:
        raise Refused("InvalidAMIID.NotFound", f"The image id '[{unknown[0]}]' does not exist")
    owners = {OWNER if each == "amazon" else each for each in params.get("Owners", [])}
    found = [
        image
        for image in images.values()
        if (not owners or image["OwnerId"] in owners)
        and (not params.get("ImageIds") or image["ImageId"] in params["ImageIds"])
    ]
    part, token = page(sift(found, params.get("Filters", []), _FILTERS), params, 1000)
    return {"Images": part, "NextToken": token}


def find(region: str, image_id: str) -> dict[str, Any]:
    """The image that RunInstances names, `resolve:ssm:` and a parameter being a name too.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html

    Raises:
        Refused: The region has no such image.
    """
    if image_id.startswith("resolve:ssm:"):
        image_id = _parameter(region, image_id.removeprefix("resolve:ssm:"))["Value"]
    if image_id not in everything(region):
        raise Refused("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    return everything(region)[image_id]


def get_parameter(_account: Account, request: Request) -> dict[str, Any]:
    """SSM's GetParameter."""
    return {"Parameter": _parameter(request.region, request.params["Name"])}


def get_parameters(_account: Account, request: Request) -> dict[str, Any]:
    """SSM's GetParameters: what it does not know is listed, and no error.

    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html
    """
    names = request.params["Names"]
    if len(names) > 10:
        text = "Member must have length less than or equal to 10"
        raise Refused("ValidationException", f"Value at 'names' failed to satisfy: {text}")
    known = _parameters(request.region)
    return {
        "Parameters": [known[name] for name in names if name in known],
        "InvalidParameters": [name for name in names if name not in known],
    }


def get_parameters_by_path(_account: Account, request: Request) -> dict[str, Any]:
    """SSM's GetParametersByPath: at most ten a page.

    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParametersByPath.html
    """
    params = request.params
    if int(params.get("MaxResults") or 1) > 10:
        text = "Member must have value less than or equal to 10"
        raise Refused("ValidationException", f"Value at 'maxResults' failed to satisfy: {text}")
    path = params["Path"].rstrip("/") + "/"
    below = [each for name, each in _parameters(request.region).items() if name.startswith(path)]
    if not params.get("Recursive"):
        below = [each for each in below if "/" not in each["Name"].removeprefix(path)]
    part, token = page(below, params, 10)
    return {"Parameters": part, "NextToken": token}


@cache
def everything(region: str) -> dict[str, dict[str, Any]]:
    """All images of the region, by id."""
    rows = [_image(region, line, day) for line in _LINES for day in line.builds]
    return {row["ImageId"]: row for row in rows}


def _image(region: str, line: _Line, day: str) -> dict[str, Any]:
    name = f"{line.name} {day}"
    created = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    disk = {
        "DeleteOnTermination": True,
        "Encrypted": False,
        "Iops": 3000,
        "SnapshotId": _made_up("snap", region, name),
        "Throughput": 125,
        "VolumeSize": line.gigabytes,
        "VolumeType": "gp3",
    }
    return {
        "Architecture": line.architecture,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
        "BootMode": "uefi-preferred",
        "CreationDate": created.strftime("%Y-%m-%dT09:56:06.000Z"),
        "Description": f"Supported EC2 instances: {line.supports}. Release notes: {_NOTES}",
        "EnaSupport": True,
        "Hypervisor": "xen",
        "ImageId": _made_up("ami", region, name),
        "ImageLocation": f"amazon/{name}",
        "ImageOwnerAlias": "amazon",
        "ImageType": "machine",
        "Name": name,
        "OwnerId": OWNER,
        "PlatformDetails": "Linux/UNIX",
        "Public": True,
        "RootDeviceName": "/dev/sda1",
        "RootDeviceType": "ebs",
        "State": "available",
        "UsageOperation": "RunInstances",
        "VirtualizationType": "hvm",
    }


def _parameter(region: str, name: str) -> dict[str, Any]:
    known = _parameters(region)
    if name not in known:
        raise Refused("ParameterNotFound", f"Parameter {name} not found.")
    return known[name]


@cache
def _parameters(region: str) -> dict[str, dict[str, Any]]:
    return {row["Name"]: row for row in _rows(region)}


def _rows(region: str) -> Iterator[dict[str, Any]]:
    for line in sorted(_LINES, key=lambda each: (each.architecture, each.parameter)):
        start = f"/aws/service/deeplearning/ami/{line.architecture}/{line.parameter}/latest"
        image = _image(region, line, line.builds[-1])
        yield {
            "ARN": f"arn:aws:ssm:{region}::parameter{start}/ami-id",
            "DataType": "text",
            "LastModifiedDate": datetime.fromisoformat(image["CreationDate"]),
            "Name": f"{start}/ami-id",
            "Type": "String",
            "Value": image["ImageId"],
            "Version": len(line.builds),
        }


def _made_up(kind: str, region: str, name: str) -> str:
    return f"{kind}-{hashlib.sha256(f'{kind} {region} {name}'.encode()).hexdigest()[:17]}"
