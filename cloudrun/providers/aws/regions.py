"""The regions to look into."""

from __future__ import annotations

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
