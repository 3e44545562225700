"""The image to boot: the newest of AWS's Deep Learning AMIs that drives the GPU.

Their public parameters: https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cloudrun.errors import CloudrunError, Unavailable, WrongUsage
from cloudrun.providers.aws import calls
from cloudrun.providers.fitting import is_before_turing

_OWNER = "898082745236"
_PARAMETERS = "/aws/service/deeplearning/ami/x86_64"
# With torch in /opt/pytorch; `base` has the driver only.
_WITH_TORCH = re.compile(
    rf"^{_PARAMETERS}/(oss|proprietary)-nvidia-driver-gpu-pytorch-(\d+)\.(\d+)-ubuntu-([\d.]+)"
    r"/latest/ami-id$"
)
_BASE = re.compile(
    rf"^{_PARAMETERS}/base-(oss|proprietary)-nvidia-driver-gpu-ubuntu-([\d.]+)/latest/ami-id$"
)
_NAMES = {
    "oss": (
        "Deep Learning OSS Nvidia Driver AMI GPU PyTorch *Ubuntu*",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu *",
    ),
    "proprietary": (
        "Deep Learning Proprietary Nvidia Driver AMI GPU PyTorch *Ubuntu*",
        "Deep Learning Base Proprietary Nvidia Driver GPU AMI (Ubuntu *",
    ),
}
_NO_IMAGE = ("InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "InvalidAMIID.Unavailable")
# The images list the types that they support, each family once.
_SUPPORTED = re.compile(r"Supported EC2 instances?:\s*([^.]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Image:
    """An image: its id, its root device and that one's size, and the user that it has."""

    id: str
    name: str
    root_device: str
    disk_gb: int
    user: str


def choose(region: str, gpu: str | None, instance_type: str, wanted: str | None) -> Image:
    """The image to boot a machine of this type from.

    Args:
        region: Where; each region has other ids.
        gpu: The GPU's name in the catalogue, None when it is unknown.
        instance_type: Such as `g4dn.xlarge`.
        wanted: The id of the user's own image.

    Raises:
        WrongUsage: there is no image with that id.
        Unavailable: no image of AWS's fits.
    """
    ec2 = calls.client("ec2", region)
    if wanted is not None:
        return _users_own(ec2, wanted, region)
    # The open kernel modules drive Turing and what came after it.
    driver = "proprietary" if is_before_turing(gpu) else "oss"
    candidates = _by_parameters(region, driver)
    images: list[dict[str, Any]] = []
    # A parameter may lead to an image that is there no more.
    with calls.allowing(*_NO_IMAGE):
        images = _described(ec2, ImageIds=candidates[:4]) if candidates else []
    images.sort(key=lambda image: candidates.index(image["ImageId"]))
    if not images:
        images = _by_name(ec2, driver)
    for image in images:
        if _supports(image, instance_type):
            return _image(image)
    raise Unavailable(
        f"AWS has no Deep Learning image in {region} that drives {gpu or instance_type}.",
        f"It would need the {driver} driver of NVIDIA.",
        "Name an image of your own: --image ami-...",
    )


def _by_parameters(region: str, driver: str) -> list[str]:
    """The ids behind the public parameters, the newest torch first; none when AWS does not say."""
    try:
        found = calls.everything(
            "list its images",
            calls.client("ssm", region),
            "get_parameters_by_path",
            "Parameters",
            Path=_PARAMETERS,
            Recursive=True,
        )
    except CloudrunError:
        # The images can be found by their names, too.
        return []
    ranked = sorted(
        ((_rank(parameter["Name"], driver), parameter["Value"]) for parameter in found),
        reverse=True,
    )
    return [value for rank, value in ranked if rank]


def _rank(name: str, driver: str) -> tuple[float, ...]:
    """How new an image is, by its parameter's name; empty for one that does not fit."""
    if (match := _WITH_TORCH.match(name)) and match[1] == driver:
        return 1, int(match[2]), int(match[3]), float(match[4])
    if (match := _BASE.match(name)) and match[1] == driver:
        return 0, float(match[2])
    return ()


def _by_name(ec2: Any, driver: str) -> list[dict[str, Any]]:
    """The images by their names, those with torch first, the newest first."""
    for name in _NAMES[driver]:
        filters = [{"Name": "name", "Values": [name]}, {"Name": "state", "Values": ["available"]}]
        found = _described(ec2, Owners=[_OWNER], Filters=filters)
        if found:
            return sorted(found, key=lambda image: str(image.get("CreationDate")), reverse=True)
    return []


def _described(ec2: Any, **which: Any) -> list[dict[str, Any]]:
    found = calls.insist("list its images", ec2.describe_images, **which).get("Images", [])
    return [image for image in found if image.get("RootDeviceName")]


def _supports(image: dict[str, Any], instance_type: str) -> bool:
    """Whether the image's own description lists the type's family; where it lists none, yes."""
    listed = _SUPPORTED.search(image.get("Description", ""))
    if listed is None:
        return True
    family = instance_type.partition(".")[0].lower()
    families = {each.strip().lower() for each in listed[1].replace(" and ", ",").split(",")}
    # Some say P4 and mean P4d; but a G6f, a share of a GPU, is no G6.
    return family in families or (family[0] == "p" and family[:2] in families)


def _users_own(ec2: Any, wanted: str, region: str) -> Image:
    found: list[dict[str, Any]] = []
    with calls.allowing(*_NO_IMAGE):
        found = _described(ec2, ImageIds=[wanted])
    if not found:
        raise WrongUsage(
            f"There is no image '{wanted}' in {region}.",
            "An image's id holds in one region only.",
            f"Name its region: --on aws/REGION; or leave --image out (not {wanted}).",
        )
    return _image(found[0])


def _image(image: dict[str, Any]) -> Image:
    root = image["RootDeviceName"]
    sizes = [
        int(device["Ebs"].get("VolumeSize", 0))
        for device in image.get("BlockDeviceMappings", [])
        if device.get("DeviceName") == root and "Ebs" in device
    ]
    name = str(image.get("Name", ""))
    return Image(image["ImageId"], name, root, max(sizes, default=0), _user(name))


def _user(name: str) -> str:
    """The user that the image's makers gave it, by its name.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/managing-users.html
    """
    lowered = name.lower()
    if "amazon linux" in lowered or lowered.startswith(("al20", "amzn")):
        return "ec2-user"
    return "admin" if lowered.startswith("debian") else "ubuntu"
