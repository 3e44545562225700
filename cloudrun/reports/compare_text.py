"""A comparison as people read it: for a terminal, for a pull request, for a spreadsheet."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import msgspec

from cloudrun.model.columns import clip, pad, width_of, wrap
from cloudrun.model.words import clean
from cloudrun.reports.compare import Comparison, Row
from cloudrun.reports.tables import Cell, csv_lines, markdown_lines, plain_markdown

Paint = Callable[[str, str], str]

_LEAST_LABEL = 12
_ROLES = {"faster": "good", "slower": "bad"}
_ONE_RUN_EACH = (
    "Groups of one run: how much machines of one kind differ is not in these numbers, so under "
    "5% nothing is said. Several runs of each make it surer."
)


def terminal(comparison: Comparison, paint: Paint, width: int) -> Iterator[str]:
    """Write a comparison for a terminal of `width` columns, line by line."""
    rows = comparison.rows
    cells = [_cells(row) for row in rows]
    headers = ("", "RUNS", "MEDIAN", "BESIDE", "PER $/H")
    widths = [max([width_of(cell) for cell in column]) for column in zip(headers, *cells)]  # noqa: B905
    widths[0] = max(_LEAST_LABEL, min(widths[0], width - 2 - sum(widths[1:]) - 2 * 4))
    yield paint(_line(headers, widths), "strong")
    for (name, device, unit), block in groupby(
        zip(rows, cells, strict=True), key=lambda pair: _heading(pair[0])
    ):
        heading = clean(", ".join(part for part in (name, device, unit) if part))
        yield paint(clip(heading, width), "strong")
        for row, texts in block:
            line = _line(texts, widths)
            yield paint(line, _ROLES[row.verdict]) if row.verdict in _ROLES else line
            yield from _indented("; ".join(_flags(row)), width)
    yield ""
    for text in _remarks(rows):
        yield from wrap(clean(text), width)


def _heading(row: Row) -> tuple[str, str, str]:
    return row.measurement, row.device, row.unit


def _line(cells: Iterable[str], widths: list[int]) -> str:
    texts = [
        pad(clip(clean(cell), widths[at]), widths[at], right=at not in (0, 3))
        for at, cell in enumerate(cells)
    ]
    return f"  {'  '.join(texts)}".rstrip()


def _indented(text: str, width: int) -> Iterator[str]:
    for line in wrap(clean(text), width - 6):
        yield f"      {line}"


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    return (
        row.group,
        str(row.runs),
        f"{number(row.value)} {_about(row.low, row.high)}".rstrip(),
        _beside(row),
        "none" if row.per_usd_hour is None else number(row.per_usd_hour),
    )


def _beside(row: Row) -> str:
    """`faster, 2.41x ±3%`: what it is beside the baseline."""
    if row.times is None:
        return row.verdict
    return f"{row.verdict}, {_times(row.times)}x {_about(row.times_low, row.times_high)}".rstrip()


def _times(times: float) -> str:
    return f"{times:.2f}" if 0.1 <= times < 10 else number(times)


def _about(low: float | None, high: float | None) -> str:
    """The interval, which is as long to each side as a factor; beyond reason it is not told."""
    if low is None or high is None or low <= 0:
        return ""
    reach = math.expm1((math.log(high) - math.log(low)) / 2)
    return f"±{reach:.1%}" if reach < 0.1 else f"±{reach:.0%}" if reach < 10 else "±?"


def number(value: float) -> str:
    """Three digits that count, or all that stand before the point."""
    return f"{value:,.0f}" if 100 <= value < 1e9 else f"{value:.3g}"


def _flags(row: Row) -> Iterator[str]:
    """What to know before the number is believed, or why it can be."""
    if row.unstable:
        yield f"{_of_runs(row.unstable, row)} not steady"
    if row.throttled:
        yield f"{_of_runs(row.throttled, row)} held back by {', '.join(row.throttled_by)}"
    if row.not_passed:
        yield f"{_of_runs(row.not_passed, row)} not passed"
    for who, count in row.vouched_by.items():
        yield f"{_of_runs(count, row)} signed by {who}"


def _of_runs(count: int, row: Row) -> str:
    return f"{count} of {row.runs}" if row.runs > 1 else "it is"


def _remarks(rows: list[Row]) -> Iterator[str]:
    """What is to be said of the whole: what it is compared with, what else differs, how sure."""
    if len({row.group for row in rows}) == 1:
        yield f"There is no other {rows[0].by} to compare it with."
        return
    yield f"x: times as fast as {rows[0].baseline}. ±: with a confidence of 95%."
    unsure = Counter(row.why for row in rows if row.why)
    if unsure:
        reasons = "; ".join(f"{why} ({count})" for why, count in unsure.items())
        yield f"Cannot tell: {reasons}."
    if all(row.runs == 1 for row in rows):
        yield _ONE_RUN_EACH
    for group, sentence in _differences(rows).items():
        yield f"{group} differs from {rows[0].baseline} in this too: {sentence}."


def _differences(rows: list[Row]) -> dict[str, str]:
    """What else a group differs in, by its label."""
    return {row.group: _told(row) for row in rows if row.differences}


def _told(row: Row) -> str:
    return "; ".join(
        f"{name} {', '.join(found.here)} (not {', '.join(found.baseline)})"
        for name, found in row.differences.items()
    )


def markdown(comparison: Comparison) -> Iterator[str]:
    """Write a comparison as GitHub's Markdown, line by line."""
    rows = comparison.rows
    headers = (
        "Measurement", "Unit", rows[0].by if rows else "", "Runs", "Median", "95% interval",
        "Times the baseline", "95% interval", "Verdict", "Per $/h", "To know",
    )  # fmt: skip
    yield from markdown_lines(headers, map(_markdown_cells, rows), right=(3, 4, 6, 9))
    yield "\n"
    for text in _remarks(rows):
        yield f"- {plain_markdown(text)}\n"


def _markdown_cells(row: Row) -> tuple[str, ...]:
    return (
        ", ".join(part for part in (row.measurement, row.device) if part),
        row.unit,
        row.group,
        str(row.runs),
        number(row.value),
        _from_to(row.low, row.high),
        "" if row.times is None else _times(row.times),
        _from_to(row.times_low, row.times_high),
        row.verdict,
        "none" if row.per_usd_hour is None else number(row.per_usd_hour),
        "; ".join(filter(None, (row.why, *_flags(row)))),
    )


def _from_to(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{number(low)} to {number(high)}"


def spreadsheet(comparison: Comparison) -> Iterator[str]:
    """Write a comparison as CSV, line by line: the columns of `Row`, lists as texts."""
    headers = [column.name for column in dataclasses.fields(Row)]
    yield from csv_lines(
        headers, ([_flat(row, name) for name in headers] for row in comparison.rows)
    )


def _flat(row: Row, name: str) -> Cell:
    value = getattr(row, name)
    if name == "differences":
        return _told(row)
    if isinstance(value, tuple):
        return "; ".join(value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    found: Cell = value
    return found
