"""What is kept of a report at hand, where the whole of it need not be read again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from cloudrun.model.run import rfc3339
from cloudrun.reports.schema import Report


def facts(report: Report) -> dict[str, Any]:
    """What a list says of a report, by the names that JSON has for it."""
    gpus = report.environment.gpus if report.environment else ()
    matmul = [row.value for row in report.measurements if row.name == "matmul"]
    return {
        "report": report.id,
        "run": {"id": report.run.id},
        "created": rfc3339(datetime.fromisoformat(report.created)),
        "outcome": report.outcome,
        "provider": report.machine.provider,
        "device": gpus[0].name if gpus else report.environment.cpu if report.environment else None,
        "torch": report.environment.torch if report.environment else None,
        "best_tflops": max(matmul, default=None),
        "usd": report.cost.usd,
    }


def slim(report: Report) -> Report:
    """The report without its raw samples, which are the most of it."""
    measurements = (msgspec.structs.replace(row, samples=()) for row in report.measurements)
    return msgspec.structs.replace(report, measurements=tuple(measurements))
