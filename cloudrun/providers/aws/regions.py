"""The regions to look into."""

from __future__ import annotations

from collections.abc import Iterable

from cloudrun.errors import AccessDenied, WrongUsage
from cloudrun.model.words import did_you_mean
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


def checked(named: Iterable[str]) -> list[str]:
    """The regions that are named, each of which there is.

    Raises:
        WrongUsage: there is no such region.
    """
    session = calls.session()
    known = [name for part in session.get_available_partitions()
             for name in session.get_available_regions("ec2", part)]  # fmt: skip
    for name in named:
        if name not in known:
            raise WrongUsage(
                f"AWS has no region '{name}'.",
                "A region's zone comes after it: --on aws/us-east-1/us-east-1a",
                did_you_mean(name, known),
            )
    return list(named)
