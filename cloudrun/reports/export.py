"""Reports as one flat table, a row for each measurement: for pandas, DuckDB, a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain

import msgspec

from cloudrun.model.run import rfc3339
from cloudrun.reports.fields import device_of
from cloudrun.reports.pool import title, work_of
from cloudrun.reports.schema import Environment, GpuState, Measurement, Report
from cloudrun.reports.tables import Cell, csv_lines, markdown_lines

Row = dict[str, Cell]

_NO_ENVIRONMENT = Environment(device="", os="", python="", torch="", cpu="")
_MARKDOWN = (
    "report", "created", "gpu", "torch", "measurement", "unit", "value", "p5", "p95", "stable",
    "usd_per_hour",
)  # fmt: skip


def rows(reports: Iterable[Report]) -> Iterator[Row]:
    """One row for each measurement: where and with what, then what. Every row has all columns."""
    for report in reports:
        about = _about(report)
        for measurement in report.measurements:
            yield about | _measured(measurement, report)


def _about(report: Report) -> Row:
    machine, environment = report.machine, report.environment or _NO_ENVIRONMENT
    return {
        "report": report.id,
        "created": rfc3339(datetime.fromisoformat(report.created)),
        "outcome": report.outcome,
        "profile": report.run.profile,
        "provider": machine.provider,
        "region": machine.region,
        "zone": machine.zone,
        "instance_type": machine.instance_type,
        "spot": machine.spot,
        "usd_per_hour": machine.price_usd_per_hour,
        "price_as_of": machine.price_as_of,
        "gpu": device_of(report),
        "gpus": len(environment.gpus),
        "cpu": environment.cpu,
        "threads": environment.threads,
        "memory_bytes": environment.memory_bytes,
        "os": environment.os,
        "python": environment.python,
        "torch": environment.torch,
        "cuda": environment.cuda,
        "driver": environment.driver,
        "cloudrun": report.provenance.cloudrun,
        "workload_sha256": report.provenance.workload_sha256,
        "run_usd": report.cost.usd,
    }


def _measured(row: Measurement, report: Report) -> Row:
    state = row.gpu or GpuState()
    place, dtype = row.params.get("device"), row.params.get("dtype")
    return {
        "measurement": title(work_of(row, report)),
        "name": row.name,
        "dtype": None if dtype is None else str(dtype),
        "device": None if place is None else str(place),
        "params": msgspec.json.encode(row.params).decode(),
        "unit": row.unit,
        "value": row.value,
        "p5": row.p5,
        "p95": row.p95,
        "n": row.n,
        "stable": row.stable,
        "note": row.note,
        "peak": row.peak,
        "peak_fraction": row.peak_fraction,
        "clock_corrected_fraction": row.clock_corrected_fraction,
        "bound": row.bound,
        "joules": row.joules,
        "per_joule": row.per_joule,
        "clock_mhz": state.clock_mhz,
        "power_w": state.power_w,
        "temperature_c": state.temperature_c,
        "throttled_by": "; ".join(state.throttled_by),
    }


def as_json(found: Iterable[Row]) -> Iterator[str]:
    """A list of objects as JSON, one a line."""
    before = "[\n"
    for row in found:
        yield before + msgspec.json.encode(row).decode()
        before = ",\n"
    yield "\n]\n" if before == ",\n" else "[]\n"


def as_csv(found: Iterable[Row]) -> Iterator[str]:
    """CSV, line by line; the first line has the columns' names. No row: nothing."""
    waiting = iter(found)
    for first in waiting:
        rest = (list(row.values()) for row in chain([first], waiting))
        yield from csv_lines(list(first), rest)


def as_markdown(found: Iterable[Row]) -> Iterator[str]:
    """GitHub's Markdown, line by line, of the columns that people read."""
    numbers = [_MARKDOWN.index(name) for name in ("value", "p5", "p95", "usd_per_hour")]
    texts = ([_text(row[name]) for name in _MARKDOWN] for row in found)
    yield from markdown_lines(_MARKDOWN, texts, numbers)


def _text(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell
