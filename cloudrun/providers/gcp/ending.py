"""Find and end what is ours at Google: machines, disks, addresses, firewall rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cloudrun.catalog.instances import all_instances
from cloudrun.errors import CloudrunError
from cloudrun.model.machine import Machine
from cloudrun.model.resource import Kind, Resource
from cloudrun.model.run import now
from cloudrun.providers.base import Found
from cloudrun.providers.gcp import calls, labels, state
from cloudrun.providers.patience import Lost, Throttled, side_by_side, until_none

_END_S = 600.0
# What was created a moment ago may not be in Google's lists yet.
_LATE = (0.0, 1.0, 2.0)
# Of us-central1, 2026-11: https://cloud.google.com/compute/disks-image-pricing (balanced, a
# month of 730 hours) and https://cloud.google.com/vpc/network-pricing (an address in use).
_USD_PER_GB_HOUR, _USD_PER_ADDRESS_HOUR = 0.10 / 730, 0.005


@dataclass(frozen=True)
class _Kind:
    """A kind of resource: Google's name of it, and how one of it is read."""

    kind: Kind
    collection: str
    read: Callable[[dict[str, Any]], dict[str, Any]]


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:
    """End all of a run's in a region; see `Provider.terminate`."""
    ended = _end_machines(run_id, region, machine)
    _end_the_rest(run_id, region)
    return ended


def _end_machines(run_id: str, region: str | None, machine: Machine | None) -> str:
    """End the run's machines and wait until Google says that they are gone; when that was."""
    stopped = _stopped_at(machine) if machine is not None else ""
    if machine is not None:
        _delete(state.place(machine))

    def left() -> list[str]:
        rows = _mine(_MACHINE, run_id, region)
        for answer in side_by_side(lambda row: _delete(_path(_MACHINE, row)), rows):
            if isinstance(answer, CloudrunError):
                raise answer
        return [str(row["name"]) for row in rows]

    for pause in _LATE if machine is None else _LATE[:1]:
        time.sleep(pause)
        where = f"in {region}" if region else "there"
        until_none(
            left, f"Google has not confirmed the end of what cloudrun rented {where}", run_id
        )
    return stopped or now()


def _stopped_at(machine: Machine) -> str:
    """When a machine stopped by itself; empty when it did not."""
    with calls.allowing(404):
        found = calls.insist("look at the machine", "GET", state.place(machine))
        if found.get("status") in state.ENDED and found.get("lastStopTimestamp"):
            return labels.moment(str(found["lastStopTimestamp"]))
    return ""


def _end_the_rest(run_id: str, region: str | None) -> None:
    """End what the machines leave behind, and the rules that guarded them."""

    def left() -> list[str]:
        rows = [(kind, row) for kind in _REST for row in _listed(kind, run_id, region)]
        for answer in side_by_side(lambda each: _delete(_path(*each)), rows):
            if isinstance(answer, CloudrunError) and not _is_in_use(answer):
                raise answer
        return [str(row["name"]) for _, row in rows]

    where = f"in {region}" if region else "there"
    until_none(left, f"Google does not let go of what cloudrun made {where}", run_id)


def _listed(kind: _Kind, run_id: str, region: str | None) -> list[dict[str, Any]]:
    try:
        return _mine(kind, run_id, region)
    except (Lost, Throttled):
        raise
    except CloudrunError:
        # cloudrun makes none of these: that they cannot be listed keeps no run from its end.
        if kind.kind == "address":
            return []
        raise


def _mine(kind: _Kind, run_id: str, region: str | None) -> list[dict[str, Any]]:
    """What there is of a kind of the run's, in a region or in all."""
    rows, silent = _list(kind, labels.of_run(run_id))
    unheard = [place for place in silent if region in (None, place, place.rpartition("-")[0])]
    if unheard:
        raise calls.no_sense(f"look at your {kind.collection}", f"{', '.join(unheard)}: no answer.")
    return [
        row
        for row in rows
        if _said(kind, row).get(labels.RUN) == run_id
        and region in (None, _region(kind, row))
        # A disk that is in use goes with its machine.
        and not row.get("users")
    ]


def _is_in_use(error: CloudrunError) -> bool:
    refusal = calls.refusal_of(error)
    return refusal is not None and refusal.reason == "resourceInUseByAnotherResource"


def _delete(path: str) -> None:
    """Delete one, and wait for that; that it is gone already is as good."""
    doing = f"end {calls.last(path)}"
    scope = path.rsplit("/", 2)[0]
    with calls.allowing(404):
        operation = calls.insist(doing, "DELETE", path)
        calls.finish(doing, operation, scope, _END_S)


def _path(kind: _Kind, row: dict[str, Any]) -> str:
    if row.get("zone"):
        scope = f"zones/{calls.last(row['zone'])}"
    else:
        scope = f"regions/{calls.last(row['region'])}" if row.get("region") else "global"
    return f"{scope}/{kind.collection}/{row['name']}"


def find(regions: Sequence[str] | None = None) -> Found:
    """Everything of ours in these regions, else in all; see `Provider.find`.

    Raises:
        CloudrunError: Google cannot be asked at all.
    """
    answers = side_by_side(lambda kind: _list(kind, labels.OF_ANY_RUN), _KINDS)
    resources: list[Resource] = []
    unknown: list[str] = []
    problems = [answer for answer in answers if isinstance(answer, CloudrunError)]
    if len(problems) == len(_KINDS):
        raise problems[0]
    for kind, answer in zip(_KINDS, answers, strict=True):
        if isinstance(answer, CloudrunError):
            unknown.append(f"{kind.collection}: {answer.what} {answer.why}")
            continue
        rows, silent = answer
        resources += [r for r in _resources(kind, rows) if regions is None or r.region in regions]
        said = f"({kind.collection}): Google gave no answer for it."
        unknown += [f"{place} {said}" for place in silent]
    return Found(resources, unknown)


def _list(kind: _Kind, wanted: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What there is of a kind, and the places that did not answer."""
    doing = f"look at your {kind.collection}"
    if kind.collection != "firewalls":
        return calls.aggregated(doing, kind.collection, wanted)
    rows = calls.everything(doing, "global/firewalls")
    return [row for row in rows if labels.described(row)], []


def _resources(kind: _Kind, rows: Sequence[dict[str, Any]]) -> Iterator[Resource]:
    for row in rows:
        said = _said(kind, row)
        if labels.RUN in said:
            told: dict[str, Any] = {**labels.read(said), **kind.read(row)}
            yield Resource(
                provider="gcp",
                region=_region(kind, row),
                kind=kind.kind,
                id=str(row["name"]),
                **told,
            )


def _said(kind: _Kind, row: dict[str, Any]) -> dict[str, str]:
    return labels.described(row) if kind.collection == "firewalls" else row.get("labels") or {}


def _region(kind: _Kind, row: dict[str, Any]) -> str:
    if kind.collection == "firewalls":
        return labels.region(labels.described(row))
    return calls.region_of(row)


def _machine(row: dict[str, Any]) -> dict[str, Any]:
    what = calls.last(row.get("machineType"))
    for attached in row.get("guestAccelerators") or []:
        if what.startswith("n1-"):
            kind = calls.last(attached.get("acceleratorType"))
            what += f"+{attached.get('acceleratorCount')}x{kind}"
    prices = {each.instance_type: each.usd_per_hour for each in all_instances()}
    status = str(row.get("status") or "")
    usd = 0.0 if status in state.ENDED else prices.get(what)
    return {"state": status, "what": what, "usd_per_hour": usd}


def _disk(row: dict[str, Any]) -> dict[str, Any]:
    size = int(row.get("sizeGb") or 0)
    status = str(row.get("status") or "")
    return {"state": status, "what": f"{size} GB", "usd_per_hour": size * _USD_PER_GB_HOUR}


def _address(row: dict[str, Any]) -> dict[str, Any]:
    return {"what": str(row.get("address") or ""), "usd_per_hour": _USD_PER_ADDRESS_HOUR}


_MACHINE = _Kind("machine", "instances", _machine)
_REST = (
    _Kind("disk", "disks", _disk),
    _Kind("address", "addresses", _address),
    _Kind("firewall", "firewalls", lambda row: {"what": str(row.get("name") or "")}),
)
_KINDS = (_MACHINE, *_REST)
