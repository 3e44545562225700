from __future__ import annotations

import csv
import json
from typing import Any

from cloudrun.reports import export
from tests.doubles.reports import T4, measurement, report

PAID = {"provider": "aws", "instance_type": "g4dn.xlarge", "price_usd_per_hour": 0.526}
STATE = {"clock_mhz": 1590.0, "throttled_by": ["heat", "power limit"]}


def reports() -> list[Any]:
    both = [
        measurement(value=24.0, params={"dtype": "fp16", "device": "cuda"}, gpu=STATE),
        measurement(value=0.2, params={"dtype": "fp16", "device": "cpu"}),
    ]
    return [report(id="a", environment=T4, machine=PAID, measurements=both), report(id="b")]


def test_a_row_is_a_measurement_with_where_it_was_made() -> None:
    first, second, third = export.rows(reports())
    assert first.keys() == second.keys() == third.keys()
    assert (first["report"], first["gpu"], first["usd_per_hour"]) == ("a", "Tesla T4", 0.526)
    assert (first["value"], first["clock_mhz"]) == (24.0, 1590.0)
    assert first["throttled_by"] == "heat; power limit"
    assert (first["measurement"], second["measurement"]) == (
        "matmul fp16",
        "matmul fp16 on its cpu",
    )
    assert (third["gpu"], third["measurement"]) == ("Test CPU", "matmul fp32 2048")


def test_nothing_private_is_in_it() -> None:
    private = {"cloudrun": "0.1.0", "workload_sha256": "0" * 64, "argv": ["--on", "ssh://me@box"]}
    run = {"id": "a", "workload": "all", "profile": "quick", "target": "ssh://me@box"}
    text = "".join(export.as_json(export.rows([report(provenance=private, run=run)])))
    assert "box" not in text


def test_json_and_csv_hold_the_same() -> None:
    rows = list(export.rows(reports()))
    assert json.loads("".join(export.as_json(rows))) == rows
    read = list(csv.DictReader(export.as_csv(rows)))
    assert [row["value"] for row in read] == ["24.0", "0.2", "0.2"]
    assert read[0].keys() == rows[0].keys()


def test_without_rows_json_is_an_empty_list() -> None:
    assert json.loads("".join(export.as_json([]))) == []
    assert "".join(export.as_csv([])) == ""
    assert len(list(export.as_markdown([]))) == 2


def test_markdown_has_the_columns_that_people_read() -> None:
    lines = list(export.as_markdown(export.rows(reports())))
    assert lines[0].startswith("| report | created | gpu |")
    assert "| 24 | 24 | 24 | yes | 0.526 |" in lines[2]
    assert len(lines) == 5


def test_a_report_without_an_environment_has_all_columns() -> None:
    (row,) = export.rows([report(environment=None)])
    assert row.keys() == next(export.rows(reports())).keys()
    assert row["gpu"] == "unknown"
