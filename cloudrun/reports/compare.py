"""Compare reports: what is faster, how surely, and what it does for its money.

Pure: reports in, rows out. How sure a row is comes from `statistics`; the method is told
in docs/compare.md. Nothing here trusts a report further than its schema does.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from cloudrun.errors import BadData, WrongUsage
from cloudrun.model.words import did_you_mean
from cloudrun.reports.pool import KIND, Group, Point, Pool, Work, gather, samples_of, title
from cloudrun.reports.schema import Report
from cloudrun.reports.statistics import Estimate, Range, interval, of_one_run, of_runs, ratio

Verdict = Literal["baseline", "faster", "slower", "cannot tell"]

# Two GPUs of one model in one machine differ by so much (ml-engineering, see
# docs/compare.md); two single runs that differ by less tell nothing.
ONE_RUN_EACH = 1.05
_SECONDS = ("s", "ms", "us", "ns")
# No more different values of a field, or causes of a lower clock, are named.
_MOST_NAMED = 8


@dataclass(frozen=True)
class Difference:
    """What a group has in a field and what the baseline has, the most frequent first."""

    here: tuple[str, ...]
    baseline: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What one group is at one measurement, beside the baseline's group.

    `value` is in `unit`, between `low` and `high` with a confidence of 95%; `times` is how
    many times as fast as the baseline it is, with its interval. `per_usd_hour` is `unit` for
    each US dollar an hour. `device` is empty where the groups may be of several devices.
    `vouched_by` counts the reports that somebody has signed.
    """

    measurement: str
    name: str
    params: dict[str, Any]
    unit: str
    device: str
    by: str
    group: str
    baseline: str
    verdict: Verdict
    why: str
    times: float | None
    times_low: float | None
    times_high: float | None
    value: float
    low: float | None
    high: float | None
    runs: int
    unstable: int
    throttled: int
    throttled_by: tuple[str, ...]
    not_passed: int
    usd_per_hour: float | None
    per_usd_hour: float | None
    differences: dict[str, Difference]
    reports: tuple[str, ...]
    vouched_by: dict[str, int] = field(default_factory=dict)


class LeftOut(NamedTuple):
    """Reports, or measurements, that are not compared, and why."""

    names: tuple[str, ...]
    why: str


class Comparison(NamedTuple):
    """The rows, by measurement and the fastest first, and what is not in them."""

    rows: list[Row]
    left_out: list[LeftOut]


def compare(
    reports: Iterable[Report],
    by: str,
    whole: Callable[[str], Report],
    baseline: Report | str = "",
) -> Comparison:
    """Compare reports by a field of `fields.FIELDS`.

    Args:
        reports: Each may come without its samples.
        by: The field that tells the groups.
        whole: Gives a report with its samples, by its id; asked for where a group has one.
        baseline: What the others are compared with: a report, which is then a group of its
            own, or a group's label, or a part of it that no other has. Empty: the group with
            the most reports.

    Raises:
        WrongUsage: no group has the baseline's label.
    """
    left_out: dict[str, list[str]] = {}
    alone = baseline if isinstance(baseline, Report) else None
    pool, label = gather(reports, by, alone, left_out)
    rows: list[Row] = []
    if pool.groups:
        label = label or _label(pool, by, str(baseline))
        _leave_lonely_out(pool, left_out)
        rows += _rows(pool, by, label, whole)
    return Comparison(rows, [LeftOut(tuple(names), why) for why, names in left_out.items()])


def _label(pool: Pool, by: str, wanted: str) -> str:
    if not wanted:
        return min(pool.groups, key=lambda name: (-pool.groups[name].kinds.total(), name))
    exact = [name for name in pool.groups if name == wanted]
    like = [name for name in pool.groups if wanted.lower() in name.lower()]
    if len(exact or like) == 1:
        return (exact or like)[0]
    if like:
        raise WrongUsage(
            f"'{wanted}' could be any of {len(like)} groups.",
            "",
            f"Write more of its name: {', '.join(sorted(like)[:5])}",
        )
    raise WrongUsage(
        f"There is no report and no {by} '{wanted}' among those that are compared.",
        "",
        did_you_mean(wanted, sorted(pool.groups)[:20]),
    )


def _leave_lonely_out(pool: Pool, left_out: dict[str, list[str]]) -> None:
    """Where there are several groups, what only one of them has cannot be compared."""
    if len(pool.groups) < 2:
        return
    for work in [work for work, groups in pool.points.items() if len(groups) < 2]:
        (label,) = pool.points.pop(work)
        names = title(work), work.device
        left_out.setdefault(f"only {label} has it", []).append(" on ".join(filter(None, names)))


def _rows(pool: Pool, by: str, baseline: str, whole: Callable[[str], Report]) -> Iterator[Row]:
    estimates = _estimates(pool, whole)
    differences = {
        label: _differences(group, pool.groups[baseline], by)
        for label, group in pool.groups.items()
    }
    for work, groups in pool.points.items():
        beside = estimates.get((work, baseline))
        sign = 1 if work.unit in _SECONDS else -1
        ordered = sorted(groups, key=lambda label: (sign * estimates[work, label].log, label))
        for label in ordered:
            own = estimates[work, label]
            yield Row(
                **_facts(work, by, label, baseline, groups[label]),
                **_speed(own, beside, work.unit, label == baseline),
                **_health(groups[label], pool.groups[label]),
                **_money(groups[label], pool.groups[label], work.unit),
                differences=differences[label],
            )


def _estimates(pool: Pool, whole: Callable[[str], Report]) -> dict[tuple[Work, str], Estimate]:
    """The estimates of all points; a report that stands alone is read as a whole, once."""
    found: dict[tuple[Work, str], Estimate] = {}
    alone: dict[str, list[tuple[Work, str]]] = {}
    for work, groups in pool.points.items():
        for label, points in groups.items():
            if len(points) > 1:
                found[work, label] = of_runs([point.value for point in points])
            else:
                alone.setdefault(points[0].report, []).append((work, label))
    for report, places in alone.items():
        samples = _samples(report, whole)
        for work, label in places:
            (point,) = pool.points[work][label]
            found[work, label] = of_one_run(point.value, samples.get(work._replace(device=""), ()))
    return found


def _samples(report: str, whole: Callable[[str], Report]) -> dict[Work, tuple[float, ...]]:
    try:
        return samples_of(whole(report))
    except BadData:
        # It was there a moment ago; without samples nothing is said of how sure it is.
        return {}


def _differences(group: Group, baseline: Group, by: str) -> dict[str, Difference]:
    """The fields in which a group has other values than the baseline."""
    found: dict[str, Difference] = {}
    for at, name in enumerate(KIND):
        here, there = _values(group, at), _values(baseline, at)
        if name != by and here.keys() != there.keys():
            found[name] = Difference(_most_frequent(here), _most_frequent(there))
    return found


def _values(group: Group, at: int) -> Counter[str]:
    values: Counter[str] = Counter()
    for kind, count in group.kinds.items():
        values[kind[at]] += count
    return values


def _most_frequent(values: Counter[str]) -> tuple[str, ...]:
    return tuple(value for value, _ in values.most_common(_MOST_NAMED))


def _facts(work: Work, by: str, label: str, baseline: str, points: list[Point]) -> dict[str, Any]:
    return {
        "measurement": title(work),
        "name": work.name,
        "params": dict(work.params),
        "unit": work.unit,
        "device": work.device,
        "by": by,
        "group": label,
        "baseline": baseline,
        "runs": len(points),
        "reports": tuple([point.report for point in points]),
    }


def _speed(own: Estimate, beside: Estimate | None, unit: str, is_baseline: bool) -> dict[str, Any]:
    value, times = interval(own), None
    verdict, why = "baseline", ""
    if not is_baseline and beside is None:
        verdict, why = "cannot tell", "the baseline was not measured at this"
    elif not is_baseline and beside is not None:
        times = ratio(beside, own) if unit in _SECONDS else ratio(own, beside)
        is_single = own.spread is None and beside.spread is None
        verdict, why = _verdict(times, unit, is_single)
    return {
        "verdict": verdict,
        "why": why,
        "value": _digits(value.value),
        "low": _digits(value.low),
        "high": _digits(value.high),
        "times": _digits(times.value if times else None),
        "times_low": _digits(times.low if times else None),
        "times_high": _digits(times.high if times else None),
    }


def _verdict(times: Range, unit: str, one_run_each: bool) -> tuple[Verdict, str]:
    if not unit.endswith("/s") and unit not in _SECONDS:
        return "cannot tell", f"whether more {unit} is better is not known"
    if times.low is None or times.high is None:
        return "cannot tell", "too few samples"
    if times.low <= 1 <= times.high:
        return "cannot tell", "chance makes such differences"
    if one_run_each and 1 / ONE_RUN_EACH <= times.value <= ONE_RUN_EACH:
        return "cannot tell", "under 5%, and one run each"
    return ("faster" if times.value > 1 else "slower"), ""


def _health(points: list[Point], group: Group) -> dict[str, Any]:
    throttled = [point for point in points if point.throttled_by]
    causes = sorted({cause for point in throttled for cause in point.throttled_by})
    failed = [point for point in points if point.report in group.not_passed]
    return {
        "unstable": sum(not point.stable for point in points),
        "throttled": len(throttled),
        "throttled_by": tuple(causes[:_MOST_NAMED]),
        "not_passed": len(failed),
    }


def _money(points: list[Point], group: Group, unit: str) -> dict[str, Any]:
    """Prices are those that the reports have frozen; machines without one are left aside."""
    paid = [(point.value, group.prices[point.report]) for point in points
            if point.report in group.prices]  # fmt: skip
    if not paid:
        return {"usd_per_hour": None, "per_usd_hour": None}
    value = statistics.median(value / price for value, price in paid)
    return {
        "usd_per_hour": _digits(statistics.median(price for _, price in paid)),
        "per_usd_hour": _digits(value) if unit.endswith("/s") else None,
    }


def _digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def regressions(rows: Iterable[Row], percent: float) -> list[Row]:
    """The rows that are surely slower than the baseline, and by `percent` at least."""
    most = 1 - percent / 100
    return [row for row in rows if row.verdict == "slower" and (row.times or 0) <= most]


def vouch(rows: Iterable[Row], who: Callable[[str], Iterable[str]]) -> list[Row]:
    """Say in the rows who vouches for their reports, as `who` tells it for a report's id."""
    return [
        replace(row, vouched_by=dict(Counter(name for one in row.reports for name in who(one))))
        for row in rows
    ]
