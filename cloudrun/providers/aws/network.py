"""Where a machine hangs: a subnet with a way out, and a firewall that lets in one address."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cloudrun.errors import CannotHave, CloudrunError
from cloudrun.providers.aws import calls
from cloudrun.providers.patience import Lost, Throttled, patiently

# A group that was made a moment ago may not be known everywhere yet.
LATE = ("InvalidGroup.NotFound",)


@dataclass(frozen=True)
class Subnet:
    """A subnet in the zone; `range` are its addresses (CIDR)."""

    id: str
    vpc: str
    zone: str
    range: str


def way_out(region: str, zone: str | None, private: bool) -> Subnet:
    """A subnet of the zone from which a machine can be reached: the default VPC's, else another's.

    Args:
        region: Where.
        zone: None takes any.
        private: Its machines are reached by their private addresses (VPN, peering), so
            that it needs no way out to the Internet.

    Raises:
        CannotHave: there is none in this zone; the error says what is missing.
    """
    ec2 = calls.client("ec2", region)
    with ThreadPoolExecutor(3) as pool:
        vpcs, subnets = pool.submit(_all, ec2, "vpcs"), pool.submit(_all, ec2, "subnets")
        tables = pool.submit(_routes, ec2)
    default = {vpc["VpcId"] for vpc in vpcs.result() if vpc.get("IsDefault")}
    with calls.reading("look at your networks"):
        usable = [
            subnet
            for subnet in subnets.result()
            if zone in (None, subnet["AvailabilityZone"])
            and subnet.get("State", "available") == "available"
            and (private or _leads_out(subnet, tables.result(), default))
        ]
    if not usable:
        raise _no_way(region, zone, bool(vpcs.result() and subnets.result()))
    best = min(usable, key=lambda subnet: (subnet["VpcId"] not in default, subnet["SubnetId"]))
    return Subnet(
        best["SubnetId"], best["VpcId"], best["AvailabilityZone"], best.get("CidrBlock", "")
    )


def _all(ec2: Any, what: str) -> list[dict[str, Any]]:
    key = {"vpcs": "Vpcs", "subnets": "Subnets", "route_tables": "RouteTables"}[what]
    doing = "look at your networks"
    return patiently(lambda: calls.everything(doing, ec2, f"describe_{what}", key))


def _routes(ec2: Any) -> list[dict[str, Any]]:
    """The route tables; none where nobody tells."""
    try:
        return _all(ec2, "route_tables")
    except (Lost, Throttled):
        raise
    except CloudrunError:
        # Without the permission to look, the default VPC is as AWS made it, with a way out.
        return []


def _leads_out(
    subnet: dict[str, Any], tables: Sequence[dict[str, Any]], default: Collection[str]
) -> bool:
    """Whether the subnet's routes, its own or its VPC's main ones, lead to the Internet."""
    if not tables:
        return subnet["VpcId"] in default
    table = next((t for t in tables if _is_for(t, "SubnetId", subnet["SubnetId"])), None) or next(
        (t for t in tables if t.get("VpcId") == subnet["VpcId"] and _is_for(t, "Main", True)), None
    )
    return any(
        route.get("GatewayId", "").startswith("igw-")
        and route.get("DestinationCidrBlock") == "0.0.0.0/0"
        and route.get("State", "active") == "active"
        for route in (table or {}).get("Routes", [])
    )


def _is_for(table: dict[str, Any], key: str, value: object) -> bool:
    return any(each.get(key) == value for each in table.get("Associations", []))


def _no_way(region: str, zone: str | None, has_network: bool) -> CannotHave:
    where = zone or region
    if not has_network:
        return CannotHave(
            f"There is no network in {where} to put a machine into.",
            "Your account has no default VPC there any more.",
            f"Make it again: aws ec2 create-default-vpc --region {region}",
            scope="region",
        )
    return CannotHave(
        f"No subnet in {where} has a way out to the Internet.",
        "None of the route tables has a route for 0.0.0.0/0 to an Internet gateway (igw-...), "
        "so that a machine there could not be reached.",
        f"Make a default VPC (aws ec2 create-default-vpc --region {region}), add the route, or "
        "reach machines by a VPN with --private-ip.",
        scope="zone",
    )


def make_group(region: str, subnet: Subnet, name: str, tags: Sequence[dict[str, str]]) -> str:
    """Make the run's firewall, closed; returns its id. Asked again, it is the same one."""
    ec2 = calls.client("ec2", region)
    with calls.allowing("InvalidGroup.Duplicate"):
        made = calls.insist(
            "create a security group",
            ec2.create_security_group,
            GroupName=name,
            Description="One run of cloudrun; it goes with its machine.",
            VpcId=subnet.vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": list(tags)}],
        )
        return str(made["GroupId"])
    filters = [{"Name": "group-name", "Values": [name]}, {"Name": "vpc-id", "Values": [subnet.vpc]}]
    found = calls.everything(
        "find the security group", ec2, "describe_security_groups", "SecurityGroups",
        Filters=filters,
    )  # fmt: skip
    if not found:
        raise calls.no_sense("create a security group", f"{name} is there and is not.")
    return str(found[0]["GroupId"])


def admit(region: str, group: str, who: str) -> None:
    """Let a range of addresses reach port 22. Asked again, nothing happens."""
    ec2 = calls.client("ec2", region)
    rule = {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": who, "Description": "who started the run"}],
    }
    with calls.allowing("InvalidPermission.Duplicate"):
        calls.insist(
            "open port 22 to you",
            ec2.authorize_security_group_ingress,
            late=LATE,
            GroupId=group,
            IpPermissions=[rule],
        )
