"""Sort reports by what can be compared: one version of the workloads, groups, the same work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from cloudrun.reports.fields import FIELDS, device_of
from cloudrun.reports.schema import Measurement, Report
from cloudrun.reports.statistics import LARGEST, SMALLEST

# By what reports may be of one kind; its own name is no such thing.
KIND = tuple(name for name in FIELDS if name != "report")
# What may differ from run to run although the work is the same: see docs/compare.md.
_NO_WORK = ("device", "buffer_bytes")
# No machine is so cheap: a price below is none.
_LEAST_USD_PER_HOUR = 1e-6
# What goes without saying in a measurement's title.
_UNTITLED = ("model", "parameters", "context", "channels", "side")


class Work(NamedTuple):
    """What was measured: only the same work can be compared."""

    name: str
    params: tuple[tuple[str, Any], ...]
    unit: str
    device: str


class Point(msgspec.Struct, frozen=True, gc=False):
    """One measurement of one report. There may be hundreds of thousands."""

    report: str
    value: float
    stable: bool
    throttled_by: tuple[str, ...]


@dataclass
class Group:
    """What is known of the reports that share a label.

    `kinds` counts them by the values of all `KIND`, in their order.
    """

    kinds: Counter[tuple[str, ...]] = field(default_factory=Counter)
    prices: dict[str, float] = field(default_factory=dict)
    not_passed: set[str] = field(default_factory=set)


@dataclass
class Pool:
    """The reports of one version of the workloads: groups by label, points by work and label.

    `known` has the points' lists once more, by what a report says of a measurement.
    """

    reports: list[str] = field(default_factory=list)
    newest: str = ""
    groups: dict[str, Group] = field(default_factory=dict)
    points: dict[Work, dict[str, list[Point]]] = field(default_factory=dict)
    known: dict[tuple[Any, ...], list[Point]] = field(default_factory=dict)


def gather(
    reports: Iterable[Report], by: str, baseline: Report | None, left_out: dict[str, list[str]]
) -> tuple[Pool, str]:
    """Gather what can be compared: the pool of the baseline, else the one with most reports.

    Args:
        reports: Each may come without its samples. Of several with one id the first counts.
        by: The field that tells the groups.
        baseline: A report that is to be a group of its own.
        left_out: Takes what cannot be compared, by the reason.

    Returns:
        The pool, and the label of the baseline's group, empty without one.
    """
    pools: dict[str, Pool] = {}
    seen: set[str] = set()
    label = own = ""
    if baseline is not None:
        label, own = f"{baseline.id} (baseline)", baseline.provenance.workload_sha256
        seen.add(baseline.id)
        _take(pools.setdefault(own, Pool()), baseline, label, by)
    for report in reports:
        if report.id in seen:
            if baseline is None or report.id != baseline.id:
                left_out.setdefault("it is there twice, and counts once", []).append(report.id)
            continue
        seen.add(report.id)
        if any(_is_usable(row) for row in report.measurements):
            pool = pools.setdefault(report.provenance.workload_sha256, Pool())
            _take(pool, report, FIELDS[by].tell(report), by)
        else:
            left_out.setdefault("there is no measurement in it", []).append(report.id)
    chosen = own or max(
        pools, key=lambda sha: (len(pools[sha].reports), pools[sha].newest), default=""
    )
    for other in pools.keys() - {chosen}:
        why = f"it was measured by another version ({other[:8]}, not {chosen[:8]})"
        left_out[why] = pools[other].reports
    return pools.get(chosen, Pool()), label


def _take(pool: Pool, report: Report, label: str, by: str) -> None:
    pool.reports.append(report.id)
    pool.newest = max(pool.newest, report.created)
    _count(pool.groups.setdefault(label, Group()), report)
    device = "" if FIELDS[by].across else device_of(report)
    own = report.environment.device if report.environment else None
    for row in report.measurements:
        if not SMALLEST <= row.value <= LARGEST:
            continue
        # To find the list by the work itself would take most of the time of thousands of reports.
        key = (label, device, own, row.name, row.unit, *row.params.items())
        points = pool.known.get(key)
        if points is None:
            groups = pool.points.setdefault(work_of(row, report, device), {})
            points = pool.known[key] = groups.setdefault(label, [])
        # A report counts once, whatever it holds twice.
        if not points or points[-1].report != report.id:
            causes = row.gpu.throttled_by if row.gpu else ()
            points.append(Point(report.id, row.value, row.stable, causes))


def _count(group: Group, report: Report) -> None:
    group.kinds[tuple([FIELDS[name].tell(report) for name in KIND])] += 1
    machine = report.machine
    # What a rehearsal rents is pretended.
    if machine.price_usd_per_hour >= _LEAST_USD_PER_HOUR and machine.provider != "rehearsal":
        group.prices[report.id] = machine.price_usd_per_hour
    if report.outcome != "passed":
        group.not_passed.add(report.id)


def _is_usable(row: Measurement) -> bool:
    return SMALLEST <= row.value <= LARGEST


def work_of(row: Measurement, report: Report, device: str = "") -> Work:
    """What was measured; `device` where only the same device is to be compared."""
    own = report.environment.device if report.environment else None
    params = {key: value for key, value in row.params.items() if key not in _NO_WORK}
    place = row.params.get("device")
    if place not in (own, None):
        params["device"] = place
    return Work(row.name, tuple(sorted(params.items())), row.unit, device)


def samples_of(report: Report) -> dict[Work, tuple[float, ...]]:
    """The samples of each work in a report, the work's `device` being empty."""
    rows = (row for row in reversed(report.measurements) if _is_usable(row))
    return {work_of(row, report): row.samples for row in rows}


def title(work: Work) -> str:
    """A measurement's name for people: `matmul fp16 8192`."""
    params = dict(work.params)
    rest = {key: value for key, value in params.items() if key not in (*_UNTITLED, *_NO_WORK)}
    words = [work.name.replace("_", " "), str(rest.pop("dtype", ""))]
    if {"m", "n", "k"} <= rest.keys() and rest["m"] == rest["n"] == rest["k"]:
        words.append(str(rest["m"]))
        rest = {key: value for key, value in rest.items() if key not in ("m", "n", "k")}
    words += [f"{key} {value}" for key, value in rest.items()]
    words += [f"on its {params['device']}"] if "device" in params else []
    return " ".join(word for word in words if word)
