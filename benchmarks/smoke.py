"""The launcher's own cost: `cloudrun launch --workload smoke` against the workload alone.

    python benchmarks/smoke.py [--pairs N]

Both run the same file in the same environment; a first run of each, which
does not count, fills the cache of torch.compile.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import timing

from cloudrun import workloads

LIMIT = 1.25
ALONE, LAUNCHED = "python smoke.py", "cloudrun launch --workload smoke"


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=7, help="[default: 7]")
    options = parser.parse_args()
    file = Path(workloads.__file__).with_name("smoke.py")
    commands = {
        ALONE: [sys.executable, str(file)],
        LAUNCHED: [timing.cloudrun(), "launch", "--workload", "smoke"],
    }
    with tempfile.TemporaryDirectory() as folder:
        seconds = timing.in_turn(commands, options.pairs, timing.environment(Path(folder)))
    return show(seconds)


def show(seconds: dict[str, list[float]]) -> int:
    """Print the table and the verdict; returns the exit status."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians[LAUNCHED] / medians[ALONE]
    timing.print_table(
        ("COMMAND", "SECONDS", "SPREAD", "RATIO", "LIMIT"),
        [
            (
                name,
                f"{medians[name]:.2f}",
                f"{timing.spread(values):.0%}",
                f"{medians[name] / medians[ALONE]:.2f}",
                f"{LIMIT:g}" if name == LAUNCHED else "",
            )
            for name, values in seconds.items()
        ],
    )
    return timing.verdict([LAUNCHED] if ratio > LIMIT else [])


if __name__ == "__main__":
    sys.exit(main())
