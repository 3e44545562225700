"""A report as a row of the page's data: what reports share is in lists, named by its number.

Texts come from anywhere: they are cut and made harmless here. A report of ours has
some 25 measurements and 20 checks; a hostile one fills no page.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cloudrun.model.run import PHASES, rfc3339
from cloudrun.model.words import clean
from cloudrun.reports.schema import Check, Measurement, Report

OUTCOMES = ("passed", "failed", "partial")
STATUSES = ("pass", "fail", "skip")
# What reports share.
SHARED = ("environments", "machines", "runs", "kinds", "texts")
_MOST_MEASUREMENTS, _MOST_CHECKS, _MOST_TIMINGS, _MOST_NOTES = 100, 100, 50, 20
_MOST_TEXT = 300


def data_row(
    report: Report, signers: Sequence[str], shared: dict[str, dict[Any, int]]
) -> list[Any]:
    """One report as data, and who vouches for it; page_data.js reads it."""
    return [
        report.id,
        rfc3339(datetime.fromisoformat(report.created)),
        OUTCOMES.index(report.outcome),
        _number_of(_environment(report), shared["environments"]),
        _number_of(_machine(report), shared["machines"]),
        _number_of(_run(report), shared["runs"]),
        _short(report.cost.usd),
        _short(report.cost.predicted_usd),
        [
            [
                PHASES.index(timing.phase),
                _short(timing.seconds),
                _short(timing.predicted_seconds),
                _short(timing.usd),
            ]
            for timing in report.timeline[:_MOST_TIMINGS]
        ],
        [_check(check, shared["texts"]) for check in _most_telling(report.checks)],
        [_measured(row, shared) for row in report.measurements[:_MOST_MEASUREMENTS]],
        [_number_of(cut(note), shared["texts"]) for note in report.notes[:_MOST_NOTES]],
        [_number_of(cut(name), shared["texts"]) for name in signers[:_MOST_NOTES]],
    ]


def _number_of(value: Any, known: dict[Any, int]) -> int:
    """The number of a value among those that reports share."""
    return known.setdefault(value, len(known))


def _environment(report: Report) -> tuple[Any, ...]:
    environment = report.environment
    if environment is None:
        return ()
    gpu = environment.gpus[0] if environment.gpus else None
    return (
        cut(environment.device),
        device_name(report),
        cut(environment.os),
        cut(environment.python),
        cut(environment.torch),
        cut(environment.cuda),
        cut(environment.driver),
        cut(environment.cpu),
        environment.threads,
        environment.memory_bytes,
        len(environment.gpus),
        gpu.memory_bytes if gpu else None,
    )


def device_name(report: Report) -> str:
    """The device that a report is about: its first GPU, else its processor."""
    environment = report.environment
    if environment is None:
        return ""
    return cut(environment.gpus[0].name if environment.gpus else environment.cpu)


def _machine(report: Report) -> tuple[Any, ...]:
    machine = report.machine
    return (
        cut(machine.provider),
        cut(machine.zone or machine.region),
        cut(machine.instance_type),
        machine.spot,
        _short(machine.price_usd_per_hour),
        machine.price_as_of,
    )


def _run(report: Report) -> tuple[Any, ...]:
    return cut(report.run.workload), cut(report.run.profile), report.provenance.workload_sha256


def _most_telling(checks: tuple[Check, ...]) -> list[Check]:
    """The checks, those that failed first where there are more than a page can hold."""
    order = sorted(checks, key=lambda check: check.status != "fail")
    return list(checks) if len(checks) <= _MOST_CHECKS else order[:_MOST_CHECKS]


def _check(check: Check, texts: dict[Any, int]) -> list[int]:
    said = (check.detail, check.remedy) if check.status != "pass" else ()
    return [
        STATUSES.index(check.status),
        *(_number_of(cut(text), texts) for text in (check.name, *said)),
    ]


def _measured(row: Measurement, shared: dict[str, dict[Any, int]]) -> list[Any]:
    """A measurement; the last ones of its fields are left out where they are empty."""
    cells = [
        _number_of(_kind(row), shared["kinds"]),
        _short(row.value),
        _short(row.p5),
        _short(row.p95),
        row.n,
        int(row.stable),
        _number_of(cut(row.note), shared["texts"]) if row.note else None,
        _short(row.clock_corrected_fraction),
        _short(row.per_joule),
    ]
    while cells[-1] is None:
        cells.pop()
    return cells


def _kind(row: Measurement) -> tuple[Any, ...]:
    """What was measured: alike in all reports of one program and device."""
    device, dtype = (cut(str(row.params.get(key, ""))[:_MOST_TEXT]) for key in ("device", "dtype"))
    size = next((row.params[key] for key in ("m", "batch") if key in row.params), None)
    return (
        cut(row.name),
        device,
        dtype,
        size if isinstance(size, int) and 0 < size < 2**31 else None,
        cut(row.unit),
        _short(row.flops),
        _short(row.bytes),
        _short(row.peak),
        row.bound,
    )


def _short(value: float | None) -> float | int | None:
    """A number in five digits: enough for any chart, and a third of the size."""
    if value is None:
        return None
    shorter = float(f"{value:.5g}")
    return int(shorter) if shorter.is_integer() and shorter < 2**53 else shorter


def cut(text: str | None) -> str:
    """A text from elsewhere, not too long, with nothing that steers a terminal or turns a line."""
    return clean((text or "")[:_MOST_TEXT])


def own(report: Report) -> list[Measurement]:
    """What was measured on the device that the report is about."""
    device = report.environment.device if report.environment else ""
    return [row for row in report.measurements if row.params.get("device") == device]


def best(rows: list[Measurement], name: str) -> tuple[float, str]:
    """The highest value of a measurement, and its number format; 0 where there is none."""
    found = max((row for row in rows if row.name == name), key=lambda row: row.value, default=None)
    return (found.value, str(found.params.get("dtype", ""))) if found else (0.0, "")
