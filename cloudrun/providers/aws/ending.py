"""Find and end what is ours at AWS: machines, disks, addresses, firewalls, keys, spot requests."""

from __future__ import annotations

import contextlib
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
_ENDING = ("shutting-down", "terminated")
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
    where, asked_at = region or calls.home_region(), now()
    ec2 = calls.client("ec2", where)
    told = [_end_known(ec2, run_id, machine)] if machine is not None else []
    seen: list[dict[str, Any]] = []
    problems: list[CloudrunError] = []

    def left() -> list[str]:
        problems.clear()
        seen[:] = _machines(ec2, run_id)
        for instance in seen:
            if _state(instance) not in _ENDING:
                _end_machine(ec2, instance["InstanceId"])
                told.append(now())
        alive = [i["InstanceId"] for i in seen if _state(i) != "terminated"]
        # A firewall cannot go while a machine hangs on it, even one that is not shown yet.
        return [*alive, *_end_the_rest(ec2, run_id, problems)]

    for pause in _LATE if machine is None else _LATE[:1]:
        time.sleep(pause)
        with calls.reading("look at what is left"):
            until_none(left, f"AWS has not let go of all that cloudrun made in {where}", run_id)
    if problems:
        raise problems[0]
    earlier = [moment for i in seen if (moment := _ended_at(i)) and moment[:19] < asked_at[:19]]
    return min([*earlier, *told, now()])


def _end_known(ec2: Any, run_id: str, machine: Machine) -> str:
    """End a machine that was created, even if AWS does not show it yet; when that was.

    Raises:
        Lost: AWS says that it is another's.
    """
    pause = _FIRST_PAUSE_S
    while True:
        shown = patiently(lambda: _shown(ec2, machine.id))
        if shown is not None and not is_ours(shown, run_id):
            raise calls.no_sense("end the machine", f"It says that {machine.id} is another's.")
        if shown is not None:
            _end_machine(ec2, machine.id)
        if shown is not None or (machine.since or "") < later(-_VISIBLE_S):
            return now()
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def is_ours(instance: dict[str, Any], run_id: str) -> bool:
    """Whether a machine that AWS shows is the run's, by its tag or by our token."""
    token = str(instance.get("ClientToken") or "")
    return tags.read(instance).get(tags.RUN) == run_id or token.startswith(tags.token(run_id))


def _shown(ec2: Any, machine_id: str) -> dict[str, Any] | None:
    """A machine as AWS shows it; None when it knows of none, not yet or no more."""
    with calls.allowing("InvalidInstanceID.NotFound"), calls.reading("look at the machine"):
        answer = calls.ask("look at the machine", ec2.describe_instances, InstanceIds=[machine_id])
        found = [i for r in answer.get("Reservations", []) for i in r.get("Instances", [])]
        return next((i for i in found if i.get("InstanceId") == machine_id), None)
    return None


def _machines(ec2: Any, run_id: str) -> list[dict[str, Any]]:
    """The run's machines that AWS shows, those too that have ended."""
    machines = _KINDS[0]
    return patiently(lambda: _list(ec2, machines, tags.of_run(run_id), run_id, over=()))


def _end_machine(ec2: Any, machine_id: str) -> None:
    with calls.allowing("InvalidInstanceID.NotFound"):
        calls.insist("end the machine", ec2.terminate_instances, InstanceIds=[machine_id])


def _ended_at(instance: dict[str, Any]) -> str:
    """When a machine ended, where AWS tells: `User initiated (2026-11-24 15:00:00 GMT)`."""
    match = _MOMENT.search(str(instance.get("StateTransitionReason") or ""))
    with contextlib.suppress(ValueError):
        return rfc3339(datetime.fromisoformat(f"{match[1]}+00:00")) if match else ""
    return ""


def _end_the_rest(ec2: Any, run_id: str, problems: list[CloudrunError]) -> list[str]:
    """End what hangs on the machines; gives the names of what was there, and adds problems."""
    names: list[str] = []
    for kind in _KINDS[1:]:
        try:
            for row in _list_for_the_end(ec2, kind, run_id):
                names.append(row[kind.id])
                with calls.allowing("DependencyViolation", "VolumeInUse", "InvalidGroup.InUse"):
                    kind.end(ec2, row[kind.id])
        except CloudrunError as error:
            # The others are ended all the same.
            problems.append(error)
            names = names[:-1]
    return names


def _list_for_the_end(ec2: Any, kind: _Kind, run_id: str) -> list[dict[str, Any]]:
    try:
        return patiently(lambda: _list(ec2, kind, tags.of_run(run_id), run_id))
    except (Lost, Throttled):
        raise
    except CloudrunError:
        # Disks and spot requests go with their machine, and cloudrun makes none of the
        # others: that they cannot be listed keeps no run from its end.
        if kind.kind != "firewall":
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
    with calls.reading(f"look at your {kind.kind}s"):
        for row in _list(ec2, kind, tags.OF_ANY_RUN):
            said = tags.read(row)
            yield Resource(
                provider="aws",
                region=region,
                kind=kind.kind,
                id=row[kind.id],
                run=said[tags.RUN],
                owner=said.get(tags.OWNER, ""),
                deadline=said.get(tags.DEADLINE, ""),
                **kind.read(row),
            )


def _list(
    ec2: Any,
    kind: _Kind,
    filters: Sequence[dict[str, Any]],
    run_id: str | None = None,
    over: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """What there is of a kind, of a run or of any, without what is over and only still shown.

    The answer is not trusted to hold what was asked for alone.
    """
    doing = f"look at your {kind.kind}s"
    if ec2.can_paginate(kind.operation):
        rows = calls.everything(doing, ec2, kind.operation, kind.key, Filters=list(filters))
    else:
        answer = calls.ask(doing, getattr(ec2, kind.operation), Filters=list(filters))
        rows = answer.get(kind.key, [])
    if kind.kind == "machine":
        rows = [i for reservation in rows for i in reservation.get("Instances", [])]
    return [
        row
        for row in rows
        if kind.id in row
        and _is_of(tags.read(row).get(tags.RUN), run_id)
        and _state(row) not in (_OVER if over is None else over)
    ]


def _is_of(tagged: str | None, run_id: str | None) -> bool:
    return tagged is not None and run_id in (None, tagged)


def _state(row: dict[str, Any]) -> str:
    state = row.get("State", "")
    return str(state.get("Name", "") if isinstance(state, dict) else state)


_OVER = ("terminated", "shutting-down", "deleting", "deleted", "cancelled", "closed", "failed")


def _machine(row: dict[str, Any]) -> dict[str, Any]:
    instance_type = str(row.get("InstanceType", ""))
    prices = {each.instance_type: each.usd_per_hour for each in all_instances()}
    state = _state(row)
    usd = 0.0 if state == "stopped" else prices.get(instance_type)
    return {"state": state, "what": instance_type, "usd_per_hour": usd}


def _disk(row: dict[str, Any]) -> dict[str, Any]:
    size = int(row.get("Size", 0))
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
