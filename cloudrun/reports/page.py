"""One page of HTML that shows many reports, and asks nobody for anything.

Reports come in one after another and leave as a row of the leader board, in HTML,
and as a row of data for the page's script, so that ten thousand of them need little
memory. What they share (environments, machines, kinds of work, texts) is written
once, and rows name it by its number. The script draws the charts in the reader's
browser, from the same rows as the tables, because he filters them there.

Texts are escaped; besides, the page's policy lets no script run but its own, and no
request leave.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from html import escape
from importlib import resources
from typing import Any

import msgspec

from cloudrun.errors import BadData
from cloudrun.model.run import PHASES, rfc3339
from cloudrun.model.words import format_number, format_usd
from cloudrun.reports.names import Entry
from cloudrun.reports.page_rows import (
    OUTCOMES,
    SHARED,
    STATUSES,
    best,
    cut,
    data_row,
    device_name,
    own,
)
from cloudrun.reports.schema import Report

# What a page begins with, by which it is known again.
MARK = "<!doctype html>\n<!-- A page of cloudrun reports. -->\n"
_SCRIPTS = (
    "page_data.js",
    "page_draw.js",
    "page_price.js",
    "page_time.js",
    "page_one.js",
    "page.js",
)
_MOST_LEFT_OUT, _MOST_WITHOUT_SCRIPT = 200, 500


@dataclass
class Gathered:
    """What a page shows: each report as (its best TFLOP/s, row of data, row of the board)."""

    rows: list[tuple[float, bytes, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    damaged: int = 0
    shared: dict[str, dict[Any, int]] = field(default_factory=lambda: {name: {} for name in SHARED})


def gather(
    reports: Iterable[tuple[Entry, Report | BadData]],
    who: Callable[[str], tuple[str, ...]] = lambda _path: (),
) -> Gathered:
    """Take in reports; a damaged one, and a second copy of one, is named in `left_out`.

    `who` gives who vouches for the report of a path (`vouching.who_by_path`).
    """
    gathered = Gathered()
    paths: dict[str, str] = {}
    for entry, report in reports:
        if isinstance(report, BadData):
            gathered.damaged += 1
            gathered.left_out.append((entry.path, str(report)))
        elif report.id in paths:
            twin = f"The same report is there already, as {paths[report.id]}."
            gathered.left_out.append((entry.path, twin))
        else:
            paths[report.id] = entry.path
            row = msgspec.json.encode(data_row(report, who(entry.path), gathered.shared))
            gathered.rows.append((best(own(report), "matmul")[0], row, _board_row(report)))
    # The fastest first; of equals the newest, as they came.
    gathered.rows.sort(key=lambda row: row[0], reverse=True)
    return gathered


def render(gathered: Gathered, made: str, version: str = "") -> Iterator[str]:
    """Give the page piece by piece.

    Args:
        gathered: What it shows.
        made: The moment that it was made, RFC 3339.
        version: Where the page is served: what its server says until something
            changes. The page asks for it, and shows itself anew.
    """
    pieces: dict[str, Callable[[], Iterable[str]]] = {
        "policy": lambda: [_policy(bool(version))],
        "style": lambda: [_text("page.css")],
        "live": lambda: [f' data-live="{escape(version)}"' if version else ""],
        "made": lambda: [made[:16].replace("T", " ")],
        "count": lambda: [str(len(gathered.rows))],
        "board": lambda: _board(gathered),
        "left_out": lambda: _left_out(gathered.left_out),
        "words": lambda: [_harmless(_text("page_words.json").encode())],
        "data": lambda: _data(gathered),
        "script": lambda: [_script()],
    }
    yield MARK
    for number, part in enumerate(re.split(r"\{\{(\w+)\}\}", _skeleton())):
        yield from pieces[part]() if number % 2 else [part]


@cache
def _skeleton() -> str:
    """The page with its words in English; the script puts others in their places."""
    words = json.loads(_text("page_words.json"))
    return re.sub(
        r'data-word="(\w+)">', lambda found: f"{found[0]}{words[found[1]][0]}", _text("page.html")
    )


@cache
def _text(name: str) -> str:
    return resources.files("cloudrun.templates").joinpath(name).read_text("utf-8")


@cache
def _script() -> str:
    return '"use strict";\n' + "\n".join(_text(name) for name in _SCRIPTS)


def _policy(served: bool) -> str:
    """Nothing is loaded, nothing is sent, and no script or style is taken but those of ours."""
    connect = "'self'" if served else "'none'"
    return (
        f"default-src 'none'; script-src {_hash_of(_script())}; "
        f"style-src {_hash_of(_text('page.css'))}; img-src data:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _hash_of(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _board(gathered: Gathered) -> Iterator[str]:
    """The rows of the board; those that the script has to fetch are parsed and not laid out."""
    rows = [row for _, _, row in gathered.rows]
    yield from rows[:_MOST_WITHOUT_SCRIPT]
    if len(rows) > _MOST_WITHOUT_SCRIPT:
        yield from ('<template id="further">', *rows[_MOST_WITHOUT_SCRIPT:], "</template>")


def _data(gathered: Gathered) -> Iterator[str]:
    """One JSON document: what the reports share, then the reports."""
    head = {
        "phases": PHASES,
        "outcomes": OUTCOMES,
        "statuses": STATUSES,
        **{name: list(known) for name, known in gathered.shared.items()},
    }
    yield _harmless(msgspec.json.encode(head)[:-1] + b',"reports":[')
    for number, (_, row, _) in enumerate(gathered.rows):
        yield _harmless(b",\n" * bool(number) + row)
    yield "]}"


def _harmless(document: bytes) -> str:
    """JSON that no text in it can end: to a parser of HTML it has no tags and no comments."""
    return document.decode().replace("<", "\\u003c")


def _board_row(report: Report) -> str:
    """One row of the leader board; its columns are those of page.html."""
    rows, machine = own(report), report.machine
    speed, dtype = best(rows, "matmul")
    price = machine.price_usd_per_hour
    training = best(rows, "training")[0]
    cells = (
        ("th", "", _html(device_name(report)) or '<span data-word="none">no device</span>'),
        ("td", "", f"{_number(speed)} <small>{_html(dtype)}</small>" if speed else ""),
        ("td", "", _number(best(rows, "memory_copy")[0])),
        ("td", "", _number(training)),
        ("td", "", _html(format_usd(price)) if price else '<span data-word="free">free</span>'),
        ("td", "", _number(training * 3600 / price / 1e6) if price else ""),
        ("td", "", _html(" ".join(filter(None, (machine.provider, machine.instance_type))))),
        ("td", f' data-word="{report.outcome}"', report.outcome),
        ("td", "", _html(format_usd(report.cost.usd))),
        ("td", "", rfc3339(datetime.fromisoformat(report.created))[:16].replace("T", " ")),
    )
    scope = {"th": ' scope="row"', "td": ""}
    told = "".join(f"<{tag}{scope[tag]}{more}>{text}</{tag}>" for tag, more, text in cells)
    return f"<tr>{told}</tr>\n"


def _html(text: str) -> str:
    return escape(cut(text))


def _number(value: float) -> str:
    return format_number(value) if value else ""


def _left_out(left_out: list[tuple[str, str]]) -> Iterator[str]:
    """Rows that name the files which are not shown, and why."""
    for path, why in left_out[:_MOST_LEFT_OUT]:
        yield f'<tr><th scope="row">{_html(path)}</th><td lang="en">{_html(why)}</td></tr>\n'
    if more := len(left_out[_MOST_LEFT_OUT:]):
        yield f'<tr><td colspan="2" lang="en">and {more} more</td></tr>\n'
