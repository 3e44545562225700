"""Where a machine hangs: a subnet with a way out, and a firewall that lets in one address."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cloudrun.errors import CannotHave
from cloudrun.providers.aws import calls


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
    doing = "look at your networks"
    asked = (("describe_vpcs", "Vpcs"), ("describe_subnets", "Subnets"),
             ("describe_route_tables", "RouteTables"))  # fmt: skip
    with ThreadPoolExecutor(len(asked)) as pool:
        vpcs, subnets, tables = pool.map(
            lambda each: calls.everything(doing, ec2, each[0], each[1]), asked
        )
    default = {vpc["VpcId"] for vpc in vpcs if vpc.get("IsDefault")}
    usable = [
        subnet
        for subnet in subnets
        if zone in (None, subnet["AvailabilityZone"])
        and subnet.get("State", "available") == "available"
        and (private or _leads_out(subnet, tables))
    ]
    if not usable:
        raise _no_way(region, zone, bool(vpcs), bool(subnets))
    best = min(usable, key=lambda subnet: (subnet["VpcId"] not in default, subnet["SubnetId"]))
    return Subnet(
        best["SubnetId"], best["VpcId"], best["AvailabilityZone"], best.get("CidrBlock", "")
    )


def _leads_out(subnet: dict[str, Any], tables: Sequence[dict[str, Any]]) -> bool:
    """Whether the subnet's routes, its own or its VPC's main ones, lead to the Internet."""
    table = next((t for t in tables if _is_for(t, "SubnetId", subnet["SubnetId"])), None) or next(
        (t for t in tables if t["VpcId"] == subnet["VpcId"] and _is_for(t, "Main", True)), None
    )
    return any(
        route.get("GatewayId", "").startswith("igw-")
        and route.get("DestinationCidrBlock") == "0.0.0.0/0"
        and route.get("State", "active") == "active"
        for route in (table or {}).get("Routes", [])
    )


def _is_for(table: dict[str, Any], key: str, value: object) -> bool:
    return any(each.get(key) == value for each in table.get("Associations", []))


def _no_way(region: str, zone: str | None, has_vpc: bool, has_subnet: bool) -> CannotHave:
    where = zone or region
    if not has_vpc or not has_subnet:
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
            GroupId=group,
            IpPermissions=[rule],
        )
