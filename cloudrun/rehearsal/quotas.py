"""How many vCPUs an account may run at a time, by family and market."""

from __future__ import annotations

import re
from typing import Any

from cloudrun.rehearsal import faults
from cloudrun.rehearsal.account import Account
from cloudrun.rehearsal.wire import Refused, Request, page

# Codes and names: https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
# A new account has none of these vCPUs; one that rehearses may have some.
_QUOTAS = {
    "L-DB2E81BA": ("Running On-Demand G and VT instances", 64.0),
    "L-417A185B": ("Running On-Demand P instances", 192.0),
    "L-1216C47A": ("Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 640.0),
    "L-3819A6DF": ("All G and VT Spot Instance Requests", 64.0),
    "L-7212CCBC": ("All P4, P3 and P2 Spot Instance Requests", 192.0),
    "L-C4BD4855": ("All P5 Spot Instance Requests", 192.0),
    "L-34B43A08": ("All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 640.0),
}
_STANDARD = "acdhimrtz"


def code_for(instance_type: str, market: str) -> str:
    """The quota that the type counts against; empty for one that the rehearsal has no quota of."""
    family = re.match(r"([a-z]+)(\d*)", instance_type)
    if family is None:
        return ""
    name, on_demand = family[1], market == "on-demand"
    if name in ("g", "gr", "vt"):
        return "L-DB2E81BA" if on_demand else "L-3819A6DF"
    if name == "p":
        spot = "L-7212CCBC" if family[0] in ("p2", "p3", "p4") else "L-C4BD4855"
        return "L-417A185B" if on_demand else spot
    if name[0] in _STANDARD and name not in ("dl", "inf", "trn", "hpc", "mac"):
        return "L-1216C47A" if on_demand else "L-34B43A08"
    return ""


def value(account: Account, region: str, code: str) -> float:
    """vCPUs that the account may run there."""
    return account.quotas.get((region, code), _QUOTAS[code][1])


def refuse_beyond(account: Account, request: Request, vcpus: int) -> None:
    """Refuse what would exceed the quota.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-on-demand-instances.html
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-spot-limits.html

    Raises:
        Refused: VcpuLimitExceeded, or MaxSpotInstanceCountExceeded.
    """
    code = code_for(request.instance_type, request.market)
    if not code:
        return
    limit = value(account, request.region, code)
    if _used(account, request.region, code) + vcpus <= limit:
        return
    if request.market == "spot":
        raise faults.error("MaxSpotInstanceCountExceeded", account.moto.account, request)
    refused = faults.error("VcpuLimitExceeded", account.moto.account, request)
    refused.message = refused.message.replace("limit of 0", f"limit of {limit:g}")
    raise refused


def list_quotas(account: Account, request: Request) -> dict[str, Any]:
    """ListServiceQuotas.

    https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_ListServiceQuotas.html
    """
    _refuse_other_services(request)
    rows = [_row(account, request.region, code) for code in sorted(_QUOTAS)]
    part, token = page(rows, request.params, 100)
    return {"Quotas": part, "NextToken": token}


def get_quota(account: Account, request: Request) -> dict[str, Any]:
    """GetServiceQuota."""
    _refuse_other_services(request)
    code = request.params["QuotaCode"]
    if code not in _QUOTAS:
        raise Refused("NoSuchResourceException", f"The quota {code} does not exist.")
    return {"Quota": _row(account, request.region, code)}


def _used(account: Account, region: str, code: str) -> int:
    """vCPUs of what is or is about to be running; a stopped instance counts no more."""
    return sum(
        each.vcpus
        for each in account.instances.values()
        if each.region == region
        and each.state in ("pending", "running", "shutting-down", "stopping")
        and code_for(each.instance_type, each.market) == code
    )


def _refuse_other_services(request: Request) -> None:
    service = request.params["ServiceCode"]
    if service != "ec2":
        text = f"The rehearsal has quotas of ec2 only, not of {service}."
        raise Refused("NoSuchResourceException", text)


def _row(account: Account, region: str, code: str) -> dict[str, Any]:
    return {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{region}:{account.moto.account}:ec2/{code}",
        "QuotaCode": code,
        "QuotaName": _QUOTAS[code][0],
        "Value": value(account, region, code),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }
