"""The main job as a newcomer runs it: `cloudrun launch --profile quick`, seconds and memory.

    python benchmarks/quick.py [--runs N]

Each run has an empty home and an empty cache of torch.compile, as the first
one on a machine has. Memory is the most that any one of its processes held
(ru_maxrss). Not for Windows, which does not tell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import timing

LIMIT_S = 60.0
LIMIT_BYTES = 2e9
# The system gives ru_maxrss in KiB, except macOS, which gives bytes.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Run(NamedTuple):
    """One launch: seconds, bytes of its largest process, unsteady measurements."""

    seconds: float
    memory: int
    unsteady: int


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="[default: 3]")
    options = parser.parse_args()
    return show([launch() for _ in range(options.runs)])


def launch() -> Run:
    """Run the command once, to its end."""
    command = [timing.cloudrun(), "launch", "--profile", "quick", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=timing.environment(Path(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None  # noqa: S101 - for the type checker
        report = json.loads(process.stdout.read())
        # Not `process.wait`: this one tells what the process and those below it used.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the launch ended with status {process.returncode}: {report}")
    unsteady = sum(not row["stable"] for row in report["measurements"])
    return Run(seconds, usage.ru_maxrss * MAXRSS_UNIT, unsteady)


def show(runs: list[Run]) -> int:
    """Print the table and the verdict, by the worst run; returns the exit status."""
    rows = [
        (str(number), f"{run.seconds:.1f}", f"{run.memory / 1e9:.2f}", str(run.unsteady))
        for number, run in enumerate(runs, start=1)
    ]
    limits = ("limit", f"{LIMIT_S:g}", f"{LIMIT_BYTES / 1e9:g}", "")
    timing.print_table(("RUN", "SECONDS", "MEMORY, GB", "UNSTEADY VALUES"), [*rows, limits])
    over = ["seconds"] * any(run.seconds > LIMIT_S for run in runs)
    over += ["memory"] * any(run.memory > LIMIT_BYTES for run in runs)
    return timing.verdict(over)


if __name__ == "__main__":
    sys.exit(main())
