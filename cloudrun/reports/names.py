"""What a report is called in every store, so that a listing tells much without reading.

    2026/11/24/081251.204Z_local_cpu_passed_k3f9x2m7w0ab.json

The folders are the day of the run in UTC; then the time, the provider, the
GPU, the outcome and the report's id. Names in their order are reports in theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from cloudrun.model.run import rfc3339
from cloudrun.reports.schema import Report

# What runs have stored beside their reports, each in a folder of its own; not listed.
RUNS = "runs/"
# The folders of a year, and of a month in it.
YEAR = re.compile(r"\d{4}/")
MONTH = re.compile(r"\d{4}/\d{2}/")
_NAME = re.compile(
    r"(?P<day>\d{4}/\d{2}/\d{2})/(?P<time>\d{6}\.\d{3}Z)"
    r"_(?P<provider>[a-z0-9-]+)_(?P<gpu>[a-z0-9-]+)"
    r"_(?P<outcome>passed|failed|partial)_(?P<id>[A-Za-z0-9_-]+)\.json"
)


@dataclass(frozen=True)
class Entry:
    """One object in a store, and what its name tells. A strange name tells nothing but itself.

    `size` is in bytes; `stamp` changes when the object does.
    """

    path: str
    size: int
    id: str = ""
    created: str = ""
    provider: str = ""
    gpu: str = ""
    outcome: str = ""
    stamp: str = ""


def name_of(report: Report) -> str:
    """The path of a report in every store: see the module's docstring."""
    created = rfc3339(datetime.fromisoformat(report.created))
    day, _, time = created.partition("T")
    environment = report.environment
    gpu = environment.gpus[0].name if environment and environment.gpus else "cpu"
    parts = (
        time.replace(":", ""),
        slug(report.machine.provider),
        slug(gpu),
        report.outcome,
        report.id,
    )
    return f"{day.replace('-', '/')}/{'_'.join(parts)}.json"


def slug(text: str) -> str:
    """A text as names have it: small letters, digits, and hyphens for all else."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unknown"


def entry_of(path: str, size: int, stamp: str) -> Entry:
    """What the name of an object tells."""
    told = _NAME.fullmatch(path)
    if told is None:
        return Entry(path, size, stamp=stamp)
    time = told["time"]
    created = f"{told['day'].replace('/', '-')}T{time[0:2]}:{time[2:4]}:{time[4:]}"
    return Entry(
        path, size, told["id"], created, told["provider"], told["gpu"], told["outcome"], stamp
    )
