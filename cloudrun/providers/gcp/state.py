"""How a machine is, as Google sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from cloudrun.errors import CloudrunError
from cloudrun.model.machine import Machine
from cloudrun.model.run import now
from cloudrun.model.words import clean
from cloudrun.providers.gcp import calls
from cloudrun.providers.reach import State

# https://cloud.google.com/compute/docs/instances/instance-lifecycle
ENDING = ("PENDING_STOP", "STOPPING", "SUSPENDING", "DEPROVISIONING")
ENDED = ("TERMINATED", "STOPPED", "SUSPENDED")
_DOING = "look at the machine"
_MOST_CONSOLE = 300
_KEY = re.compile(r"(ssh-ed25519|ecdsa-sha2-nistp\d+|ssh-rsa)")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def look(machine: Machine) -> State:
    """Look at a machine.

    Raises:
        CloudrunError: Google cannot be asked.
    """
    instance = _instance(machine)
    if instance is None or instance.get("status") in (*ENDING, *ENDED):
        return State(ended=_why(machine, instance))
    interface = (instance.get("networkInterfaces") or [{}])[0]
    if machine.private_ip:
        return State(address=str(interface.get("networkIP") or ""))
    access = (interface.get("accessConfigs") or [{}])[0]
    return State(address=str(access.get("natIP") or ""))


def gone(machine: Machine) -> str | None:
    """Why the machine is gone, or soon will be; see `Provider.gone`."""
    instance = _instance(machine)
    if instance is not None and instance.get("status") not in (*ENDING, *ENDED):
        return None
    return _why(machine, instance)


def place(machine: Machine) -> str:
    """The machine's path below the project."""
    return f"zones/{machine.offer.zone}/instances/{machine.id}"


def _instance(machine: Machine) -> dict[str, Any] | None:
    with calls.allowing(404):
        return calls.ask(_DOING, "GET", place(machine))
    return None


def _why(machine: Machine, instance: dict[str, Any] | None) -> str:
    """Why it is gone; the cloud's own deadline and a spot machine's end leave no machine behind."""
    if machine.offer.spot and _was_taken_back(machine):
        if instance is not None and instance.get("status") in ENDING:
            return f"Google takes the spot machine {machine.id} back within 30 seconds."
        return f"Google took the spot machine {machine.id} back."
    if machine.deadline <= now():
        return f"The machine {machine.id} ended itself at its deadline."
    if instance is None:
        return f"Google has no machine {machine.id} any more."
    status = clean(str(instance.get("status")))
    return f"Google says of the machine {machine.id} that it is {status}."


def _was_taken_back(machine: Machine) -> bool:
    """https://cloud.google.com/compute/docs/instances/create-use-spot#detect-preemption"""
    rows = calls.everything(
        _DOING,
        f"zones/{machine.offer.zone}/operations",
        filter="operationType=compute.instances.preempted",
    )
    return any(calls.last(row.get("targetLink")) == machine.id for row in rows)


def console(machine: Machine) -> str:
    """The last words of the machine's console, as far as Google has them."""
    try:
        answer = calls.ask(_DOING, "GET", f"{place(machine)}/serialPort")
    except CloudrunError:
        # Without them there is less to say.
        return ""
    return clean(" ".join(str(answer.get("contents") or "").split()))[-_MOST_CONSOLE:]


def host_keys(machine: Machine) -> Sequence[str]:
    """The host keys that the machine itself has told Google of, as `ssh-ed25519 AAAA...`.

    They come over TLS from Google, and only the machine can write them:
    https://cloud.google.com/compute/docs/metadata/manage-guest-attributes
    """
    try:
        answer = calls.ask(
            _DOING, "GET", f"{place(machine)}/getGuestAttributes", queryPath="hostkeys/"
        )
    except CloudrunError:
        # It has told of none yet, or never will; the one that was put on it is known.
        return []
    items = (answer.get("queryValue") or {}).get("items") or []
    pairs = [(str(item.get("key")), str(item.get("value"))) for item in items]
    return [f"{kind} {key}" for kind, key in pairs
            if _KEY.fullmatch(kind) and _BASE64.fullmatch(key)]  # fmt: skip
