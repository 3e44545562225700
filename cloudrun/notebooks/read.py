"""Read the reports out of one document: an executed notebook, a report, a log.

What a document is, its content tells, not its name. A notebook holds its report
as JSON beside the output of a cell (1), as a line that the cell printed (2), and
as the file results.json (3); any of them will do. All that is read may come from
anywhere: sizes are bounded, and a report is checked by `schema.parse`.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from cloudrun.errors import BadData
from cloudrun.model.words import clean
from cloudrun.reports import schema
from cloudrun.reports.schema import Report

# Colab takes notebooks of up to 20 MB; logs can be longer.
MOST_BYTES = 64 * 2**20
# Each part of a JSON document takes many times its bytes in memory; one with more of
# them is looked through as a text.
_MOST_PARTS = 2_000_000
_MOST_LINES = 10_000
_MOST_PROBLEMS = 20
# As templates/notebook_report.py writes them.
_MIME = "application/vnd.cloudrun.report+json"
_MARK = b"CLOUDRUN_REPORT:"
# A line's rest within a string of JSON: up to the quote that ends it.
_IN_JSON = re.compile(rb'(?:[^"\\\n]|\\.)*+')
_KAGGLES = re.compile(rb'^[^\n]*"stream_name"[^\n]*', re.MULTILINE)

_ASK_AGAIN = "Run the notebook from top to bottom and download it again, or its results.json."
_OMITTED = (
    'In Colab, choose Edit, Notebook settings, and switch off "Omit code cell output when saving '
    'this notebook"; run it again. Or collect the results.json that it made.'
)


class _Output(msgspec.Struct):
    output_type: str = ""
    text: str | list[str] = ""
    data: dict[str, msgspec.Raw] = {}
    ename: str = ""
    evalue: str = ""


class _Cell(msgspec.Struct):
    outputs: list[_Output] = []
    execution_count: int | None = None
    cell_type: str = ""


class _Colab(msgspec.Struct):
    private_outputs: bool = False


class _Metadata(msgspec.Struct):
    cloudrun: dict[str, msgspec.Raw] | None = None
    colab: _Colab | None = None


class _Notebook(msgspec.Struct):
    cells: list[_Cell]
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class _Head(msgspec.Struct):
    """What tells the kinds of JSON documents apart."""

    schema: str | None = None
    cells: list[msgspec.Raw] | None = None
    stream_name: str | None = None
    data: str | None = None


class _Piece(msgspec.Struct):
    """A part of a report that was too long for a line."""

    id: str
    part: int
    of: int
    zlib: str


class Harvest(NamedTuple):
    """What a document holds: reports, each once, and what is wrong with it."""

    reports: list[Report]
    problems: list[BadData]


_notebook = msgspec.json.Decoder(_Notebook)
_head = msgspec.json.Decoder(_Head)
_list = msgspec.json.Decoder(list[msgspec.Raw])
_piece = msgspec.json.Decoder(_Piece)


def is_fresh(path: Path) -> bool:
    """Whether a file is a notebook that cloudrun has made and that nobody has run."""
    with path.open("rb") as file:
        data = file.read(MOST_BYTES)
    try:
        notebook = _notebook.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    used = any(cell.outputs or cell.execution_count is not None for cell in notebook.cells)
    return notebook.metadata.cloudrun is not None and not used


def harvest(data: bytes, name: str) -> Harvest:
    """Read all reports of a document; `name` is what an error calls it."""
    if len(data) > MOST_BYTES:
        limit = MOST_BYTES // 2**20
        return _none(f"{name} is larger than {limit} MiB.", "No notebook is.", _ASK_AGAIN)
    data = data.removeprefix(codecs.BOM_UTF8).strip()
    if not data:
        return _none(f"{name} is empty.", "", _ASK_AGAIN)
    if not data.startswith((b"{", b"[")):
        return _from_text(data, name)
    try:
        if data.count(b",") > _MOST_PARTS:
            raise msgspec.ValidationError("It has too many parts")
        return _from_list(data, name) if data.startswith(b"[") else _from_object(data, name)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _from_damaged(data, name, error)


def _none(what: str, why: str, try_this: str) -> Harvest:
    return Harvest([], [BadData(what, why, try_this)])


def _from_object(data: bytes, name: str) -> Harvest:
    head = _head.decode(data)
    if head.cells is not None:
        return _from_notebook(_notebook.decode(data), name)
    if head.schema is not None:
        return _gathered([(data, name)])
    if head.stream_name is not None:
        return _from_text((head.data or "").encode("utf-8", "replace"), name)
    return _none(f"{name} is no report and no notebook.", "", "")


def _from_list(data: bytes, name: str) -> Harvest:
    """A list of reports, or a log as Kaggle keeps it: a list of what each stream said when."""
    reports: list[tuple[bytes, str]] = []
    said: dict[str, list[str]] = {}
    for number, element in enumerate(_list.decode(data), start=1):
        head = _head.decode(element)
        if head.stream_name is not None:
            said.setdefault(head.stream_name, []).append(head.data or "")
        elif head.schema is not None:
            reports.append((bytes(element), f"{name}, number {number}"))
    if said:
        return _from_text(_joined(said), name)
    if reports:
        return _gathered(reports, all_count=True)
    return _none(f"{name} is no report and no notebook.", "", "")


def _joined(said: dict[str, list[str]]) -> bytes:
    return "\n".join("".join(parts) for parts in said.values()).encode("utf-8", "replace")


def _from_damaged(data: bytes, name: str, error: Exception) -> Harvest:
    """A log of lines of JSON, or what is left of a document that was cut off or damaged."""
    said: dict[str, list[str]] = {}
    for line in _KAGGLES.finditer(data):
        try:
            head = _head.decode(line[0].strip(b"[], \t\r"))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if head.stream_name is not None:
            said.setdefault(head.stream_name, []).append(head.data or "")
    found = _from_text(_joined(said) if said else data, name)
    if found.reports or said or _MARK in data:
        return found
    return _none(
        f"{name} is damaged.", f"{str(error).rstrip('.')[:200]}.", "Take a fresh copy of it."
    )


def _from_notebook(notebook: _Notebook, name: str) -> Harvest:
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    shown = [(_as_json(out.data[_MIME]), name) for out in outputs if _MIME in out.data]
    printed = "".join(text if isinstance(text := out.text, str) else "".join(text)
                      for out in outputs if out.output_type == "stream")  # fmt: skip
    found = _gathered([*shown, *_told(printed.encode("utf-8", "replace"), name)])
    return found if found.reports or found.problems else _why_none(notebook, outputs, name)


def _as_json(raw: msgspec.Raw) -> bytes:
    """A report beside an output; some programs save JSON there as a text."""
    data = bytes(raw)
    if not data.startswith((b'"', b"[")):
        return data
    try:
        text = msgspec.json.decode(data, type=str | list[str])
    except msgspec.MsgspecError:
        return data
    return (text if isinstance(text, str) else "".join(text)).encode("utf-8", "replace")


def _why_none(notebook: _Notebook, outputs: list[_Output], name: str) -> Harvest:
    """Why a notebook holds no report."""
    has_run = any(cell.execution_count for cell in notebook.cells)
    stopped = next((out for out in outputs if out.output_type == "error"), None)
    if notebook.metadata.cloudrun is None:
        why = "It is none that cloudrun has made." if outputs else "It has no outputs."
        return _none(f"{name} holds no report.", why, "Make one: cloudrun colab --open")
    omitted = notebook.metadata.colab is not None and notebook.metadata.colab.private_outputs
    if not outputs and (omitted or has_run):
        return _none(f"{name} was saved without its outputs.", "The report is in them.", _OMITTED)
    if not outputs:
        why = "It was not run yet, or was saved without its outputs."
        return _none(f"{name} has no outputs.", why, _OMITTED)
    if stopped is not None:
        error = clean(f"{stopped.ename}: {stopped.evalue}"[:300])
        return _none(f"{name} stopped before its report.", f"It says: {error}.", _ASK_AGAIN)
    return _none(f"{name} was not run to its end.", "The last cells make the report.", _ASK_AGAIN)


def _from_text(data: bytes, name: str) -> Harvest:
    """A log: whatever was printed, and among it the report."""
    found = _gathered(_told(data, name))
    if found.reports or found.problems:
        return found
    return _none(
        f"{name} holds no report.",
        f"No line of it begins with {_MARK.decode()}",
        "Take the whole output of the notebook, or its results.json.",
    )


def _told(data: bytes, name: str) -> list[tuple[bytes, str] | BadData]:
    """The reports that were printed, by the lines that begin with the mark."""
    whole: list[tuple[bytes, str] | BadData] = []
    pieces: dict[str, dict[int, _Piece]] = {}
    for line in islice(_marked_lines(data), _MOST_LINES):
        try:
            piece = _piece.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            whole.append((line, name) if line.endswith(b"}") else _cut_off(name))
        else:
            pieces.setdefault(piece.id, {})[piece.part] = piece
    return whole + [_put_together(parts, name) for parts in pieces.values()]


def _marked_lines(data: bytes) -> Iterator[bytes]:
    at = data.find(_MARK)
    while at >= 0:
        start = at + len(_MARK)
        if data.startswith(b'{\\"', start):
            # Within a string of JSON, as in a notebook that cannot be read as a whole.
            found = _IN_JSON.match(data, start)
            end = found.end() if found else start
            line = _out_of_json(data[start:end])
        elif data.startswith(b"{", start):
            end = data.find(b"\n", start)
            end = end if end >= 0 else len(data)
            line = data[start:end]
        else:
            # The mark alone is the program that prints it.
            at = data.find(_MARK, start)
            continue
        # What may come behind it: a colour's end, a carriage return.
        last = line.rfind(b"}")
        is_whole = last >= 0 and len(line) - last <= 16
        yield line[: last + 1] if is_whole else line
        at = data.find(_MARK, end)


def _out_of_json(escaped: bytes) -> bytes:
    try:
        text = msgspec.json.decode(b'"' + escaped + b'"', type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return escaped
    return text.partition("\n")[0].encode("utf-8", "replace")


def _put_together(parts: dict[int, _Piece], name: str) -> tuple[bytes, str] | BadData:
    """A report out of its pieces."""
    of = next(iter(parts.values())).of
    if not 0 < of <= _MOST_LINES or sorted(parts) != list(range(1, of + 1)):
        return BadData(
            f"The report in {name} is not whole.",
            f"{len(parts)} of its {of} lines are there.",
            "Take the whole output, or the results.json that the notebook made.",
        )
    try:
        packed = base64.b64decode("".join(parts[number].zlib for number in range(1, of + 1)))
        unpacked = zlib.decompressobj().decompress(packed, schema.MOST_BYTES + 1)
    except (binascii.Error, zlib.error, ValueError):
        return _cut_off(name)
    return unpacked, name


def _cut_off(name: str) -> BadData:
    return BadData(
        f"The line with the report in {name} is cut off.",
        "Some logs keep only the beginning of long lines.",
        "Take the results.json that the notebook made.",
    )


def _gathered(
    found: Iterable[tuple[bytes, str] | BadData], *, all_count: bool = False
) -> Harvest:  # fmt: skip
    """Read reports, each id once. Of several forms of one, a broken form is no loss."""
    reports: dict[str, Report] = {}
    problems: list[BadData] = []
    for each in found:
        if isinstance(each, BadData):
            problems.append(each)
            continue
        try:
            report = schema.parse(*each)
        except BadData as error:
            problems.append(error)
        else:
            reports.setdefault(report.id, report)
    told = problems[:_MOST_PROBLEMS] if all_count or not reports else []
    return Harvest(list(reports.values()), told)
