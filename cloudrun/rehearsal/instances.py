"""Instances over time: what is said of them, and how they end.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
"""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime
from typing import Any

from cloudrun.rehearsal import spot
from cloudrun.rehearsal.account import Account, Instance
from cloudrun.rehearsal.wire import Refused, Request, page, sift

CODES = {
    "pending": 0,
    "running": 16,
    "shutting-down": 32,
    "terminated": 48,
    "stopping": 64,
    "stopped": 80,
}
_FILTERS = {
    "architecture": "Architecture",
    "availability-zone": "Placement.AvailabilityZone",
    "client-token": "ClientToken",
    "image-id": "ImageId",
    "instance-id": "InstanceId",
    "instance-lifecycle": "InstanceLifecycle",
    "instance-state-code": "State.Code",
    "instance-state-name": "State.Name",
    "instance-type": "InstanceType",
    "instance.group-id": "SecurityGroups.GroupId",
    "instance.group-name": "SecurityGroups.GroupName",
    "ip-address": "PublicIpAddress",
    "key-name": "KeyName",
    "network-interface.group-id": "NetworkInterfaces.Groups.GroupId",
    "owner-id": "NetworkInterfaces.OwnerId",
    "private-ip-address": "PrivateIpAddress",
    "spot-instance-request-id": "SpotInstanceRequestId",
    "state-reason-code": "StateReason.Code",
    "subnet-id": "SubnetId",
    "vpc-id": "VpcId",
}
_STATUS_FILTERS = {
    "availability-zone": "AvailabilityZone",
    "instance-state-name": "InstanceState.Name",
    "instance-status.status": "InstanceStatus.Status",
    "system-status.status": "SystemStatus.Status",
}
BY_USER = ("Client.UserInitiatedShutdown", "User initiated shutdown")
FAILED = ("Server.InternalError", "Internal error on launch")
FROM_INSIDE = ("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")


def describe(account: Account, request: Request) -> dict[str, Any]:
    """DescribeInstances."""
    params = request.params
    ids = params.get("InstanceIds", [])
    if ids and params.get("MaxResults"):
        text = "The parameter instancesSet cannot be used with the parameter maxResults"
        raise Refused("InvalidParameterCombination", text)
    for each in ids:
        account.visible(request.region, each)
    seen = [
        each.id
        for each in account.instances.values()
        if each.region == request.region and account.sees(each) and (not ids or each.id in ids)
    ]
    reservations = described(account, request.region, seen)
    told = [instance for each in reservations for instance in each["Instances"]]
    kept = {each["InstanceId"] for each in sift(told, params.get("Filters", []), _FILTERS)}
    found = _only(reservations, kept)
    part, token = page(found, params, 1000)
    return {"Reservations": part, "NextToken": token}


def describe_status(account: Account, request: Request) -> dict[str, Any]:
    """DescribeInstanceStatus: of running instances only, if not asked for all."""
    params = request.params
    ids = params.get("InstanceIds", [])
    for each in ids:
        account.visible(request.region, each)
    rows = [
        _status(each)
        for each in account.instances.values()
        if each.region == request.region
        and account.sees(each)
        and (not ids or each.id in ids)
        and (params.get("IncludeAllInstances") or each.state == "running")
    ]
    rows = sift(rows, params.get("Filters", []), _STATUS_FILTERS)
    part, token = page(rows, params, 1000)
    return {"InstanceStatuses": part, "NextToken": token}


def describe_volumes(account: Account, request: Request) -> dict[str, Any]:
    """DescribeVolumes, with whether a disk goes with its instance, which moto does not tell."""
    told = account.moto.ask(request.region, "DescribeVolumes", **request.params)
    living = [each.id for each in account.instances.values() if each.state != "terminated"]
    goes = {
        disk["Ebs"]["VolumeId"]: disk["Ebs"]["DeleteOnTermination"]
        for reservation in described(account, request.region, living)
        for instance in reservation["Instances"]
        for disk in instance["BlockDeviceMappings"]
    }
    for volume in told["Volumes"]:
        for attachment in volume["Attachments"]:
            attachment["DeleteOnTermination"] = goes.get(volume["VolumeId"], False)
    return told


def terminate(account: Account, request: Request) -> dict[str, Any]:
    """TerminateInstances: all or none, and again and again without harm.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
    """
    ids = list(dict.fromkeys(request.params["InstanceIds"]))
    found = [account.visible(request.region, each) for each in ids]
    for each in found:
        _refuse_protected(account, each)
    changes = []
    for instance in found:
        before = instance.state
        end(account, instance, BY_USER, _by_user())
        changes.append(
            {
                "InstanceId": instance.id,
                "PreviousState": {"Name": before, "Code": CODES[before]},
                "CurrentState": {"Name": instance.state, "Code": CODES[instance.state]},
            }
        )
    return {"TerminatingInstances": changes}


def modify(account: Account, request: Request) -> dict[str, Any]:
    """ModifyInstanceAttribute: other groups are those of its network card, too.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html
    """
    params = request.params
    instance = account.visible(request.region, params["InstanceId"])
    account.moto.ask(request.region, "ModifyInstanceAttribute", **params)
    if params.get("Groups"):
        card = _cards(account, instance)[0]
        account.moto.ask(
            request.region,
            "ModifyNetworkInterfaceAttribute",
            NetworkInterfaceId=card,
            Groups=params["Groups"],
        )
    return {}


def console(account: Account, request: Request) -> dict[str, Any]:
    """GetConsoleOutput: empty until something is said."""
    instance = account.visible(request.region, request.params["InstanceId"])
    said = account.console.get(instance.id, "").encode()
    output = {"InstanceId": instance.id, "Timestamp": datetime.now(UTC)}
    return {**output, "Output": base64.b64encode(said).decode()} if said else output


def delete_group(account: Account, request: Request) -> None:
    """Refuse DeleteSecurityGroup while an instance that is not terminated has the group.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html
    """
    group = request.params.get("GroupId", "")
    living = [
        each.id
        for each in account.instances.values()
        if each.region == request.region and each.state != "terminated"
    ]
    for reservation in described(account, request.region, living):
        for instance in reservation["Instances"]:
            groups = [g for card in instance["NetworkInterfaces"] for g in card["Groups"]]
            if group in {each["GroupId"] for each in groups}:
                raise Refused("DependencyViolation", f"resource {group} has a dependent object")


def described(account: Account, region: str, ids: list[str]) -> list[dict[str, Any]]:
    """The reservations of instances, in the order that moto has them."""
    if not ids:
        return []
    told = account.moto.ask(region, "DescribeInstances", MaxResults=1000)["Reservations"]
    reservations = _only(told, set(ids))
    for reservation in reservations:
        for instance in reservation["Instances"]:
            _overlay(account, instance)
    return reservations


def begin_to_run(instance: Instance) -> None:
    """Let an instance that is still pending run."""
    if instance.state == "pending":
        instance.state = "running"


def end(account: Account, instance: Instance, reason: tuple[str, str], transition: str) -> None:
    """Begin to terminate an instance; one that is ending or ended stays as it is."""
    if instance.state in ("shutting-down", "terminated"):
        return
    instance.state, instance.reason, instance.transition = "shutting-down", reason, transition
    if account.machines:
        account.machines.stop(instance.id)
    account.clock.after(account.ending_s, lambda: _terminated(account, instance))


def powered_off(account: Account, instance_id: str) -> None:
    """The machine went off from inside: what becomes of the instance is its own setting.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html
    """
    instance = account.instances[instance_id]
    if instance.state not in ("pending", "running"):
        return
    told = account.moto.ask(
        instance.region,
        "DescribeInstanceAttribute",
        InstanceId=instance_id,
        Attribute="instanceInitiatedShutdownBehavior",
    )
    if told["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate":
        end(account, instance, FROM_INSIDE, "")
        return
    instance.state, instance.reason = "stopping", FROM_INSIDE
    account.clock.after(account.ending_s, lambda: _stopped(instance))


def _terminated(account: Account, instance: Instance) -> None:
    """The volumes that are to go with the instance go; others stay and cost."""
    cards = _cards(account, instance)
    account.moto.ask(instance.region, "TerminateInstances", InstanceIds=[instance.id])
    for card in cards:
        # moto itself takes some away.
        with contextlib.suppress(Refused):
            account.moto.ask(instance.region, "DeleteNetworkInterface", NetworkInterfaceId=card)
    instance.state = "terminated"
    spot.ended(account, instance)


def _cards(account: Account, instance: Instance) -> list[str]:
    """Its network cards, the primary one first."""
    its = [{"Name": "attachment.instance-id", "Values": [instance.id]}]
    told = account.moto.ask(instance.region, "DescribeNetworkInterfaces", Filters=its)
    cards = sorted(told["NetworkInterfaces"], key=lambda card: card["Attachment"]["DeviceIndex"])
    return [card["NetworkInterfaceId"] for card in cards]


def _stopped(instance: Instance) -> None:
    if instance.state == "stopping":
        instance.state = "stopped"


def _refuse_protected(account: Account, instance: Instance) -> None:
    told = account.moto.ask(
        instance.region,
        "DescribeInstanceAttribute",
        InstanceId=instance.id,
        Attribute="disableApiTermination",
    )
    if told["DisableApiTermination"]["Value"]:
        text = (
            f"The instance '{instance.id}' may not be terminated. Modify its "
            "'disableApiTermination' instance attribute and try again."
        )
        raise Refused("OperationNotPermitted", text)


def _by_user() -> str:
    return f"User initiated ({datetime.now(UTC):%Y-%m-%d %H:%M:%S} GMT)"


def _only(reservations: list[dict[str, Any]], ids: set[str]) -> list[dict[str, Any]]:
    """The reservations with those instances alone, and none that is empty."""
    found = []
    for reservation in reservations:
        kept = [each for each in reservation["Instances"] if each["InstanceId"] in ids]
        if kept:
            found.append({**reservation, "Instances": kept})
    return found


def _overlay(account: Account, told: dict[str, Any]) -> None:
    """Put into moto's description what the rehearsal knows better."""
    instance = account.instances[told["InstanceId"]]
    told["State"] = {"Name": instance.state, "Code": CODES[instance.state]}
    told["StateTransitionReason"] = instance.transition
    if instance.reason[0]:
        code, message = instance.reason
        told["StateReason"] = {"Code": code, "Message": f"{code}: {message}"}
    else:
        told.pop("StateReason", None)
    # The groups of an instance are those of its first card, which goes with it.
    for card in told["NetworkInterfaces"]:
        card["Attachment"]["DeleteOnTermination"] = True
    told["SecurityGroups"] = [g for card in told["NetworkInterfaces"][:1] for g in card["Groups"]]
    if instance.spot_request:
        told["SpotInstanceRequestId"] = instance.spot_request
    if instance.address:
        _give_address(told, instance.address)
    if instance.state not in ("running", "shutting-down"):
        # The address comes with the running, and goes with it.
        _forget_addresses(told)
    if instance.state == "terminated":
        # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html:
        # it stays visible for a while, its network gone.
        for name in ("PrivateIpAddress", "SubnetId", "VpcId"):
            told.pop(name, None)
        told.update(NetworkInterfaces=[], SecurityGroups=[], BlockDeviceMappings=[])
        told["PrivateDnsName"] = ""


def _forget_addresses(described_instance: dict[str, Any]) -> None:
    """Take the public address out of a description."""
    described_instance.pop("PublicIpAddress", None)
    described_instance["PublicDnsName"] = ""
    for card in described_instance.get("NetworkInterfaces", []):
        card.pop("Association", None)
        for address in card.get("PrivateIpAddresses", []):
            address.pop("Association", None)


def _give_address(told: dict[str, Any], address: str) -> None:
    told["PrivateIpAddress"] = address
    public = "PublicIpAddress" in told
    if public:
        told["PublicIpAddress"] = address
    for card in told["NetworkInterfaces"][:1]:
        card["PrivateIpAddress"] = address
        card["PrivateIpAddresses"][0]["PrivateIpAddress"] = address
        if public:
            card["Association"]["PublicIp"] = address
            card["PrivateIpAddresses"][0]["Association"]["PublicIp"] = address


def _status(instance: Instance) -> dict[str, Any]:
    fine = "ok" if instance.state == "running" else "not-applicable"
    return {
        "AvailabilityZone": instance.zone,
        "InstanceId": instance.id,
        "InstanceState": {"Name": instance.state, "Code": CODES[instance.state]},
        "InstanceStatus": {"Status": fine},
        "SystemStatus": {"Status": fine},
    }
