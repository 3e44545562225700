"""Notebooks: building one, and collecting the reports of a thousand that were executed.

    python benchmarks/notebooks.py [--rounds N] [--notebooks N]

The executed ones are what `cloudrun colab` builds, with the outputs that a run
leaves: a report of its own in all its forms, and a chart. Memory is the most
that the process held (ru_maxrss), beside that for a tenth of the notebooks.
Not for Windows, which does not tell.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import startup
import timing
from cloudrun.templates.notebook_report import MIME, report_lines

from cloudrun.launcher.journal import RunRow
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import new_run_id, now
from cloudrun.notebooks.build import to_bytes, workloads_notebook
from cloudrun.reports import build

BUILD_LIMIT_S = 0.5
COLLECT_LIMIT_S = 10.0
# Flat: ten times as many notebooks take hardly more memory.
MEMORY_LIMIT = 1.25
CHART_BYTES = 60_000
# The system gives ru_maxrss in KiB, except macOS, which gives bytes.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="of building [default: 15]")
    parser.add_argument("--notebooks", type=int, default=1000, help="[default: 1000]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_s = time_building(folder, options.rounds)
        few_s, few_bytes = collect(folder / "few", options.notebooks // 10)
        many_s, many_bytes = collect(folder / "many", options.notebooks)
    timing.print_table(
        ("WORK", "SECONDS", "MEMORY", "LIMIT"),
        [
            ("cloudrun colab", f"{build_s:.3f}", "", f"{BUILD_LIMIT_S:g} s"),
            (f"collect {options.notebooks // 10} notebooks", f"{few_s:.2f}", mb(few_bytes), ""),
            (
                f"collect {options.notebooks} notebooks",
                f"{many_s:.2f}",
                mb(many_bytes),
                f"{COLLECT_LIMIT_S:g} s, {MEMORY_LIMIT:g} times the memory",
            ),
        ],
    )
    over = {
        "building": build_s > BUILD_LIMIT_S,
        "collecting": many_s > COLLECT_LIMIT_S,
        "memory": many_bytes > MEMORY_LIMIT * few_bytes,
    }
    return timing.verdict([name for name, is_over in over.items() if is_over])


def mb(count: float) -> str:
    """Bytes as decimal megabytes."""
    return f"{count / 1e6:.0f} MB"


def time_building(folder: Path, rounds: int) -> float:
    """The median seconds of the whole process."""
    command = [timing.cloudrun(), "colab", "-o", str(folder / "x.ipynb")]
    env = timing.environment(folder)
    return statistics.median(timing.in_turn({"": command}, rounds, env)[""])


def collect(folder: Path, count: int) -> tuple[float, int]:
    """Collect so many executed notebooks; returns the seconds and the most memory, in bytes."""
    notebooks = folder / "notebooks"
    notebooks.mkdir(parents=True)
    for number in range(count):
        (notebooks / f"{number}.ipynb").write_bytes(executed())
    command = [timing.cloudrun(), "collect", "--json", str(notebooks)]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=timing.environment(folder), stdout=subprocess.PIPE)
    assert process.stdout is not None  # noqa: S101 - for the type checker
    rows = json.loads(process.stdout.read())
    # Not `process.wait`: this one tells what the process used.
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = status
    if status or [row["status"] for row in rows] != ["stored"] * count:
        raise SystemExit(f"not all were stored: {rows[:3]}")
    return seconds, used.ru_maxrss * MAXRSS_UNIT


def executed() -> bytes:
    """A notebook with the outputs of a run."""
    notebook = workloads_notebook("all", "quick")
    report = json.loads(one_report())
    outputs: dict[str, list[dict[str, Any]]] = {
        "draw": [shown({"image/png": base64.b64encode(os.urandom(CHART_BYTES)).decode()})],
        "make-report": [
            shown({MIME: report, "text/plain": "a report"}),
            {
                "output_type": "stream",
                "name": "stdout",
                "text": [f"{line}\n" for line in report_lines(report)],
            },
        ],
    }
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            cell["execution_count"] = number + 1
            cell["outputs"] = outputs.get(cell["id"], [])
    return to_bytes(notebook)


def shown(data: dict[str, Any]) -> dict[str, Any]:
    """An output that was displayed."""
    return {"output_type": "display_data", "metadata": {}, "data": data}


def one_report() -> bytes:
    """A report of ordinary size, with an id of its own."""
    row = RunRow(new_run_id(), now(), "launch", Need(), ("launch",), "")
    return build.make_report(
        row,
        offer=Offer(provider="jupyter", device="cpu"),
        findings=build.gather(startup.workload_lines()),
        timeline=(),
        usd=0.0,
        predicted_usd=0.0,
        outcome="passed",
    ).to_json()


if __name__ == "__main__":
    sys.exit(main())
