"""Instances of the simulated Compute Engine: ordered, booted, stopped, taken back, deleted."""

from __future__ import annotations

import copy
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

from tests.doubles import gce_faults, gce_world, rack
from tests.doubles.gce_faults import Fault, Refused
from tests.doubles.machines import USER

if TYPE_CHECKING:
    from tests.doubles.gce import Cloud, Request

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
# https://cloud.google.com/compute/docs/labeling-resources#requirements
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
# https://cloud.google.com/compute/docs/instances/limit-vm-runtime#restrictions
_SHORTEST_S, _LONGEST_S = 30, 120 * 86400


def insert_instance(cloud: Cloud, request: Request, fault: Fault | None) -> dict[str, Any]:
    """https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert"""
    body, zone = request.body, request.zone
    name = body.get("name", "")
    if ("instances", zone, name) in cloud.resources:
        what = f"projects/{gce_world.PROJECT}/zones/{zone}/instances/{name}"
        raise Refused(409, "alreadyExists", f"The resource '{what}' already exists")
    _check(cloud, body, zone)
    instance = _instance(cloud, body, zone)
    key = ("instances", zone, name)
    cloud.resources[key] = instance
    _add_disk(cloud, instance, zone)

    def finish() -> Any:
        if fault and fault.how == "operation":
            _remove(cloud, key)
            return gce_faults.inside(fault, zone, _last(body["machineType"]))
        if cloud.resources.get(key) is instance and instance["status"] == "PROVISIONING":
            _run(cloud, key, instance)
        return None

    return cloud.operation("insert", instance, zone, cloud.provision_s, finish)


def _instance(cloud: Cloud, body: dict[str, Any], zone: str) -> dict[str, Any]:
    return {
        **copy.deepcopy(body),
        "_at": time.monotonic(),
        "id": str(uuid.uuid4().int >> 65),
        "selfLink": gce_world.link(f"zones/{zone}/instances/{body['name']}"),
        "zone": gce_world.link(f"zones/{zone}"),
        "status": "PROVISIONING",
    }


def _run(cloud: Cloud, key: tuple[str, str, str], instance: dict[str, Any]) -> None:
    address = "192.0.2.1"
    if cloud.rack:
        try:
            address = cloud.rack.begin(key[2], _boot(cloud, instance))
        except rack.BadUserData as error:
            cloud.rack.failures.append(f"{key[2]}: {error}")
    instance["status"] = "RUNNING"
    interface = instance["networkInterfaces"][0]
    interface["networkIP"] = address
    for access in interface.get("accessConfigs", []):
        access["natIP"] = address
    limit = instance.get("scheduling", {}).get("maxRunDuration")
    if limit and cloud.pace:
        # It holds while the machine runs: https://cloud.google.com/compute/docs/instances/limit-vm-runtime
        def over() -> None:
            if cloud.resources.get(key) is instance and instance["status"] == "RUNNING":
                _end(cloud, key, "compute.instances.delete", 0)

        cloud.later(int(limit["seconds"]) / cloud.pace, over)


def _boot(cloud: Cloud, instance: dict[str, Any]) -> rack.Boot:
    """What the guest agent and cloud-init make of the metadata.

    https://cloud.google.com/compute/docs/images/guest-environment and
    https://docs.cloud-init.io/en/latest/reference/datasources/gce.html
    """
    metadata = _metadata(instance)
    data = metadata.get("user-data", "")
    config = rack.read(data.encode()) if data and cloud.reads_user_data else {}
    if metadata.get("enable-oslogin", "").upper() == "TRUE":
        raise rack.BadUserData("OS Login keeps the keys of the metadata out")
    for line in metadata.get("ssh-keys", "").splitlines():
        user, _, key = line.partition(":")
        if user != USER:
            raise rack.BadUserData(f"this double has {USER} only, not {user}")
        config["ssh_authorized_keys"] = [*config.get("ssh_authorized_keys", []), key]
    image = instance["disks"][0]["initializeParams"]["sourceImage"]
    pythons = ["/usr/local/bin/python3"]
    if "pytorch" in image:
        pythons.append("/opt/conda/bin/python")
    return rack.Boot(config, metadata.get("startup-script", ""), tuple(pythons), cloud.ahead_s)


def _metadata(instance: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in instance.get("metadata", {}).get("items", [])}


def guest_attributes(cloud: Cloud, request: Request) -> dict[str, Any]:
    """The host keys that the guest agent publishes.

    https://cloud.google.com/compute/docs/metadata/manage-guest-attributes
    """
    instance = cloud.found("instances", request)
    path = request.params.get("queryPath", "")
    on = _metadata(instance).get("enable-guest-attributes", "").upper() == "TRUE"
    machine = cloud.rack.machine(instance["name"]) if on and cloud.rack else None
    if machine is None or path != "hostkeys/":
        raise Refused(404, "notFound", f"The resource '{path}' of type 'Guest Attribute' was not "
                      "found.")  # fmt: skip
    kind, value = machine.host_key.split()[:2]
    items = [{"namespace": "hostkeys", "key": kind, "value": value}]
    return {"queryPath": path, "queryValue": {"items": items}}


def delete_instance(cloud: Cloud, request: Request, fault: Fault | None) -> dict[str, Any]:
    """https://cloud.google.com/compute/docs/reference/rest/v1/instances/delete"""
    instance = cloud.found("instances", request)
    return _end(cloud, ("instances", request.zone, instance["name"]), "delete", cloud.end_s)


def _end(cloud: Cloud, key: tuple[str, str, str], kind: str, seconds: float) -> dict[str, Any]:
    instance = cloud.resources[key]
    instance["status"] = "STOPPING"
    if cloud.rack:
        cloud.rack.stop(key[2])
    return cloud.operation(kind, instance, key[1], seconds, lambda: _remove(cloud, key))


def stop(cloud: Cloud, name: str) -> None:
    """Power-off from inside; the limit of the run's duration is void then."""
    instance = cloud.instances.get(name)
    if instance and instance["status"] in ("RUNNING", "PROVISIONING"):
        instance["status"] = "TERMINATED"
        cloud.changed.notify_all()


def preempt(cloud: Cloud, name: str, notice_s: float) -> None:
    """Take a spot machine back, with notice; then what its termination action says."""
    ((key, instance),) = [item for item in cloud.resources.items()
                          if item[0][0] == "instances" and item[0][2] == name]  # fmt: skip
    scheduling = instance["scheduling"]
    assert scheduling["provisioningModel"] == "SPOT"
    instance["status"] = "STOPPING"

    def gone() -> None:
        if cloud.rack:
            cloud.rack.stop(name)
        if scheduling.get("instanceTerminationAction") == "DELETE":
            _remove(cloud, key)
        else:
            instance["status"] = "TERMINATED"

    cloud.operation("compute.instances.preempted", instance, key[1], notice_s, gone)


def _add_disk(cloud: Cloud, instance: dict[str, Any], zone: str) -> None:
    disk = instance["disks"][0]
    asked = disk["initializeParams"]
    cloud.resources["disks", zone, instance["name"]] = {
        "name": instance["name"],
        "sizeGb": asked.get("diskSizeGb", "50"),
        "labels": asked.get("labels", {}),
        "zone": gce_world.link(f"zones/{zone}"),
        "status": "READY",
        "users": [instance["selfLink"]],
        "_at": time.monotonic(),
    }


def _remove(cloud: Cloud, key: tuple[str, str, str]) -> None:
    instance = cloud.resources.pop(key, None)
    if instance is None:
        return
    disk = ("disks", key[1], key[2])
    if instance["disks"][0].get("autoDelete"):
        cloud.resources.pop(disk, None)
    elif disk in cloud.resources:
        cloud.resources[disk]["users"] = []


def _check(cloud: Cloud, body: dict[str, Any], zone: str) -> None:
    """What Google refuses at once."""
    if not _NAME.fullmatch(body.get("name", "")):
        raise _invalid("name", body.get("name"))
    disk = body["disks"][0]
    for labels in (body.get("labels", {}), disk["initializeParams"].get("labels", {})):
        for key, value in labels.items():
            if not _LABEL[0].fullmatch(key) or not _LABEL[1].fullmatch(value):
                raise _invalid("labels", f"{key}={value}")
    for tag in body.get("tags", {}).get("items", []):
        if not _NAME.fullmatch(tag):
            raise _invalid("tags", tag)
    kind = _last(body.get("machineType", ""))
    if ("machineTypes", zone, kind) not in cloud.resources:
        raise _invalid("machineType", body.get("machineType"))
    for each in body.get("guestAccelerators", []):
        if ("acceleratorTypes", zone, _last(each["acceleratorType"])) not in cloud.resources:
            raise _invalid("guestAccelerators", each["acceleratorType"])
    image = cloud.resources.get(("images", "", _last(disk["initializeParams"]["sourceImage"])))
    if image is None or int(disk["initializeParams"].get("diskSizeGb", 50)) < int(
        image["diskSizeGb"]
    ):
        raise _invalid("disks[0]", disk)
    _check_scheduling(body, has_gpu=not kind.startswith("n1-") or "guestAccelerators" in body)


def _check_scheduling(body: dict[str, Any], *, has_gpu: bool) -> None:
    scheduling = body.get("scheduling", {})
    if has_gpu and scheduling.get("onHostMaintenance") != "TERMINATE":
        # https://cloud.google.com/compute/docs/gpus/gpu-host-maintenance
        raise Refused(400, "badRequest", "Instances with guest accelerators do not support live "
                      "migration.")  # fmt: skip
    if scheduling.get("provisioningModel") == "SPOT" and scheduling.get("automaticRestart", True):
        raise _invalid("scheduling.automaticRestart", True)
    limit = scheduling.get("maxRunDuration")
    if limit:
        if not _SHORTEST_S <= int(limit["seconds"]) <= _LONGEST_S:
            raise _invalid("scheduling.maxRunDuration", limit)
        if "instanceTerminationAction" not in scheduling:
            raise _invalid("scheduling.instanceTerminationAction", None)


def _invalid(what: str, value: object) -> Refused:
    return Refused(400, "invalid", f"Invalid value for field 'resource.{what}': '{value}'.")


def _last(path: str) -> str:
    return path.rpartition("/")[2]
