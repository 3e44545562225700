from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from cloudrun.errors import BadData
from cloudrun.reports import schema
from tests.doubles.reports import T4, document, measurement, report


def parse(**fields: Any) -> schema.Report:
    return schema.parse(json.dumps(document(**fields)).encode(), "test")


def test_a_report_survives_a_round_trip() -> None:
    original = report()
    assert schema.parse(original.to_json(), "test") == original


def test_the_published_schema_accepts_ours_and_refuses_another() -> None:
    published = schema.json_schema()
    jsonschema.validate(json.loads(report().to_json()), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document(outcome="splendid"), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({k: v for k, v in document().items() if k != "schema"}, published)


def test_a_report_from_before_a_field_was_added_has_it_empty() -> None:
    (row,) = parse().measurements
    assert (row.clock_corrected_peak, row.event_s, row.wall_s, row.joules) == (None,) * 4
    environment = parse(environment=T4).environment
    assert environment is not None
    (gpu,) = environment.gpus
    assert (gpu.uuid, gpu.vbios) == (None, None)


def test_fields_of_a_later_v1_are_ignored() -> None:
    assert parse(later={"a": 1}).id == "atestreport2"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b'{"schema": 1}', "damaged"),
        (b"[" * 100_000, "damaged"),
        (report().to_json()[:-100], "damaged"),
        (report().to_json().replace(b"report/v1", b"report/v2"), "report/v2"),
        (b'{"schema": "someone.else/v1"}', "someone.else/v1"),
        (b" " * (schema.MOST_BYTES + 1), "MiB"),
    ],
)
def test_what_is_no_report_is_bad_data(data: bytes, says: str) -> None:
    with pytest.raises(BadData) as caught:
        schema.parse(data, "the-name")
    assert says in str(caught.value)
    assert "the-name" in caught.value.what


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "../../etc/passwd"},
        {"id": ""},
        {"created": "yesterday"},
        {"created": "2026-13-24T08:12:51Z"},
        {"outcome": "splendid"},
        {"measurements": [measurement(value=-1.0)]},
        {"measurements": [measurement(samples=[-0.5])]},
        {"measurements": [measurement(unit="x" * 201)]},
        {"measurements": [measurement(params={"a": {"deep": 1}})]},
        {"timeline": [{**document()["timeline"][0], "seconds": -3}]},
        {"checks": [{"name": "a", "status": "maybe"}]},
        {"provenance": {"cloudrun": "1", "workload_sha256": "short"}},
        {"notes": ["x"] * 101},
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BadData):
        parse(**fields)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1" + "0" * 400])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    text = json.dumps(document()).replace('"value": 0.2', f'"value": {number}')
    with pytest.raises(BadData):
        schema.parse(text.encode(), "test")
