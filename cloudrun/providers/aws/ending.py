"""Find and end what is ours at AWS: machines, disks, addresses, firewalls, keys, spot requests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloudrun.catalog.instances import all_instances
from cloudrun.errors import CloudrunError
from cloudrun.model.machine import Machine
from cloudrun.model.resource import Kind, Resource
from cloudrun.model.run import later, now, rfc3339
from cloudrun.providers.aws import calls, tags
from cloudrun.providers.aws.regions import enabled
from cloudrun.providers.base import Found
from cloudrun.providers.patience import Lost, Throttled, patiently, side_by_side, until_none

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0
# What was created a moment ago may not be in AWS's lists yet.
_LATE = (0.0, 1.0, 2.0)
_VISIBLE_S = 60.0
_MOMENT = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")
# Of us-east-1, 2026-11: https://aws.amazon.com/ebs/pricing/ (gp3, a month of 730 hours) and
# https://aws.amazon.com/vpc/pricing/ (a public IPv4 address).
_USD_PER_GB_HOUR, _USD_PER_ADDRESS_HOUR = 0.08 / 730, 0.005


@dataclass(frozen=True)
class _Kind:
    """A kind of resource: how AWS lists it, and how one of it is read and ended."""

    kind: Kind
    operation: str
    key: str
    id: str
    end: Callable[[Any, str], object]
    read: Callable[[dict[str, Any]], dict[str, Any]] = lambda _row: {}


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:
    """End all of a run's in a region; see `Provider.terminate`."""
    where = region or calls.home_region()
    ended = _end_machines(run_id, where, machine)
    _end_the_rest(run_id, where)
    return ended


def _end_machines(run_id: str, region: str, machine: Machine | None) -> str:
    """End the run's machines and wait until AWS says that they are gone; when that was."""
    ec2, asked_at = calls.client("ec2", region), now()
    if machine is not None:
        _end_known(ec2, machine)
    for pause in _LATE if machine is None else _LATE[:1]:
        time.sleep(pause)
        for instance in _machines(ec2, run_id, machine):
            if instance["State"]["Name"] not in ("shutting-down", "terminated"):
                _end_machine(ec2, instance["InstanceId"])
    ended = now()
    found: list[dict[str, Any]] = []

    def left() -> list[str]:
        found[:] = _machines(ec2, run_id, machine)
        return [i["InstanceId"] for i in found if i["State"]["Name"] != "terminated"]

    until_none(left, f"AWS has not confirmed the end of what cloudrun rented in {region}", run_id)
    earlier = [moment for i in found if (moment := _ended_at(i)) and moment[:19] < asked_at[:19]]
    return min([ended, *earlier])


def _ended_at(instance: dict[str, Any]) -> str:
    """When a machine ended, where AWS tells: `User initiated (2026-11-24 15:00:00 GMT)`."""
    match = _MOMENT.search(instance.get("StateTransitionReason") or "")
    return rfc3339(datetime.fromisoformat(f"{match[1]}+00:00")) if match else ""


def _machines(ec2: Any, run_id: str, machine: Machine | None) -> list[dict[str, Any]]:
    """The run's machines that AWS shows, by their tag; the known one by its id too."""
    asked: list[dict[str, Any]] = [{"Filters": list(tags.of_run(run_id))}]
    if machine is not None:
        asked.append({"InstanceIds": [machine.id]})
    found: dict[str, dict[str, Any]] = {}
    for which in asked:
        with calls.allowing("InvalidInstanceID.NotFound"):
            answer = calls.insist("look at your machines", ec2.describe_instances, **which)
            found |= {i["InstanceId"]: i for r in answer["Reservations"] for i in r["Instances"]}
    return list(found.values())


def _end_known(ec2: Any, machine: Machine) -> None:
    """End a machine that was created, even if AWS does not show it yet."""
    pause = _FIRST_PAUSE_S
    while not _end_machine(ec2, machine.id) and (machine.since or "") > later(-_VISIBLE_S):
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _end_machine(ec2: Any, machine_id: str) -> bool:
    """End a machine; False when AWS knows of none with this id, not yet or no more."""
    with calls.allowing("InvalidInstanceID.NotFound"):
        calls.insist("end the machine", ec2.terminate_instances, InstanceIds=[machine_id])
        return True
    return False


def _end_the_rest(run_id: str, region: str) -> None:
    """End what hangs on the machines, which AWS lets go of a little after them."""
    ec2 = calls.client("ec2", region)

    def left() -> list[str]:
        names = []
        for kind in _KINDS[1:]:
            for row in _list_for_the_end(ec2, kind, run_id):
                with calls.allowing("DependencyViolation", "VolumeInUse", "InvalidGroup.InUse"):
                    kind.end(ec2, row[kind.id])
                names.append(row[kind.id])
        return names

    until_none(left, f"AWS does not let go of what cloudrun made in {region}", run_id)


def _list_for_the_end(ec2: Any, kind: _Kind, run_id: str) -> list[dict[str, Any]]:
    try:
        return patiently(lambda: _list(ec2, kind, tags.of_run(run_id)))
    except (Lost, Throttled):
        raise
    except CloudrunError:
        # cloudrun makes none of these: that they cannot be listed keeps no run from its end.
        if kind.kind in ("address", "key"):
            return []
        raise


def find(regions: Sequence[str] | None = None) -> Found:
    """Everything of ours in these regions, else in all that the account has; see `Provider.find`.

    Raises:
        CloudrunError: AWS cannot be asked at all.
    """
    places = list(regions) if regions is not None else enabled()
    asked = [(region, kind) for region in places for kind in _KINDS]
    answers = side_by_side(lambda each: list(_resources(*each)), asked)
    resources: list[Resource] = []
    unknown: dict[str, str] = {}
    for (region, kind), answer in zip(asked, answers, strict=True):
        if isinstance(answer, CloudrunError):
            unknown.setdefault(region, f"{region} ({kind.kind}s): {answer.what} {answer.why}")
        else:
            resources += answer
    return Found(resources, list(unknown.values()))


def _resources(region: str, kind: _Kind) -> Iterator[Resource]:
    ec2 = calls.client("ec2", region)
    for row in _list(ec2, kind, tags.OF_ANY_RUN):
        said = tags.read(row)
        yield Resource(
            provider="aws",
            region=region,
            kind=kind.kind,
            id=row[kind.id],
            run=said.get(tags.RUN, ""),
            owner=said.get(tags.OWNER, ""),
            deadline=said.get(tags.DEADLINE, ""),
            **kind.read(row),
        )


def _list(ec2: Any, kind: _Kind, filters: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What there is of a kind, without what is over and only still shown."""
    doing = f"look at your {kind.kind}s"
    if ec2.can_paginate(kind.operation):
        rows = calls.everything(doing, ec2, kind.operation, kind.key, Filters=list(filters))
    else:
        rows = calls.ask(doing, getattr(ec2, kind.operation), Filters=list(filters))[kind.key]
    if kind.kind == "machine":
        rows = [instance for reservation in rows for instance in reservation["Instances"]]
    return [row for row in rows if _state(row) not in _OVER]


def _state(row: dict[str, Any]) -> str:
    state = row.get("State", "")
    return str(state.get("Name") if isinstance(state, dict) else state)


_OVER = ("terminated", "shutting-down", "deleting", "deleted", "cancelled", "closed", "failed")


def _machine(row: dict[str, Any]) -> dict[str, Any]:
    instance_type = row["InstanceType"]
    prices = {each.instance_type: each.usd_per_hour for each in all_instances()}
    state = row["State"]["Name"]
    usd = 0.0 if state == "stopped" else prices.get(instance_type)
    return {"state": state, "what": instance_type, "usd_per_hour": usd}


def _disk(row: dict[str, Any]) -> dict[str, Any]:
    size = row["Size"]
    usd = size * _USD_PER_GB_HOUR
    return {"state": row.get("State", ""), "what": f"{size} GB", "usd_per_hour": usd}


def _address(row: dict[str, Any]) -> dict[str, Any]:
    return {"what": row.get("PublicIp", ""), "usd_per_hour": _USD_PER_ADDRESS_HOUR}


def _cancel(ec2: Any, request: str) -> object:
    return calls.insist(
        "cancel the spot request",
        ec2.cancel_spot_instance_requests,
        SpotInstanceRequestIds=[request],
    )


def _delete(operation: str, argument: str) -> Callable[[Any, str], object]:
    """How to delete one by its id; that it is gone already is as good."""

    def end(ec2: Any, name: str) -> None:
        words = operation.replace("_", " ")
        with calls.allowing(
            "InvalidVolume.NotFound", "InvalidAllocationID.NotFound", "InvalidGroup.NotFound",
            "InvalidGroupId.Malformed", "InvalidKeyPair.NotFound",
        ):  # fmt: skip
            calls.insist(words, getattr(ec2, operation), **{argument: name})

    return end


_KINDS = (
    _Kind("machine", "describe_instances", "Reservations", "InstanceId", _end_machine, _machine),
    _Kind("spot request", "describe_spot_instance_requests", "SpotInstanceRequests",
          "SpotInstanceRequestId", _cancel,
          lambda row: {"state": row.get("State", "")}),
    _Kind("disk", "describe_volumes", "Volumes", "VolumeId",
          _delete("delete_volume", "VolumeId"), _disk),
    _Kind("address", "describe_addresses", "Addresses", "AllocationId",
          _delete("release_address", "AllocationId"), _address),
    _Kind("firewall", "describe_security_groups", "SecurityGroups", "GroupId",
          _delete("delete_security_group", "GroupId"),
          lambda row: {"what": row.get("GroupName", "")}),
    _Kind("key", "describe_key_pairs", "KeyPairs", "KeyName",
          _delete("delete_key_pair", "KeyName")),
)  # fmt: skip
