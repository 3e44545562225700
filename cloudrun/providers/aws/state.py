"""How a machine is, as AWS sees it."""

from __future__ import annotations

import time
from typing import Any

from cloudrun.errors import CloudrunError
from cloudrun.model.machine import Machine
from cloudrun.model.words import clean
from cloudrun.providers import patience
from cloudrun.providers.aws import calls
from cloudrun.providers.reach import State

GONE = ("shutting-down", "terminated", "stopping", "stopped")
_DOING = "look at the machine"
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-request-status.html
_TAKEN_BACK = ("marked-for-stop", "marked-for-termination", "instance-terminated-")
_MOST_CONSOLE = 300
_MORE_LOOKS, _LOOK_AGAIN_S = 3, 4.0


def look(machine: Machine) -> State:
    """Look at a machine. One that AWS does not show yet has no address and has not ended.

    Raises:
        CloudrunError: AWS cannot be asked.
    """
    instance = patience.patiently(lambda: _instance(machine))
    if instance is None:
        return State()
    if _name(instance) in GONE:
        return State(ended=_why(machine, instance))
    kind = "PrivateIpAddress" if machine.private_ip else "PublicIpAddress"
    return State(address=instance.get(kind) or "")


def gone(machine: Machine) -> str | None:
    """Why the machine is gone, or soon will be; see `Provider.gone`."""
    instance = _instance(machine)
    for _ in range(_MORE_LOOKS):
        # An answer may be late: one that does not show it is not believed at once.
        if instance is None:
            time.sleep(_LOOK_AGAIN_S)
            instance = _instance(machine)
    if instance is None:
        return f"AWS has no machine {machine.id} any more."
    if _name(instance) in GONE:
        return _why(machine, instance)
    request = instance.get("SpotInstanceRequestId")
    return _taken_back(machine, request) if request else None


def _instance(machine: Machine) -> dict[str, Any] | None:
    ec2 = calls.client("ec2", machine.offer.region or "")
    with calls.allowing("InvalidInstanceID.NotFound"), calls.reading(_DOING):
        answer = calls.ask(_DOING, ec2.describe_instances, InstanceIds=[machine.id])
        for reservation in answer.get("Reservations", []):
            for instance in reservation.get("Instances", []):
                if instance.get("InstanceId") == machine.id:
                    return dict(instance)
    return None


def _name(instance: dict[str, Any]) -> str:
    return str((instance.get("State") or {}).get("Name", ""))


def _why(machine: Machine, instance: dict[str, Any]) -> str:
    reason = instance.get("StateReason") or {}
    code = str(reason.get("Code", ""))
    if code == "Server.SpotInstanceTermination":
        return f"AWS took the spot machine {machine.id} back."
    if code == "Client.InstanceInitiatedShutdown":
        return f"The machine {machine.id} powered itself off, as it does at its deadline."
    said = reason.get("Message") or _name(instance)
    return f"AWS says of the machine {machine.id}: {clean(str(said))[:300]}."


def _taken_back(machine: Machine, request: str) -> str | None:
    """The notice that AWS gives two minutes before it takes a spot machine."""
    ec2 = calls.client("ec2", machine.offer.region or "")
    found = calls.ask(
        _DOING, ec2.describe_spot_instance_requests, SpotInstanceRequestIds=[request]
    ).get("SpotInstanceRequests", [])
    status = (found[0].get("Status") or {}) if found else {}
    if not str(status.get("Code", "")).startswith(_TAKEN_BACK):
        return None
    return f"AWS takes the spot machine {machine.id} back within two minutes."


def groups(machine: Machine) -> list[str]:
    """The ids of the machine's security groups."""
    instance = _instance(machine) or {}
    return [str(group["GroupId"]) for group in instance.get("SecurityGroups", [])]


def console(machine: Machine) -> str:
    """The last words of the machine's console, as far as AWS has them."""
    ec2 = calls.client("ec2", machine.offer.region or "")
    try:
        answer = calls.ask(_DOING, ec2.get_console_output, InstanceId=machine.id, Latest=True)
    except CloudrunError:
        # Only the newest types tell their latest words; without them there is less to say.
        return ""
    return clean(" ".join(str(answer.get("Output") or "").split()))[-_MOST_CONSOLE:]
