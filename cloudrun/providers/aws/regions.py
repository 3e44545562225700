"""The regions to look into."""

from __future__ import annotations

from collections.abc import Sequence

from cloudrun.errors import AccessDenied
from cloudrun.providers.aws import calls


def enabled() -> list[str]:
    """The regions that the account may use, the user's own first.

    Raises:
        CloudrunError: AWS cannot be asked.
    """
    home = calls.home_region()
    ec2 = calls.client("ec2", home)
    try:
        found = calls.insist("list its regions", ec2.describe_regions, AllRegions=False)["Regions"]
    except AccessDenied as error:
        if calls.code_of(error.__cause__) != "UnauthorizedOperation":
            raise
        return [home]
    names = sorted(str(region["RegionName"]) for region in found)
    return sorted(names, key=lambda name: name != home) or [home]


def zones_named(targets: Sequence[str]) -> dict[str, str | None]:
    """The regions, with the zone if any, that targets like `aws/us-east-1/us-east-1a` name."""
    ours = ("aws", "rehearsal")
    places = [target.split("/")[1:] for target in targets if target.split("/")[0] in ours]
    return {place[0]: place[1] if len(place) > 1 else None for place in places if place}
