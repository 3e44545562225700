"""cloudrun over SSH against public tools: one table, from one run on one loopback server.

    python benchmarks/ssh.py [--rows NAME,...] [--repeats N] [--delay 50ms] [--peers PYTHON]

Whole processes with their start-up, unless the row says otherwise, each tool
as its documentation has it and with its own defaults. The server, its keys and
the homes of both sides are made for the run (in $TMPDIR: choose one in
memory). Peers that are not installed are left out and named below the table:
rsync, and for PYTHON Fabric, asyncssh and parallel-ssh. WE/IT is cloudrun's
figure by the peer's; AT MOST the promise, times the peer's figure (x) or, in
cloudrun's own line, the figure itself. With --delay, all go a
long way, which adds so much to each round trip.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import timing
from over_ssh import files, works
from over_ssh.measure import Row, in_turn, print_rows, table
from over_ssh.server import Lab, lab, warm

ROWS: dict[str, Callable[[Lab], Row]] = {
    "connect": works.connect,
    "script": works.script,
    "first": files.first_push,
    "again": files.nothing_changed,
    "one": files.one_changed,
    "up": files.up,
    "down": files.down,
    "lines": works.lines,
    "late": works.late,
    "hosts": works.hosts,
}


def main() -> int:
    """Measure and print; see the module's docstring."""
    options = _options()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        lab(Path(folder), options.peers, options.delay) as place,
        warm(place),
    ):
        return show(place, options.rows, options.repeats)


def show(place: Lab, names: list[str], repeats: int) -> int:
    """Measure row by row, print the table and the verdict; returns the exit status."""
    lines: list[tuple[str, ...]] = []
    over, failed = [], []
    for name in names:
        print(f"measuring: {name}", file=sys.stderr)
        row = ROWS[name](place)
        samples, troubles = in_turn(row, repeats)
        shown, kept = table(row, samples)
        lines += shown
        over += [] if kept else [name]
        failed += [f"not measured: {row.title}, {tool}: {why}" for tool, why in troubles.items()]
    print_rows(lines)
    if place.delay_s:
        print(f"{place.delay_s * 1000:g} ms added to each round trip, by {place.way}")
    for sentence in failed:
        print(sentence)
    return timing.verdict(over)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--rows", type=_names, default=list(ROWS), metavar="NAME,...", help=", ".join(ROWS)
    )
    parser.add_argument("--repeats", type=int, default=7, help="[default: 7]")
    parser.add_argument("--delay", type=_seconds, default=0.0, metavar="MSms", help="such as 50ms")
    parser.add_argument(
        "--peers", default=sys.executable, metavar="PYTHON", help="[default: this Python]"
    )
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"there is no row '{name}'")
    return names


def _seconds(text: str) -> float:
    if not text.endswith("ms"):
        raise argparse.ArgumentTypeError("write it like 50ms")
    return float(text.removesuffix("ms")) / 1000


if __name__ == "__main__":
    sys.exit(main())
