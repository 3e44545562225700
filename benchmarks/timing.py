"""What the benchmarks share: whole processes timed in turn, tables, limits.

Only ratios of one run mean anything: another machine, or the same one an hour
later, gives other seconds. What is compared is therefore measured in turn
(A B C, A B C, ...), so that a disturbance meets all of it alike.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def cloudrun() -> str:
    """The path of the `cloudrun` that belongs to the Python that runs the benchmark."""
    found = shutil.which("cloudrun", path=str(Path(sys.executable).parent))
    if found is None:
        raise SystemExit("cloudrun is not installed for this Python: pip install .[local]")
    return found


def environment(folder: Path) -> dict[str, str]:
    """An environment in which cloudrun and torch.compile keep all that they keep in `folder`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDRUN_")}
    return {
        **ours,
        "CLOUDRUN_HOME": str(folder / "home"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }


def once(command: Sequence[str], env: Mapping[str, str]) -> float:
    """Run a command to its end; returns the seconds that it took. One that fails counts not."""
    started = time.perf_counter()
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-500:]
        raise SystemExit(f"'{' '.join(command)}' ended with status {done.returncode}: {said}")
    return seconds


def in_turn(
    commands: Mapping[str, Sequence[str]], rounds: int, env: Mapping[str, str]
) -> dict[str, list[float]]:
    """Time commands in turn, `rounds` times each, after one run of each that does not count."""
    for command in commands.values():
        once(command, env)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(once(command, env))
    return seconds


def spread(values: Sequence[float]) -> float:
    """The width of the middle half, as a fraction of the median; over 0.1 something disturbed."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column flush left, the others flush right."""
    lines = [headers, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *others]).rstrip())


def verdict(over: Sequence[str]) -> int:
    """Print the last line, what is over its limit; returns the exit status."""
    print(f"over its limit: {', '.join(over)}" if over else "within its limits")
    return int(bool(over))
