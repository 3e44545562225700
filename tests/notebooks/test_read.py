"""Reports out of single documents: whole ones, damaged ones, and ones that mean harm."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from cloudrun.templates.notebook_report import LONGEST_LINE, MIME, report_lines

from cloudrun.notebooks import read
from cloudrun.notebooks.build import to_bytes, workloads_notebook
from cloudrun.notebooks.read import harvest
from tests.doubles.reports import document, measurement

MARK = "CLOUDRUN_REPORT:"


def long_report() -> dict[str, Any]:
    rows = [measurement(value=number / 7) for number in range(1, 900)]
    return document(measurements=rows)


def notebook(
    *outputs: dict[str, Any], ours: bool = True, ran: bool = True, **colab: Any
) -> dict[str, Any]:
    """A notebook of ours with these outputs in its last cell but one."""
    made = workloads_notebook("smoke", "quick")
    cell = next(cell for cell in made["cells"] if cell["id"] == "make-report")
    cell["outputs"] = list(outputs)
    cell["execution_count"] = 9 if ran else None
    made["metadata"]["colab"].update(colab)
    if not ours:
        del made["metadata"]["cloudrun"]
    return made


def shown(report: Any) -> dict[str, Any]:
    data = {MIME: report, "text/plain": "Report"}
    return {"output_type": "display_data", "metadata": {}, "data": data}


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text.splitlines(keepends=True)}


def error(name: str, value: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": []}


def ids(data: bytes | dict[str, Any] | list[Any] | str) -> list[str]:
    return [report.id for report in found(data).reports]


def found(data: bytes | dict[str, Any] | list[Any] | str) -> read.Harvest:
    if isinstance(data, dict | list):
        data = json.dumps(data).encode()
    return harvest(data.encode() if isinstance(data, str) else data, "it")


def why(data: bytes | dict[str, Any] | list[Any] | str) -> str:
    harvested = found(data)
    assert harvested.reports == []
    (problem,) = harvested.problems
    return str(problem)


OWN = document()["id"]
LINES = "\n".join(report_lines(document())) + "\n"


@pytest.mark.parametrize(
    "data",
    [
        document(),
        [document()],
        notebook(shown(document())),
        notebook(stream(LINES)),
        notebook(stream(LINES), ours=False),
        # Each form makes up for the others.
        notebook(shown({"schema": "x"}), stream(LINES)),
        notebook(shown(document()), stream(LINES[:200])),
        # Some programs keep JSON beside an output as text.
        notebook(shown(json.dumps(document()))),
        notebook(shown(json.dumps(document(), indent=1).splitlines(keepends=True))),
        {**notebook(stream(LINES)), "nbformat_minor": 0},
        to_bytes(notebook({"output_type": "stream", "name": "stdout", "text": LINES})),
        b"\xef\xbb\xbf" + json.dumps(document()).encode(),
        LINES,
        f"epoch 1\r\n{LINES.rstrip()}\r\nbye\r\n",
        f"[colab] \x1b[32m{LINES.rstrip()}\x1b[0m\n",
        f"12.3s 4 {LINES}",
        f"{LINES}{LINES}",
        [{"stream_name": "stdout", "time": 1.5, "data": LINES}],
        # A line that came in two parts, as logs have it.
        [
            {"stream_name": "stdout", "time": 1.5, "data": LINES[:99]},
            {"stream_name": "stderr", "time": 1.6, "data": "a warning\n"},
            {"stream_name": "stdout", "time": 1.7, "data": LINES[99:]},
        ],
        json.dumps({"stream_name": "stdout", "time": 1, "data": LINES}),
        "\n".join(
            json.dumps({"stream_name": "stdout", "time": 1, "data": part})
            for part in ("hello\n", LINES[:50], LINES[50:])
        ),
        # Kaggle's log of a session that has not ended: its list is open.
        "[" + json.dumps({"stream_name": "stdout", "time": 1, "data": "x\n"})
        + "\n," + json.dumps({"stream_name": "stdout", "time": 2, "data": LINES}) + "\n",
        # A notebook that was cut off behind its report, or holds what is no JSON.
        json.dumps(notebook(stream(LINES)), indent=1)[:-9],
        json.dumps(notebook(stream(LINES)))[:-9],
        json.dumps(notebook(stream(LINES), shown({"x": float("nan")}))),
    ],
    ids=lambda _: "case",
)  # fmt: skip
def test_a_report_is_found(data: Any) -> None:
    assert ids(data) == [OWN]
    assert found(data).problems == []


def test_a_long_report_goes_over_several_lines() -> None:
    lines = report_lines(long_report())
    assert len(lines) > 2
    assert max(map(len, lines)) < LONGEST_LINE + 200
    text = "\n".join(["before", *lines[:2], "between", *lines[2:], "behind"])
    (report,) = found(text).reports
    assert json.loads(report.to_json())["measurements"][-1]["value"] == 899 / 7
    assert ids(notebook(stream(text))) == [OWN]
    # In any order, as a log of several streams may have it.
    assert ids("\n".join(reversed(lines))) == [OWN]


def test_a_report_of_which_lines_are_missing() -> None:
    lines = report_lines(long_report())
    assert f"{len(lines) - 1} of its {len(lines)} lines" in why("\n".join(lines[1:]))
    cut, missing = found("\n".join([*lines[:-1], lines[-1][:100]])).problems
    assert "cut off" in str(cut)
    assert "is not whole" in str(missing)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"  \n", "is empty"),
        ("hello", "No line of it begins with CLOUDRUN_REPORT:"),
        ({"x": 1}, "no report and no notebook"),
        ([], "no report and no notebook"),
        ([1, 2], "damaged"),
        ('{"x": ', "damaged"),
        ({"cells": 5}, "damaged"),
        (LINES[:300], "cut off"),
        (f"{MARK}{{", "cut off"),
        (notebook(stream(LINES[:300])), "cut off"),
        (document(schema="cloudrun.report/v9"), "reads 'cloudrun.report/v1' only"),
        (notebook(shown(document(schema="cloudrun.report/v9"))), "'cloudrun.report/v9'"),
        (f"{MARK}{json.dumps(document(schema='cloudrun.report/v9'))}\n", "'cloudrun.report/v9'"),
        (document(outcome="splendid"), "damaged or is no report"),
        (notebook(ran=False), "was not run yet, or was saved without its outputs"),
        (notebook(), "was saved without its outputs. The report is in them."),
        (notebook(ran=False, private_outputs=True), "Omit code cell output when saving"),
        (notebook(stream("hello\n")), "was not run to its end"),
        (notebook(error("NameError", "x\x1b[2J")), "It says: NameError: x?[2J."),
        (notebook(ours=False, ran=False), "It has no outputs"),
        (notebook(stream("hello\n"), ours=False), "It is none that cloudrun has made"),
    ],
    ids=lambda _: "case",
)  # fmt: skip
def test_why_there_is_none(data: Any, says: str) -> None:
    assert says in why(data)


def test_a_list_tells_of_each_that_is_wrong() -> None:
    harvested = found([document(id="one1"), document(schema="x"), document(id="two2")])
    assert [report.id for report in harvested.reports] == ["one1", "two2"]
    assert "number 2" in str(harvested.problems[0])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-1", "1e300", '"1"'])
def test_numbers_beyond_reason(number: str) -> None:
    text = json.dumps(document(measurements=[measurement()])).replace("0.2", number, 1)
    assert number in text
    assert why(text)
    assert why(f"{MARK}{text}\n")


def test_a_bomb_in_a_line_takes_no_memory() -> None:
    bomb = base64.b64encode(zlib.compress(b"{" * 100_000_000)).decode()
    line = MARK + json.dumps({"id": "x", "part": 1, "of": 1, "zlib": bomb})
    import tracemalloc

    tracemalloc.start()
    assert "MiB" in why(line)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60 * 2**20


@pytest.mark.parametrize(
    "piece",
    [
        {"id": "x", "part": 1, "of": 10**18, "zlib": ""},
        {"id": "x", "part": 1, "of": -1, "zlib": ""},
        {"id": "x", "part": 1, "of": 1, "zlib": "not base64!"},
        {"id": "x", "part": 1, "of": 1, "zlib": base64.b64encode(b"not zlib").decode()},
        {"id": "x", "part": 1, "of": 1, "zlib": "ü"},
    ],
)
def test_pieces_that_make_no_sense(piece: dict[str, Any]) -> None:
    assert why(MARK + json.dumps(piece))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"cells":' * 50_000,
        b'{"cells": [{"outputs": [{"output_type": "stream", "text": 5}]}]}',
        b'{"cells": [], "metadata": {"cloudrun": "\xff\xfe"}}',
        b'{"schema": "cloudrun.report/v1", "id": "\\ud800"}',
        b"\xff\xfe\x00",
        MARK.encode() * 10_000,
        (MARK + "{").encode() * 1000,
        MARK.encode() + b'{\\"' + b"\\" * 1_000_001,
        (MARK + '{\\"schema\\": 1}').encode(),
    ],
    ids=lambda _: "case",
)
def test_nonsense_is_told_as_such(data: bytes) -> None:
    assert found(data).reports == []
    assert found(data).problems


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"0," * 3_000_000 + b"0]",
        b'{"cells": [' + b"{}," * 3_000_000 + b"{}]}",
        b"[" + b"\n" * 8_000_000,
        (MARK + "{").encode() * 300_000,
        (MARK + '{\\""').encode() * 300_000,
        (MARK + "{\n").encode() * 300_000,
    ],
    ids=lambda _: "case",
)
def test_what_is_made_to_take_memory_or_time_takes_little(data: bytes) -> None:
    import tracemalloc

    tracemalloc.start()
    assert found(data).reports == []
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * len(data) + 50 * 2**20
    assert len(found(data).problems) <= 20


def test_a_notebook_of_very_many_parts_is_looked_through_as_a_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read, "_MOST_PARTS", 100)
    assert ids(notebook(stream(LINES))) == [OWN]


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MOST_BYTES", 100)
    assert "larger than" in why(document())
