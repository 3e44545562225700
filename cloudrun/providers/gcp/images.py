"""The image to boot: one of Google's Deep Learning VM images, with torch and NVIDIA's driver in it.

https://cloud.google.com/deep-learning-vm/docs/images
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from cloudrun.errors import CloudrunError, Unavailable, WrongUsage
from cloudrun.providers.fitting import is_before_turing
from cloudrun.providers.gcp import account, calls

PROJECT = "deeplearning-platform-release"
FAMILY = "pytorch-2-9-cu129-ubuntu-2404-nvidia-580"
_FAMILIES = re.compile(
    r"(?:pytorch-(?P<torch>\d+-\d+)|common)-cu(?P<cuda>\d+)-ubuntu-(?P<ubuntu>\d+)"
    r"-nvidia-(?P<driver>\d+)"
)
# The last of NVIDIA's drivers for what is older than Turing.
_LAST_FOR_VOLTA = 580
_DOING = "list its images"


@dataclass(frozen=True)
class Image:
    """An image: its URL, how large its disk must be, and whether it boots by UEFI."""

    link: str
    disk_gb: int
    uefi: bool


def choose(gpu: str | None, wanted: str | None) -> Image:
    """The image to boot a machine with this GPU from.

    Args:
        gpu: The GPU's name in the catalogue, None when it is unknown.
        wanted: The user's own image: its name, or `projects/P/global/images/[family/]NAME`.

    Raises:
        WrongUsage: there is no such image.
        Unavailable: no image of Google's fits.
    """
    if wanted is not None:
        return _users_own(wanted)
    with calls.allowing(404):
        path = f"global/images/family/{FAMILY}"
        return _image(calls.insist(_DOING, "GET", path, project=PROJECT), PROJECT)
    return _newest(gpu)


def _newest(gpu: str | None) -> Image:
    """The newest that fits, of all that there are, now that the usual family is gone."""
    found = calls.everything(_DOING, "global/images", project=PROJECT)
    ranked = [(_rank(image, gpu), image) for image in found if "deprecated" not in image]
    fitting = [(rank, image) for rank, image in ranked if rank]
    if not fitting:
        raise Unavailable(
            f"Google has no Deep Learning image that drives {gpu or 'this GPU'}.",
            f"There is none in {PROJECT} with Ubuntu and a driver of NVIDIA's that fits.",
            "Name an image of your own: --image projects/PROJECT/global/images/NAME",
        )
    return _image(max(fitting, key=lambda pair: pair[0])[1], PROJECT)


def _rank(image: dict[str, Any], gpu: str | None) -> tuple[object, ...]:
    """How new an image is, by its family, those with torch first; empty when it will not do."""
    match = _FAMILIES.fullmatch(str(image.get("family") or ""))
    if match is None:
        return ()
    if is_before_turing(gpu) and int(match["driver"]) > _LAST_FOR_VOLTA:
        return ()
    torch = tuple(map(int, match["torch"].split("-"))) if match["torch"] else ()
    numbers = (int(match["cuda"]), int(match["ubuntu"]), int(match["driver"]))
    return torch, *numbers, str(image.get("creationTimestamp") or "")


def _users_own(wanted: str) -> Image:
    found = re.fullmatch(
        r"(?:.*projects/(?P<project>[^/]+)/)?(?:global/)?(?:images/)?(?P<name>(?:family/)?[\w.-]+)",
        wanted,
    )
    if found:
        path = f"global/images/{found['name']}"
        try:
            owner = found["project"] or account.project()
            return _image(calls.insist(_DOING, "GET", path, project=owner), owner)
        except CloudrunError as error:
            refusal = calls.refusal_of(error)
            if refusal is None or refusal.status not in (400, 404):
                raise
    raise WrongUsage(
        f"There is no image '{wanted}'.",
        "A name alone is one of your own project's images.",
        "Write: --image projects/PROJECT/global/images/NAME, or .../images/family/FAMILY",
    )


def _image(row: dict[str, Any], project: str) -> Image:
    features = {str(each.get("type")) for each in row.get("guestOsFeatures") or []}
    return Image(
        str(row.get("selfLink") or f"projects/{project}/global/images/{row.get('name')}"),
        int(row.get("diskSizeGb") or 0),
        "UEFI_COMPATIBLE" in features,
    )
