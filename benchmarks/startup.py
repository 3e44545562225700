"""Start-up: whole commands of cloudrun against `python -c "import click"`.

    python benchmarks/startup.py [--rounds N] [--peer 'LABEL=COMMAND']...

A peer is any command, for example `--peer 'fabric=/path/to/fab --help'`; it is
measured in turn with the others and has no limit.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
from pathlib import Path

import timing

from cloudrun.launcher.journal import Journal, RunRow
from cloudrun.launcher.planner import make_plan
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import PHASES, new_run_id, now
from cloudrun.reports import build
from cloudrun.reports.store import open_store

REFERENCE = "import click"
LIMITS = {"cloudrun --help": 1.5, "cloudrun --version": 1.5, "cloudrun ps": 3.0}


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="of each command [default: 40]")
    parser.add_argument("--runs", type=int, default=50, help="in the journal [default: 50]")
    parser.add_argument("--peer", action="append", default=[], metavar="LABEL=COMMAND")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        env = timing.environment(Path(folder))
        fill(Path(env["CLOUDRUN_HOME"]), options.runs)
        seconds = timing.in_turn(commands(options.peer), options.rounds, env)
    return show(seconds)


def commands(peers: list[str]) -> dict[str, list[str]]:
    """The command lines to measure, by their labels; the reference comes first."""
    ours = ("--help", "--version", "ps", "report list")
    found = {REFERENCE: [sys.executable, "-c", "import click"]}
    found |= {f"cloudrun {words}": [timing.cloudrun(), *words.split()] for words in ours}
    for peer in peers:
        label, _, command = peer.partition("=")
        found[label] = shlex.split(command)
    return found


def fill(home: Path, runs: int) -> None:
    """Put a journal and a store into `home`, as `runs` finished runs of `launch` leave them."""
    need, offer = Need(), Offer(provider="local", device="cpu")
    plan = make_plan(need, [offer])
    store = open_store(str(home / "data" / "reports"))
    store.check_writable()
    findings = build.gather(workload_lines())
    with Journal(home / "state") as journal:
        for _ in range(runs):
            row = RunRow(new_run_id(), now(), "launch", need, ("launch",), str(store.url))
            journal.add_run(row)
            journal.set_plan(row.id, plan)
            for phase in PHASES:
                journal.add_step(row.id, phase, "intent")
                journal.add_step(row.id, phase, "done", "{}")
            report = build.make_report(
                row,
                offer=offer,
                findings=findings,
                timeline=(),
                usd=0.0,
                predicted_usd=0.0,
                outcome="passed",
            )
            journal.end_run(row.id, "passed", store.add(report))


def workload_lines() -> list[bytes]:
    """What the workloads say, in ordinary amounts: 16 checks, 6 measurements of 100 samples."""
    numbers = {**dict.fromkeys(("value", "median", "p5", "p95"), 1.0), "samples": [1.23456] * 100}
    row = {"event": "measurement", "name": "matmul", "params": {}, "unit": "TFLOP/s", "n": 100}
    names = ("device", "os", "python", "torch", "cpu")
    lines = [
        {"event": "environment", **dict.fromkeys(names, "ordinary")},
        *[{"event": "check", "name": "a check", "status": "pass", "detail": "It is right."}] * 16,
        *[{**row, **numbers, "stable": True}] * 6,
    ]
    return [json.dumps(line).encode() + b"\n" for line in lines]


def show(seconds: dict[str, list[float]]) -> int:
    """Print the table and the verdict; returns the exit status."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: median / medians[REFERENCE] for name, median in medians.items()}
    timing.print_table(
        ("COMMAND", "SECONDS", "SPREAD", "RATIO", "LIMIT"),
        [
            (
                name,
                f"{medians[name]:.4f}",
                f"{timing.spread(values):.0%}",
                f"{ratios[name]:.2f}",
                f"{LIMITS[name]:g}" if name in LIMITS else "",
            )
            for name, values in seconds.items()
        ],
    )
    return timing.verdict([name for name, limit in LIMITS.items() if ratios[name] > limit])


if __name__ == "__main__":
    sys.exit(main())
