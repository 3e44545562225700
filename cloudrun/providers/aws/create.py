"""Create a machine at AWS, and reach it."""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from cloudrun.errors import CloudrunError
from cloudrun.hosts.base import Person
from cloudrun.hosts.ssh import SshHost
from cloudrun.model.machine import Machine
from cloudrun.model.offer import Offer
from cloudrun.model.run import now
from cloudrun.providers import boot, caller, keys, reach
from cloudrun.providers.aws import calls, ending, images, network, state, tags
from cloudrun.providers.base import Order

# Smaller than any image of AWS's for deep learning, and enough for a torch of one's own.
_LEAST_DISK_GB = 75


def create(offer: Offer, order: Order) -> Machine:
    """Get the machine; see `Provider.create`."""
    region, need = offer.region or "", order.need
    with ThreadPoolExecutor(3) as pool:
        subnet = pool.submit(network.way_out, region, offer.zone, need.private_ip)
        image = pool.submit(images.choose, region, offer.gpu, offer.instance_type or "", need.image)
        ways = subnet.result()
        who = caller.caller(need.ssh_from, ways.range if need.private_ip else None)
        made = keys.make(order.folder)
        ours = tags.tags(order.run_id, order.deadline)
        group = network.make_group(region, ways, f"cloudrun-{order.run_id}", ours)
        request = _request(offer, order, image.result(), made, ways, group)
        opened = pool.submit(network.admit, region, group, who)
        since = now()
        instance = _run(region, request, order.run_id)
        _must_be_open(region, instance, opened)
    return Machine(
        id=instance,
        offer=offer,
        deadline=order.deadline,
        user=image.result().user,
        host_key=made.host_public,
        key=str(made.file),
        private_ip=need.private_ip,
        admits=who if need.ssh_from is None else None,
        since=since,
    )


def _request(
    offer: Offer,
    order: Order,
    image: images.Image,
    made: keys.Keys,
    subnet: network.Subnet,
    group: str,
) -> dict[str, Any]:
    """The whole order in one call: nothing is added later, so nothing is without its tags."""
    disk = {
        "VolumeSize": max(order.need.disk_gb or _LEAST_DISK_GB, image.disk_gb),
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    ours = tags.tags(order.run_id, order.deadline)
    kinds = ["instance", "volume", *(["spot-instances-request"] if offer.spot else [])]
    request: dict[str, Any] = {
        "ImageId": image.id,
        "InstanceType": offer.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": f"{tags.token(order.run_id)}{order.attempt}-{offer.zone}",
        "UserData": boot.user_data(made, order.deadline, order.longest_s),
        # The machine's own power-off ends it for good.
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [{"DeviceName": image.root_device, "Ebs": disk}],
        "NetworkInterfaces": [
            {
                "DeviceIndex": 0,
                "SubnetId": subnet.id,
                "Groups": [group],
                "AssociatePublicIpAddress": not order.need.private_ip,
                "DeleteOnTermination": True,
            }
        ],
        "TagSpecifications": [{"ResourceType": kind, "Tags": ours} for kind in kinds],
    }
    if offer.spot:
        once = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": once}
    return request


def _run(region: str, request: dict[str, Any], run_id: str) -> str:
    """Order the machine, until there is a clear answer; the token makes it one machine.

    botocore's own retries are off: it would silently repeat an answer of "no capacity".
    """
    ec2, doing = calls.client("ec2", region, retries=1), "start the machine"
    answer = calls.insist(doing, ec2.run_instances, late=network.LATE, **request)
    with calls.reading(doing):
        instance = (answer.get("Instances") or [{}])[0]
        found = str(instance.get("InstanceId", ""))
        says_whose = instance.get("Tags") or instance.get("ClientToken")
    if not re.fullmatch(r"i-[0-9a-f]{8,17}", found):
        raise calls.no_sense(doing, f"It says that its id is '{found}'.")
    if says_whose and not ending.is_ours(instance, run_id):
        raise calls.no_sense(doing, f"It gave {found}, which is another's.")
    return found


def _must_be_open(region: str, instance: str, opened: Future[None]) -> None:
    """End the machine at once when nobody can get in, now that its id is known."""
    try:
        opened.result()
    except CloudrunError:
        ec2 = calls.client("ec2", region)
        late = ("InvalidInstanceID.NotFound",)
        ids = [instance]
        calls.insist("end the machine", ec2.terminate_instances, late=late, InstanceIds=ids)
        raise


def connect(machine: Machine, person: Person, until: float) -> SshHost:
    """Wait until the machine answers, and log in; see `Provider.connect`."""
    return reach.reach(
        machine,
        person,
        until,
        look=lambda: state.look(machine),
        words=lambda: state.console(machine),
        admit=lambda who: _admit(machine, who),
    )


def _admit(machine: Machine, who: str) -> None:
    for group in state.groups(machine):
        network.admit(machine.offer.region or "", group, who)
