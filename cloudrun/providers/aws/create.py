"""Create a machine at AWS, and reach it."""

from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cloudrun.errors import AccessDenied, HostUnreachable
from cloudrun.hosts.base import Person
from cloudrun.hosts.ssh import SshHost
from cloudrun.hosts.sshconfig import Hop
from cloudrun.model.machine import Machine
from cloudrun.model.offer import Offer
from cloudrun.model.run import now
from cloudrun.providers import boot, keys
from cloudrun.providers.aws import calls, images, network, state
from cloudrun.providers.aws.tags import tags
from cloudrun.providers.base import Order

# Smaller than any image of AWS's for deep learning, and enough for a torch of one's own.
_LEAST_DISK_GB = 75
_READY_S = 300.0
_LOOK_EVERY_S = 5.0
_TRY_EVERY_S = 0.5
# After the first answer: cloud-init may still be busy with the user's key.
_LOG_IN_S = 30.0


def create(offer: Offer, order: Order) -> Machine:
    """Get the machine; see `Provider.create`."""
    region, need = offer.region or "", order.need
    with ThreadPoolExecutor(3) as pool:
        subnet = pool.submit(network.way_out, region, offer.zone, need.private_ip)
        image = pool.submit(images.choose, region, offer.gpu, offer.instance_type or "", need.image)
        ways = subnet.result()
        who = network.caller(need.ssh_from, ways.range if need.private_ip else None)
        made = keys.make(order.folder)
        ours = tags(order.run_id, order.deadline)
        group = network.make_group(region, ways, f"cloudrun-{order.run_id}", ours)
        request = _request(offer, order, image.result(), made, ways, group)
        opened = pool.submit(network.admit, region, group, who)
        since = now()
        instance = _run(region, request)
        opened.result()
    return Machine(
        id=instance,
        offer=offer,
        deadline=order.deadline,
        user=image.result().user,
        host_key=made.host_public,
        key=str(made.file),
        private_ip=need.private_ip,
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
    ours = tags(order.run_id, order.deadline)
    kinds = ["instance", "volume", *(["spot-instances-request"] if offer.spot else [])]
    request: dict[str, Any] = {
        "ImageId": image.id,
        "InstanceType": offer.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": f"cloudrun-{order.run_id}-{order.attempt}-{offer.zone}",
        "UserData": boot.user_data(made, order.deadline),
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


def _run(region: str, request: dict[str, Any]) -> str:
    """Order the machine, until there is a clear answer; the token makes it one machine.

    botocore's own retries are off: it would silently repeat an answer of "no capacity".
    """
    ec2 = calls.client("ec2", region, retries=1)
    answer = calls.insist("start the machine", ec2.run_instances, **request)
    instances = answer.get("Instances") or [{}]
    found = str(instances[0].get("InstanceId", ""))
    if not re.fullmatch(r"i-[0-9a-f]{8,17}", found):
        raise calls.no_sense("start the machine", f"It says that its id is '{found}'.")
    return found


def connect(machine: Machine, person: Person, until: float) -> SshHost:
    """Wait until the machine answers, and log in; see `Provider.connect`."""
    until = min(until, time.monotonic() + _READY_S)
    address = _answering(machine, until)
    file = Path(machine.key or "")
    known = file.with_name("known_hosts")
    known.write_text(f"{address} {machine.host_key}\n", encoding="ascii")
    hop = Hop(address, 22, machine.user or "", address, (file,), only_these_keys=True)
    # Nobody is asked whether to trust another key than the one that was put on it.
    host = SshHost((hop,), known, Person(tell=person.tell), gpu_is_known=True)
    _log_in(host, min(until, time.monotonic() + _LOG_IN_S))
    return host


def _log_in(host: SshHost, until: float) -> None:
    while True:
        try:
            host.link.open()
        except (HostUnreachable, AccessDenied):
            if time.monotonic() > until:
                host.close()
                raise
            time.sleep(_TRY_EVERY_S)
        else:
            return


def _answering(machine: Machine, until: float) -> str:
    """The address of the machine, once something there answers on port 22.

    Raises:
        HostUnreachable: it has ended, or does not answer in time.
    """
    looked_at, address = 0.0, ""
    while True:
        if not address or time.monotonic() > looked_at + _LOOK_EVERY_S:
            looked_at = time.monotonic()
            seen = state.look(machine)
            if seen.ended:
                raise HostUnreachable(
                    "The machine ended before it could be reached.", seen.ended, "Try again."
                )
            address = seen.address
        if address and _answers(address):
            return address
        if time.monotonic() > until:
            raise _never_ready(machine, address)
        time.sleep(_TRY_EVERY_S)


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address, 22), timeout=2).close()
    except OSError:
        return False
    return True


def _never_ready(machine: Machine, address: str) -> HostUnreachable:
    where = f"port 22 of {address}" if address else "an address for it"
    why = f"Nothing answered on {where}." if address else f"AWS never gave {where}."
    said = state.console(machine)
    return HostUnreachable(
        f"The machine {machine.id} did not become ready.",
        f"{why} Its console says last: {said}" if said else why,
        "Some networks block port 22 on the way out: try another (a phone's), or a VPN with "
        "--private-ip. If your address changes on the way, see --ssh-from.",
    )
