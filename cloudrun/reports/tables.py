"""Tables for other programs: CSV and Markdown. Texts in them come from anywhere."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

from cloudrun.model.words import clean

Cell = str | float | bool | None

# A spreadsheet takes a text that begins so for a formula, and computes it.
_FORMULA = tuple("=+-@\t\r")
# Nothing that Markdown, HTML or GitHub (links, @somebody, #1) would make something of.
_PLAIN = re.compile(r"(?!.*(?:www\.|://))[\w ,;:()%±.+/-]*", re.IGNORECASE)


def csv_lines(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """Write a table as CSV (RFC 4180), line by line; None is an empty cell."""
    echo = csv.writer(_Echo(), lineterminator="\n")
    yield echo.writerow(headers)
    for row in rows:
        yield echo.writerow([_csv_cell(cell) for cell in row])


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _csv_cell(cell: Cell) -> Cell:
    if isinstance(cell, bool):
        return str(cell).lower()
    if not isinstance(cell, str):
        return cell
    cell = clean(cell)
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def markdown_lines(
    headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
) -> Iterator[str]:
    """Write a table as GitHub's Markdown, line by line; `right` are the flush right columns."""
    yield _markdown_line(headers)
    rules = ("---:" if column in right else "---" for column in range(len(headers)))
    yield f"| {' | '.join(rules)} |\n"
    for row in rows:
        yield _markdown_line([plain_markdown(cell) for cell in row])


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def plain_markdown(text: str) -> str:
    """A text that Markdown shows as it is, as code if need be: no link, picture, or call."""
    text = clean(text)
    if _PLAIN.fullmatch(text):
        return text
    return "`" + text.replace("`", "'").replace("\\", "/").replace("|", "\\|") + "`"
