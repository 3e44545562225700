"""The main job as a newcomer runs it: `cloudrun launch --profile quick`, seconds and memory.

    python benchmarks/quick.py [--runs N]

Each run has an empty home and an empty cache of torch.compile, as the first
one on a machine has. Memory is the most that any one of its processes held
(ru_maxrss), and beside it the most of all together, sampled (Linux only;
shared pages divided among those that share them). Not for Windows, which has
no `resource`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import timing

LIMIT_S = 60.0
LIMIT_BYTES = 2e9
# The system gives ru_maxrss in KiB, except macOS, which gives bytes.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Run(NamedTuple):
    """One launch: seconds, bytes of the largest process and of all, unsteady measurements."""

    seconds: float
    largest: int
    together: int
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
        watch = Watch(process.pid)
        output, _ = process.communicate()
        seconds = time.perf_counter() - started
        together = watch.stop()
    report = json.loads(output)
    if process.returncode:
        raise SystemExit(f"the launch ended with status {process.returncode}: {report}")
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS_UNIT
    unsteady = sum(not row["stable"] for row in report["measurements"])
    return Run(seconds, largest, together, unsteady)


class Watch:
    """Samples the memory of a process and all below it until `stop`, which gives the most."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def stop(self) -> int:
        """The most bytes seen."""
        self._over.set()
        self._thread.join()
        return self._most

    def _sample(self) -> None:
        while not self._over.wait(0.2):
            self._most = max(self._most, sum(map(held_bytes, below(self._root))))


def below(root: int) -> list[int]:
    """The process `root` and all that descend from it."""
    found = [root]
    for pid in found:
        # A process may end while we look.
        with contextlib.suppress(OSError):
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def held_bytes(pid: int) -> int:
    """The memory of one process, its share of what it shares; 0: it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def show(runs: list[Run]) -> int:
    """Print the table and the verdict, by the worst run; returns the exit status."""
    timing.print_table(
        ("RUN", "SECONDS", "LARGEST PROCESS, GB", "ALL TOGETHER, GB", "UNSTEADY VALUES"),
        [
            (
                str(number),
                f"{run.seconds:.1f}",
                f"{run.largest / 1e9:.2f}",
                f"{run.together / 1e9:.2f}",
                str(run.unsteady),
            )
            for number, run in enumerate(runs, start=1)
        ]
        + [("limit", f"{LIMIT_S:g}", f"{LIMIT_BYTES / 1e9:g}", f"{LIMIT_BYTES / 1e9:g}", "")],
    )
    over = ["seconds"] * any(run.seconds > LIMIT_S for run in runs)
    over += ["memory"] * any(max(run.largest, run.together) > LIMIT_BYTES for run in runs)
    return timing.verdict(over)


if __name__ == "__main__":
    sys.exit(main())
