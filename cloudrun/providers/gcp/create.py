"""Create a machine at Google, and reach it."""

from __future__ import annotations

import math
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from cloudrun.errors import CannotHave, CloudrunError
from cloudrun.hosts.base import Person
from cloudrun.hosts.ssh import SshHost
from cloudrun.model.machine import Machine
from cloudrun.model.offer import Offer
from cloudrun.model.run import now, rfc3339
from cloudrun.providers import boot, keys, reach
from cloudrun.providers.base import Order
from cloudrun.providers.caller import caller
from cloudrun.providers.gcp import calls, images, labels, network, state
from cloudrun.providers.gcp.offers import read_type

# Every image has this user, or makes it of the key's line in the metadata.
USER = "ubuntu"
# Smaller than any image of Google's for deep learning, and enough for a torch of one's own.
_LEAST_DISK_GB = 75
# Where no persistent disk can be attached:
# https://cloud.google.com/compute/docs/disks/hyperdisks#machine-type-support
_HYPERDISK = ("a3-ultragpu-", "a4-", "a4x-", "g4-")
# https://cloud.google.com/compute/docs/instances/limit-vm-runtime#restrictions
_LEAST_RUN_S = 30
# The cloud deletes the machine, disk and all; its own power-off only stops it, so it comes
# later: the cloud may take half a minute, and counts from when the machine runs.
_AFTER_THE_CLOUD_S = 60
# No capacity is told within half a minute.
_ORDER_S = 600.0


def create(offer: Offer, order: Order) -> Machine:
    """Get the machine; see `Provider.create`."""
    region, need = offer.region or "", order.need
    with ThreadPoolExecutor(3) as pool:
        image = pool.submit(images.choose, offer.gpu, need.image)
        net = network.way_out(region)
        who = caller(need.ssh_from, net.range if need.private_ip else None)
        made = keys.make(order.folder)
        body = _request(offer, order, image.result(), made, net)
        opened = pool.submit(network.admit, net, order.run_id, region, order.deadline, who)
        since = now()
        _run(offer, order, body)
        opened.result()
    return Machine(
        id=body["name"],
        offer=offer,
        deadline=order.deadline,
        user=USER,
        host_key=made.host_public,
        key=str(made.file),
        private_ip=need.private_ip,
        since=since,
    )


def _request(
    offer: Offer, order: Order, image: images.Image, made: keys.Keys, net: network.Network
) -> dict[str, Any]:
    """The whole order in one call: nothing is added later, so nothing is without its labels."""
    zone, ordered = offer.zone or "", read_type(offer.instance_type or "")
    ours = labels.labels(order.run_id, order.deadline)
    public = [{"name": "External NAT", "type": "ONE_TO_ONE_NAT"}]
    interface: dict[str, Any] = {
        "network": net.link,
        **({"subnetwork": net.subnet} if net.subnet else {}),
    }
    if not order.need.private_ip:
        interface["accessConfigs"] = public
    request: dict[str, Any] = {
        "name": f"cloudrun-{order.run_id}-{order.attempt}",
        "machineType": f"zones/{zone}/machineTypes/{ordered.machine}",
        "labels": ours,
        "tags": {"items": [network.tag(order.run_id, offer.region or "")]},
        "disks": [_disk(ordered.machine, zone, order, image, ours)],
        "networkInterfaces": [interface],
        "metadata": {"items": _metadata(order, made)},
        "scheduling": _scheduling(offer, order),
    }
    if ordered.accelerator:
        kind = f"zones/{zone}/acceleratorTypes/{ordered.accelerator}"
        request["guestAccelerators"] = [
            {"acceleratorType": kind, "acceleratorCount": ordered.count}
        ]
    if image.uefi:
        # Without Secure Boot, which NVIDIA's driver in these images is not signed for.
        request["shieldedInstanceConfig"] = {
            "enableSecureBoot": False,
            "enableVtpm": True,
            "enableIntegrityMonitoring": True,
        }
    return request


def _disk(
    machine: str, zone: str, order: Order, image: images.Image, ours: dict[str, str]
) -> dict[str, Any]:
    kind = "hyperdisk-balanced" if machine.startswith(_HYPERDISK) else "pd-balanced"
    return {
        "boot": True,
        "autoDelete": True,
        "initializeParams": {
            "sourceImage": image.link,
            "diskSizeGb": str(max(order.need.disk_gb or _LEAST_DISK_GB, image.disk_gb)),
            "diskType": f"zones/{zone}/diskTypes/{kind}",
            "labels": ours,
        },
    }


def _metadata(order: Order, made: keys.Keys) -> list[dict[str, str]]:
    """What the machine reads when it boots: cloud-init, and where there is none the guest agent.

    https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys
    """
    later = datetime.fromisoformat(order.deadline) + timedelta(seconds=_AFTER_THE_CLOUD_S)
    ends, longest_s = rfc3339(later), order.longest_s + _AFTER_THE_CLOUD_S
    said = {
        "user-data": boot.user_data(made, ends, longest_s),
        "startup-script": f"#!/bin/sh\n{boot.timer(ends, longest_s)}",
        "ssh-keys": f"{USER}:{made.public}",
        "enable-oslogin": "FALSE",
        "block-project-ssh-keys": "TRUE",
        # The machine's host keys are told there.
        "enable-guest-attributes": "TRUE",
        # Where the image has its driver only on paper.
        "install-nvidia-driver": "True",
    }
    return [{"key": key, "value": value} for key, value in said.items()]


def _scheduling(offer: Offer, order: Order) -> dict[str, Any]:
    """The cloud's own end of the machine, whatever becomes of cloudrun and of what runs there."""
    left_s = (datetime.fromisoformat(order.deadline) - datetime.now(UTC)).total_seconds()
    return {
        "provisioningModel": "SPOT" if offer.spot else "STANDARD",
        "maxRunDuration": {"seconds": str(max(_LEAST_RUN_S, math.ceil(left_s)))},
        "instanceTerminationAction": "DELETE",
        "automaticRestart": False,
        # https://cloud.google.com/compute/docs/gpus/gpu-host-maintenance
        "onHostMaintenance": "TERMINATE",
    }


def _run(offer: Offer, order: Order, body: dict[str, Any]) -> None:
    """Order the machine, until there is a clear answer; the id makes it one machine."""
    zone, doing = f"zones/{offer.zone}", "start the machine"
    token = f"cloudrun-{order.run_id}-{order.attempt}-{offer.zone}"
    request = str(uuid.uuid5(uuid.NAMESPACE_URL, token))
    try:
        operation = calls.insist(doing, "POST", f"{zone}/instances", body=body, requestId=request)
        calls.finish(doing, operation, zone, _ORDER_S)
    except CloudrunError as error:
        refusal = calls.refusal_of(error)
        if refusal is None or not _is_settled(refusal, body, zone):
            raise


def _is_settled(refusal: calls.Refusal, body: dict[str, Any], zone: str) -> bool:
    """Whether a refusal only says that the machine is there already, of the very same order.

    Raises:
        CannotHave: it says that the zone has no such type.
    """
    if refusal.status in (400, 404) and "Types/" in refusal.message:
        raise CannotHave(
            "Google has no machine of this type here.",
            f"Google says {refusal.reason}: {refusal.message}",
            "Try another region, or another GPU.",
            scope="zone",
        ) from refusal
    if refusal.status != 409:
        return False
    there = calls.insist("look at the machine", "GET", f"{zone}/instances/{body['name']}")
    return bool(there.get("labels") == body["labels"])


def connect(machine: Machine, person: Person, until: float) -> SshHost:
    """Wait until the machine answers, and log in; see `Provider.connect`."""
    return reach.reach(
        machine,
        person,
        until,
        look=lambda: state.look(machine),
        words=lambda: state.console(machine),
        host_keys=lambda: state.host_keys(machine),
    )
