"""A report as bars on a terminal, with or without colour: speeds, and where the time went."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from cloudrun.model.columns import clip, pad
from cloudrun.model.words import clean, format_duration, format_number
from cloudrun.reports.schema import Measurement, Report
from cloudrun.reports.text import WIDTH, Paint, plain

BLOCKS, ASCII = " ▏▎▍▌▋▊▉█", " #"
_LEAST_WIDTH, _LABEL, _VALUE = 40, 30, 10
# More than a benchmark has; a stranger's report may have thousands.
_MOST_BARS = 60
_TITLES = {
    "TFLOP/s": "Arithmetic, TFLOP/s",
    "GB/s": "Memory, GB/s",
    "tokens/s": "Training, tokens/s",
}


def render(report: Report, paint: Paint = plain, width: int = WIDTH, blocks: str = BLOCKS) -> str:
    """Write the bars of a report.

    Args:
        report: The report; its texts may come from anywhere and are made harmless.
        paint: Colours a text for a role: `strong`.
        width: The columns that a line may take.
        blocks: The characters of a bar, from empty to full.
    """
    width = max(_LEAST_WIDTH, width)
    sections = [*_speeds(report, width, blocks), _times(report, width, blocks)]
    return "\n\n".join(
        "\n".join([paint(title, "strong"), *bars]) for title, bars in sections if bars
    )


def _speeds(report: Report, width: int, blocks: str) -> Iterator[tuple[str, list[str]]]:
    """A group of bars for each unit; a mark is the data sheet's peak."""
    rows = sorted(report.measurements[:_MOST_BARS], key=lambda row: _order(row.unit))
    for unit, group in groupby(rows, key=lambda row: row.unit):
        own = list(group)
        longest = max(max(row.value, row.peak or 0.0) for row in own)
        peak = "   (| is the data sheet's peak)" if any(row.peak for row in own) else ""
        bars = [
            _bar(_label(row), format_number(row.value), row.value, row.peak, longest, width, blocks)
            for row in own
        ]
        yield clip(_TITLES.get(unit, clean(unit)) + peak, width), bars


def _order(unit: str) -> tuple[int, str]:
    known = list(_TITLES)
    return (known.index(unit) if unit in known else len(known), unit)


def _label(row: Measurement) -> str:
    size = row.params.get("m")
    parts = (row.name.replace("_", " "), row.params.get("dtype"), size, row.params.get("device"))
    return clean(" ".join(str(part)[:_LABEL] for part in parts if part))


def _times(report: Report, width: int, blocks: str) -> tuple[str, list[str]]:
    """A bar for each phase; a mark is the forecast."""
    timeline = report.timeline[:_MOST_BARS]
    longest = max((max(part.seconds, part.predicted_seconds) for part in timeline), default=0.0)
    bars = [
        _bar(part.phase, format_duration(part.seconds), part.seconds, part.predicted_seconds,
             longest, width, blocks)
        for part in timeline
    ]  # fmt: skip
    return "Time   (| is the forecast)", bars


def _bar(
    label: str, value: str, size: float, mark: float | None, longest: float, width: int,
    blocks: str,
) -> str:  # fmt: skip
    """One line: a label, a bar with a mark on it, and the number."""
    beside = min(_LABEL, width // 3)
    room = width - beside - _VALUE - 4
    cells = _cells(size / longest if longest else 0.0, room, blocks)
    if mark:
        at = min(room - 1, int(mark / longest * room))
        cells = cells[:at] + "|" + cells[at + 1 :]
    return f"  {pad(clip(label, beside), beside)} {cells} {value:>{_VALUE}}"


def _cells(part: float, room: int, blocks: str) -> str:
    """A bar of `room` columns, filled up to a part; what is not nothing shows a little."""
    finest = len(blocks) - 1
    steps = round(part * room * finest)
    steps = max(steps, 1) if part else 0
    full, rest = divmod(steps, finest)
    return pad(blocks[-1] * full + (blocks[rest] if rest else ""), room)
