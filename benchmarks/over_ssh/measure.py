"""Tools at work, in turn; their figures, ratios and limits as a table."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import timing

OURS = "cloudrun"
SECONDS = "seconds"
MEMORY = "most memory, MB"
# The system gives ru_maxrss in KiB, except macOS, which gives bytes.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
_LIMIT_S = 300.0
Figures = dict[str, float]


class Failed(Exception):
    """A tool that is missing, fails or does not do its work; the rest goes on without it."""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Case:
    """One tool at one work. `before` and `after` are not timed; `after` raises Failed."""

    tool: str
    act: Callable[[], Figures]
    before: Callable[[], None] = _nothing
    after: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Limit:
    """The most that one of our figures may be.

    Of a peer: times its figure. Of ours: the figure itself.
    """

    tool: str
    at_most: float
    figure: str = SECONDS


@dataclass(frozen=True)
class Row:
    """One work, who does it, and what we promise."""

    title: str
    cases: Sequence[Case]
    limits: Sequence[Limit] = ()


# By tool and figure, one number a repeat.
Samples = dict[tuple[str, str], list[float]]


def in_turn(row: Row, repeats: int) -> tuple[Samples, dict[str, str]]:
    """Let the tools work in turn, after a round that does not count.

    Returns:
        The figures; and of each tool that failed, why.
    """
    samples: Samples = {}
    failed: dict[str, str] = {}
    for number in range(-1, repeats):
        for case in row.cases:
            if case.tool in failed:
                continue
            try:
                figures = _once(case)
            except Failed as error:
                failed[case.tool] = str(error)
                continue
            for name, value in figures.items() if number >= 0 else ():
                samples.setdefault((case.tool, name), []).append(value)
    return {key: values for key, values in samples.items() if key[0] not in failed}, failed


def _once(case: Case) -> Figures:
    try:
        case.before()
        figures = case.act()
        case.after()
    except (OSError, ValueError) as error:
        raise Failed(f"{error}") from error
    return figures


def process(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: Path | None = None,
    out: Path | None = None,
) -> Figures:
    """Run a process to its end, its stdout into a file; gives its seconds and its memory.

    Raises:
        Failed: it ended with another status than 0.
    """
    with open(out or os.devnull, "wb") as kept:
        return follow(command, env, lambda _child: None, cwd, kept)


def follow(
    command: Sequence[str],
    env: Mapping[str, str],
    read: Callable[[subprocess.Popen[bytes]], None],
    cwd: Path | None = None,
    out: IO[bytes] | int = subprocess.PIPE,
) -> Figures:
    """Do as `process` does, with `read` taking in what the process says."""
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=said
        )
        timer = threading.Timer(_LIMIT_S, child.kill)
        timer.start()
        try:
            read(child)
        except ValueError:
            child.kill()
            raise
        finally:
            # Not `child.wait`: this one tells what the process used. Linux never says
            # less memory than we ourselves hold, so nothing large may be held here.
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - began
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            # The reason comes last: a traceback's, or the paragraph of an error.
            why = " ".join(said.read().decode(errors="replace").split())[-200:]
            raise Failed(f"status {child.returncode}: {why}")
    return {SECONDS: seconds, MEMORY: usage.ru_maxrss * _MAXRSS_UNIT / 1e6}


def only(figures: Figures, *names: str) -> Figures:
    """Those figures that the row is about."""
    return {name: figures[name] for name in names or (SECONDS,)}


def table(row: Row, samples: Samples) -> tuple[list[tuple[str, ...]], bool]:
    """The lines of a row, and whether it keeps what is promised for it."""
    limits = {(limit.tool, limit.figure): limit.at_most for limit in row.limits}
    medians = {key: statistics.median(values) for key, values in samples.items()}
    lines: list[tuple[str, ...]] = [(row.title, "", "", "", "", "")]
    kept = True
    for key in dict.fromkeys((*medians, *limits)):
        tool, figure = key
        median, ours, limit = medians.get(key), medians.get((OURS, figure)), limits.get(key)
        ratio = ours / median if ours is not None and median else None
        value = ours if tool == OURS else ratio
        over = limit is not None and (value is None or value > limit)
        kept = kept and not over
        lines.append(
            (
                f"  {tool}" + ("" if figure == SECONDS else f": {figure}"),
                "-" if median is None else f"{median:.3f}" if median < 10 else f"{median:.1f}",
                f"{timing.spread(samples[key]):.0%}" if len(samples.get(key, ())) > 1 else "",
                "" if ratio is None or tool == OURS else f"{ratio:.2f}",
                "" if limit is None else f"{limit:g}" if tool == OURS else f"{limit:.2f}x",
                "" if not over else "not measured" if value is None else "over",
            )
        )
    return lines, kept


def print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Print all lines as one table."""
    timing.print_table(("WORK", "MEDIAN", "SPREAD", "WE/IT", "AT MOST", ""), list(rows))
