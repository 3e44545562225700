"""Regions: those that every account has, and those that one has to opt into."""

from __future__ import annotations

from typing import Any

from cloudrun.rehearsal.account import Account
from cloudrun.rehearsal.wire import Refused, Request, sift

# https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html
ALWAYS = (
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
)
BY_CHOICE = (
    "af-south-1",
    "ap-east-1",
    "ap-south-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-7",
    "ca-west-1",
    "eu-central-2",
    "eu-south-1",
    "eu-south-2",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
)
_FILTERS = {"endpoint": "Endpoint", "opt-in-status": "OptInStatus", "region-name": "RegionName"}


def describe(account: Account, request: Request) -> dict[str, Any]:
    """DescribeRegions: those of the account, or with AllRegions each with its status.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html
    """
    asked = request.params.get("RegionNames") or []
    if unknown := sorted(set(asked) - {*ALWAYS, *BY_CHOICE}):
        raise Refused("InvalidParameterValue", f"Invalid region names: [{', '.join(unknown)}]")
    rows = [_row(account, name) for name in sorted({*ALWAYS, *BY_CHOICE})]
    everything = request.params.get("AllRegions") or asked
    found = [
        row
        for row in rows
        if (row["RegionName"] in asked if asked else True)
        and (everything or row["OptInStatus"] != "not-opted-in")
    ]
    return {"Regions": sift(found, request.params.get("Filters", []), _FILTERS)}


def refuse_if_closed(account: Account, request: Request) -> None:
    """A region not opted into takes nobody's credentials.

    https://docs.aws.amazon.com/accounts/latest/reference/manage-acct-regions.html

    Raises:
        Refused: The region is such a one, or none at all.
    """
    if request.region in ALWAYS or request.region in account.opted_in:
        return
    if request.service == "ec2":
        text = "AWS was not able to validate the provided access credentials"
        raise Refused("AuthFailure", text, 401)
    text = "The security token included in the request is invalid."
    code = "InvalidClientTokenId" if request.service == "sts" else "UnrecognizedClientException"
    raise Refused(code, text, 403 if request.service == "sts" else 400)


def _row(account: Account, name: str) -> dict[str, str]:
    if name in ALWAYS:
        status = "opt-in-not-required"
    else:
        status = "opted-in" if name in account.opted_in else "not-opted-in"
    endpoint = f"ec2.{name}.amazonaws.com"
    return {"Endpoint": endpoint, "RegionName": name, "OptInStatus": status}
