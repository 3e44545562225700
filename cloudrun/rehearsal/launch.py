"""RunInstances, with the checks that moto does not make.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from cloudrun.rehearsal import faults, images, instances, quotas, spot
from cloudrun.rehearsal.account import Account, Instance
from cloudrun.rehearsal.wire import Refused, Request

# What the rehearsal heeds; anything else is refused, so that nobody relies on what it ignores.
_HEEDED = {
    "BlockDeviceMappings",
    "ClientToken",
    "DisableApiTermination",
    "DryRun",
    "EbsOptimized",
    "ImageId",
    "InstanceInitiatedShutdownBehavior",
    "InstanceMarketOptions",
    "InstanceType",
    "KeyName",
    "MaxCount",
    "MetadataOptions",
    "MinCount",
    "Monitoring",
    "NetworkInterfaces",
    "Placement",
    "SecurityGroupIds",
    "SubnetId",
    "TagSpecifications",
    "UserData",
}
_SPOT_HEEDED = {"InstanceInterruptionBehavior", "MaxPrice", "SpotInstanceType"}
_MOST_USER_DATA = 16384


def locate(account: Account, request: Request) -> None:
    """Say in the request which zone, market and type it is for, as far as it can be told."""
    params = request.params
    options = params.get("InstanceMarketOptions", {})
    request.market = "spot" if options.get("MarketType") == "spot" else "on-demand"
    request.instance_type = params.get("InstanceType", "")
    try:
        request.zone = _subnet(account, request)["AvailabilityZone"]
    except Refused:
        request.zone = params.get("Placement", {}).get("AvailabilityZone", "")


def run(account: Account, request: Request) -> dict[str, Any]:
    """Start instances, or find those that the same token started before.

    Raises:
        Refused: As AWS would, or a parameter that the rehearsal does not heed.
    """
    token = (request.region, request.params.get("ClientToken", ""))
    if token[1] and token in account.tokens:
        return _again(account, request, *account.tokens[token])
    image = _check(account, request)
    count = int(request.params["MaxCount"])
    vcpus = _vcpus(account, request, image)
    spot.refuse_low_price(account, request)
    quotas.refuse_beyond(account, request, vcpus * count)
    params = _for_moto(request, image)
    made = account.moto.ask(request.region, "RunInstances", **params)["Instances"]
    ids = [each["InstanceId"] for each in made]
    for instance_id in ids:
        _take_up(account, request, instance_id, image, vcpus)
    if token[1]:
        account.tokens[token] = (_identity(request), ids)
    return _answer(account, request, ids)


def _again(
    account: Account, request: Request, before: dict[str, Any], ids: list[str]
) -> dict[str, Any]:
    """The answer of before; only the state may have changed.

    https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
    """
    if before != _identity(request):
        text = (
            "Arguments on this idempotent request are inconsistent with arguments used in "
            "previous request(s)."
        )
        raise Refused("IdempotentParameterMismatch", text)
    ended = any(account.instances[each].state == "terminated" for each in ids)
    if ended and account.refuses_ended_tokens:
        # AWS's list of error codes has this; its page on idempotency does not speak of it.
        text = "The instance that this client token launched has been terminated."
        raise Refused("IdempotentInstanceTerminated", text)
    return _answer(account, request, ids)


def _check(account: Account, request: Request) -> dict[str, Any]:
    params = request.params
    if unheeded := set(params) - _HEEDED:
        raise Refused("UnknownParameter", f"The rehearsal does not heed {min(unheeded)}")
    _check_market(params.get("InstanceMarketOptions", {}))
    if int(params["MinCount"]) > int(params["MaxCount"]) or int(params["MinCount"]) < 1:
        raise Refused("InvalidParameterValue", "Value for MinCount and MaxCount is invalid")
    _check_user_data(params.get("UserData", ""))
    _check_tags(request)
    if params.get("KeyName"):
        account.moto.ask(request.region, "DescribeKeyPairs", KeyNames=[params["KeyName"]])
    image = images.find(request.region, params.get("ImageId", ""))
    subnet = _subnet(account, request)
    _check_groups(account, request, subnet)
    _check_offered(account, request)
    return image


def _check_market(options: dict[str, Any]) -> None:
    spot_options = options.get("SpotOptions", {})
    if unheeded := set(spot_options) - _SPOT_HEEDED:
        raise Refused("UnknownParameter", f"The rehearsal does not heed {min(unheeded)}")
    if options.get("MarketType", "spot") != "spot":
        raise Refused("UnknownParameter", "The rehearsal knows no market but spot")
    if spot_options.get("InstanceInterruptionBehavior", "terminate") != "terminate":
        raise Refused("UnknownParameter", "The rehearsal only terminates what it interrupts")


def _check_user_data(encoded: str) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html: 16 KB before encoding."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        text = "Invalid BASE64 encoding of user data."
        raise Refused("InvalidParameterValue", text) from None
    if len(data) > _MOST_USER_DATA:
        raise Refused("InvalidParameterValue", "User data is limited to 16384 bytes")


def _check_tags(request: Request) -> None:
    allowed = {"instance", "network-interface", "volume"}
    if request.market == "spot":
        allowed.add("spot-instances-request")
    for each in request.params.get("TagSpecifications", []):
        if each["ResourceType"] not in allowed:
            kind = each["ResourceType"]
            text = f"'{kind}' is not a valid taggable resource type for this operation."
            raise Refused("InvalidParameterValue", text)


def _subnet(account: Account, request: Request) -> dict[str, Any]:
    """The subnet asked for, or the default one of the zone, or of a zone that has the type."""
    params = request.params
    cards = params.get("NetworkInterfaces", [])
    asked = params.get("SubnetId") or next((c["SubnetId"] for c in cards if "SubnetId" in c), "")
    if asked:
        found = account.moto.ask(request.region, "DescribeSubnets", SubnetIds=[asked])["Subnets"]
        return dict(found[0])
    zone = params.get("Placement", {}).get("AvailabilityZone")
    zones = [zone] if zone else _zones(account, request)
    if not zones:
        text = f"The requested configuration is currently not supported in {request.region}."
        raise Refused("Unsupported", text)
    default = [{"Name": "default-for-az", "Values": ["true"]}]
    subnets = account.moto.ask(request.region, "DescribeSubnets", Filters=default)["Subnets"]
    for subnet in subnets:
        if subnet["AvailabilityZone"] in zones:
            return dict(subnet)
    text = f"Invalid availability zone: [{zone}]" if zone else "No default subnet found"
    raise Refused("InvalidParameterValue" if zone else "MissingInput", text)


def _check_groups(account: Account, request: Request, subnet: dict[str, Any]) -> None:
    params = request.params
    cards = params.get("NetworkInterfaces", [])
    if cards and (params.get("SecurityGroupIds") or params.get("SubnetId")):
        text = (
            "Network interfaces and an instance-level security groups may not be specified on "
            "the same request"
        )
        raise Refused("InvalidParameterCombination", text)
    groups = [*params.get("SecurityGroupIds", []), *(g for c in cards for g in c.get("Groups", []))]
    for group in groups:
        asked = account.moto.ask(request.region, "DescribeSecurityGroups", GroupIds=[group])
        if asked["SecurityGroups"][0]["VpcId"] != subnet["VpcId"]:
            text = f"Security group {group} and subnet {subnet['SubnetId']}"
            raise Refused("InvalidParameter", f"{text} belong to different networks.")


def _check_offered(account: Account, request: Request) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html."""
    zones = _zones(account, request)
    if request.zone not in zones:
        refused = faults.error("Unsupported", account.moto.account, request)
        refused.message = refused.message.replace("another one", ", ".join(zones))
        raise refused


def _zones(account: Account, request: Request) -> list[str]:
    offers = account.moto.ask(
        request.region,
        "DescribeInstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": [request.instance_type]}],
    )["InstanceTypeOfferings"]
    return sorted(each["Location"] for each in offers)


def _vcpus(account: Account, request: Request, image: dict[str, Any]) -> int:
    """How many the type has; refused if the image is for other processors."""
    kind = request.instance_type
    try:
        (facts,) = account.moto.ask(request.region, "DescribeInstanceTypes", InstanceTypes=[kind])[
            "InstanceTypes"
        ]
    except Refused:
        text = f"Invalid value '{kind}' for InstanceType."
        raise Refused("InvalidParameterValue", text) from None
    if image["Architecture"] not in facts["ProcessorInfo"]["SupportedArchitectures"]:
        theirs = facts["ProcessorInfo"]["SupportedArchitectures"][0]
        text = (
            f"The architecture '{theirs}' of the specified instance type does not match the "
            f"architecture '{image['Architecture']}' of the specified AMI. Specify an instance "
            "type and an AMI that have matching architectures, and try again."
        )
        raise Refused("InvalidParameterValue", text)
    return int(facts["VCpuInfo"]["DefaultVCpus"])


def _for_moto(request: Request, image: dict[str, Any]) -> dict[str, Any]:
    params = {**request.params, "ImageId": image["ImageId"], "MinCount": request.params["MaxCount"]}
    params["BlockDeviceMappings"] = _disks(params.get("BlockDeviceMappings", []), image)
    tags = params.get("TagSpecifications", [])
    params["TagSpecifications"] = [e for e in tags if e["ResourceType"] in ("instance", "volume")]
    if request.market == "spot":
        params["InstanceMarketOptions"] = {"MarketType": "spot"}
    if not params.get("SubnetId") and not params.get("NetworkInterfaces"):
        params["Placement"] = {"AvailabilityZone": request.zone}
    return params


def _disks(asked: list[dict[str, Any]], image: dict[str, Any]) -> list[dict[str, Any]]:
    """The image's disk, as far as the caller does not want it otherwise, and the caller's own.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-device-mapping-concepts.html
    """
    (root,) = image["BlockDeviceMappings"]
    others = [each for each in asked if each["DeviceName"] != root["DeviceName"]]
    wanted = [each for each in asked if each["DeviceName"] == root["DeviceName"]]
    keep = ("DeleteOnTermination", "VolumeSize", "VolumeType")
    disk = {name: root["Ebs"][name] for name in keep}
    disk.update(wanted[0].get("Ebs", {}) if wanted else {})
    if disk["VolumeSize"] < root["Ebs"]["VolumeSize"]:
        least, snapshot = root["Ebs"]["VolumeSize"], root["Ebs"]["SnapshotId"]
        text = f"Volume of size {disk['VolumeSize']}GB is smaller than snapshot '{snapshot}'"
        raise Refused("InvalidBlockDeviceMapping", f"{text}, expect size >= {least}GB")
    return [{"DeviceName": root["DeviceName"], "Ebs": disk}, *others]


def _take_up(
    account: Account, request: Request, instance_id: str, image: dict[str, Any], vcpus: int
) -> None:
    visible_at = account.clock.now() + account.blind_s
    instance = Instance(
        instance_id,
        request.region,
        request.zone,
        request.instance_type,
        request.market,
        vcpus,
        image,
        visible_at,
    )
    account.instances[instance_id] = instance
    if request.market == "spot":
        spot.fulfil(account, request, instance)
    if account.machines:
        data = base64.b64decode(request.params.get("UserData", ""))
        instance.address = account.machines.start(
            instance_id,
            data,
            region=request.region,
            instance_type=request.instance_type,
            image=image["Name"],
        )
    account.clock.after(account.pending_s, lambda: instances.begin_to_run(instance))


def _answer(account: Account, request: Request, ids: list[str]) -> dict[str, Any]:
    return dict(instances.described(account, request.region, ids)[0])


def _identity(request: Request) -> dict[str, Any]:
    return {name: value for name, value in request.params.items() if name != "ClientToken"}
