"""The page of many reports: how long it takes to make, how large it is, how fast it opens.

    python benchmarks/page.py [--most N]

A report is about 100 kB: 22 measurements of 400 samples, 17 checks, 8 phases, on one of 40
devices. Memory is the most that the process held (ru_maxrss). "Opens" is the time until
Chromium has loaded the file and drawn it; "filter", from a choice to the charts drawn anew.
Not for Windows, which does not tell the memory.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import timing

sys.path.insert(0, str(Path(__file__).parent.parent))

from cloudrun.model.run import PHASES, rfc3339
from cloudrun.reports.schema import Report
from cloudrun.reports.store import open_store
from tests.doubles.browser import Page, browser
from tests.doubles.reports import T4, measurement, report

MOST_SECONDS, MOST_BYTES = 20.0, 500e6
# Of a page of 1,000 reports.
MOST_PAGE_BYTES = 2e6
# The system gives ru_maxrss in KiB, except macOS, which gives bytes.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--most", type=int, default=10_000, help="reports [default: 10000]")
    options = parser.parse_args()
    over: list[str] = []
    with tempfile.TemporaryDirectory() as name, browser(Path(name, "chromium")) as chromium:
        rows = [
            measured(count, Path(name, str(count)), chromium.page(), over)
            for count in (100, 1000, 10_000)
            if count <= options.most
        ]
    timing.print_table(("REPORTS", "MADE IN", "MEMORY", "PAGE", "OPENS IN", "FILTER"), rows)
    return timing.verdict(over)


def measured(count: int, folder: Path, tab: Page, over: list[str]) -> tuple[str, ...]:
    """One row of the table; what is above a limit is named in `over`."""
    store, file = open_store(str(folder / "reports")), folder / "page.html"
    for each in reports(count):
        store.add(each)
    command = [timing.cloudrun(), "report", "html", "-o", str(file)]
    started = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--store", str(folder / "reports")],
        env=timing.environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    made, memory = time.perf_counter() - started, usage.ru_maxrss * MAXRSS_UNIT
    size = file.stat().st_size
    if status or made > MOST_SECONDS or memory > MOST_BYTES:
        over.append(f"{count} reports")
    if count == 1000 and size > MOST_PAGE_BYTES:
        over.append("the page of 1,000 reports")
    opened, filtered = opening(tab, file)
    return (
        f"{count:,}",
        f"{made:.2f} s",
        f"{memory / 1e6:.0f} MB",
        f"{size / 1e6:.2f} MB",
        f"{opened:.2f} s",
        f"{filtered:.2f} s",
    )


def opening(tab: Page, file: Path) -> tuple[float, float]:
    """Seconds until the page is drawn, and until it is drawn anew for a filter."""
    tab.look_like(1280, 900)
    started = time.perf_counter()
    tab.open(file.as_uri())
    tab.see("document.body.offsetHeight")
    opened = time.perf_counter() - started
    started = time.perf_counter()
    tab.see("choose('q', 'gpu 7'), document.body.offsetHeight")
    return opened, time.perf_counter() - started


def reports(count: int) -> Iterator[Report]:
    """Reports that differ, a day's worth in two hours."""
    numbers = random.Random(0)  # noqa: S311 - for no secret
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    for index in range(count):
        moment -= timedelta(hours=2)
        yield one(f"r{index:011}", rfc3339(moment), f"GPU {index % 40}", numbers)


def one(name: str, created: str, gpu: str, numbers: random.Random) -> Report:
    """One report of a rented machine, as the quick profile leaves it, with more samples."""
    rows = []
    for kind in range(22):
        samples = [round(numbers.uniform(1, 1.1) * (kind + 1), 5) for _ in range(400)]
        params = {"dtype": "fp32", "device": ("cuda", "cpu")[kind % 2], "m": 64 << kind // 2}
        low, middle, high = (sorted(samples)[at] for at in (20, 200, 380))
        measures = {"value": middle, "p5": low, "p95": high, "n": 400, "samples": samples}
        rows.append(measurement(params=params, **measures))
    phases = [
        {
            "phase": phase,
            "started": created,
            "seconds": round(numbers.uniform(1, 60), 3),
            "predicted_seconds": 30.0,
            "usd": round(numbers.uniform(0, 0.01), 6),
        }
        for phase in PHASES
    ]
    return report(
        id=name,
        created=created,
        machine={"provider": "aws", "instance_type": gpu, "price_usd_per_hour": 0.5},
        environment={**T4, "gpus": [{"name": gpu}]},
        checks=[{"name": f"check {check}", "status": "pass"} for check in range(17)],
        measurements=rows,
        timeline=phases,
    )


if __name__ == "__main__":
    sys.exit(main())
