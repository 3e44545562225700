from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.reports import build
from tests.doubles.reports import CPU, T4, measurement


def lines(*said: dict[str, Any]) -> list[bytes]:
    return [json.dumps(line).encode() + b"\n" for line in said]


def on_gpu(environment: dict[str, Any], **fields: Any) -> build.Findings:
    params = {"dtype": "fp16", "m": 8192, "n": 8192, "k": 8192, "device": "cuda"}
    row = measurement(params=params, **fields)
    return build.gather(
        lines({"event": "environment", **environment}, {"event": "measurement", **row})
    )


def test_a_known_gpu_gives_the_data_sheets_peak_and_fraction() -> None:
    (row,) = on_gpu(T4, value=32.5).measurements
    assert (row.peak, row.peak_fraction) == (65.0, 0.5)


def test_bandwidth_is_compared_with_bandwidth() -> None:
    (row,) = on_gpu(T4, value=160.0, unit="GB/s", name="memory_copy").measurements
    assert (row.peak, row.peak_fraction) == (320.0, 0.5)


def test_an_unknown_gpu_gets_no_peak() -> None:
    strange = {**T4, "gpus": [{"name": "NVIDIA Zeta 9000", "memory_bytes": 2**34}]}
    (row,) = on_gpu(strange, value=32.5).measurements
    assert (row.peak, row.peak_fraction, row.bound) == (None, None, None)


def test_the_cpus_part_of_a_gpu_report_gets_no_gpu_peak() -> None:
    said = lines({"event": "environment", **T4}, {"event": "measurement", **measurement()})
    (row,) = build.gather(said).measurements
    assert row.peak is None


@pytest.mark.parametrize(
    ("flops", "moved", "bound"), [(1e12, 1e9, "compute"), (1e9, 1e9, "memory"), (None, 1e9, None)]
)
def test_the_roofline_tells_compute_from_memory(
    flops: float | None, moved: float, bound: str | None
) -> None:
    (row,) = on_gpu(T4, value=1.0, flops=flops, bytes=moved).measurements
    assert row.bound == bound


def test_a_number_above_what_physics_allows_fails_the_run() -> None:
    findings = on_gpu(T4, value=100.0)
    assert [check.status for check in findings.checks] == ["fail"]
    assert "cannot be true" in findings.checks[0].detail
    assert not findings.measurements[0].stable
    findings = on_gpu(T4, value=330.0, unit="GB/s", name="memory_copy")
    assert [check.status for check in findings.checks] == ["fail"]


def test_a_boost_above_the_sheet_is_no_failure() -> None:
    assert on_gpu(T4, value=70.0).checks == []


def at_clock(mhz: float | None) -> dict[str, Any]:
    return {"clock_mhz": mhz, "power_w": 70.0, "temperature_c": 60.0, "throttled_by": []}


def test_a_peak_is_corrected_by_the_clock_that_the_gpu_had() -> None:
    (row,) = on_gpu(T4, value=26.0, gpu=at_clock(795.0)).measurements
    # A T4 does 40 x 1024 FLOP in a clock; 65 TFLOP/s are reckoned at twice this clock.
    assert row.clock_corrected_peak == pytest.approx(32.5632)
    assert row.clock_corrected_fraction == 0.7984
    assert (row.peak, row.peak_fraction) == (65.0, 0.4)


@pytest.mark.parametrize(
    ("environment", "fields"),
    [
        (T4, {"gpu": None}),
        (T4, {"gpu": at_clock(None)}),
        (T4, {"gpu": at_clock(1590.0), "unit": "GB/s", "name": "memory_copy"}),
        ({**T4, "gpus": [{"name": "NVIDIA Zeta 9000"}]}, {"gpu": at_clock(1590.0)}),
    ],
)
def test_without_a_clock_or_a_peak_nothing_is_corrected(
    environment: dict[str, Any], fields: dict[str, Any]
) -> None:
    (row,) = on_gpu(environment, value=32.5, **fields).measurements
    assert (row.clock_corrected_peak, row.clock_corrected_fraction) == (None, None)


@pytest.mark.parametrize(("count", "peak"), [(40, 65.0), (None, 65.0), (20, None)])
def test_a_gpu_with_other_multiprocessors_than_the_sheets_has_not_its_peak(
    count: int | None, peak: float | None
) -> None:
    own = {**T4, "gpus": [{**T4["gpus"][0], "multiprocessors": count}]}
    (row,) = on_gpu(own, value=32.5, gpu=at_clock(1590.0)).measurements
    assert row.peak == peak
    assert (row.clock_corrected_peak is None) == (peak is None)


@pytest.mark.parametrize(
    ("value", "mhz", "statuses"),
    [
        (61.0, 1590.0, []),
        (66.0, 1590.0, []),  # 101 % of what that clock allows: within the reading of it
        (70.0, 1590.0, ["fail"]),  # 107 %; below the 115 % that hold without a clock
        (78.0, 1980.0, []),  # 120 % of the sheet's peak, but it boosted
        (40.0, 795.0, ["fail"]),  # 62 % of the sheet's peak, but at half of its clock
    ],
)
def test_a_number_above_what_its_clock_allows_fails_the_run(
    value: float, mhz: float, statuses: list[str]
) -> None:
    findings = on_gpu(T4, value=value, gpu=at_clock(mhz))
    assert [check.status for check in findings.checks] == statuses
    assert findings.measurements[0].stable is not bool(statuses)
    if statuses:
        assert f"at the {mhz:.0f} MHz that it ran at" in findings.checks[0].detail


def test_a_convolution_may_be_above_the_peak_since_its_flop_are_a_convention() -> None:
    findings = on_gpu(T4, value=130.0, name="convolution", gpu=at_clock(1590.0))
    assert findings.checks == []


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[1]",
        b'{"event": "check", "name": "a", "status": "splendid"}',
        b'{"event": "check"}',
        b'{"event": "measurement", "value": 1e999}',
        b'{"event": "note", "text": 7}',
        b'{"event": "note", "text": "' + b"x" * (9 * 2**20) + b'"}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_line_that_makes_no_sense_is_left_out_and_noted(line: bytes) -> None:
    findings = build.gather([line, *lines({"event": "environment", **CPU})])
    assert len(findings.notes) == 1
    assert len(findings.notes[0]) < 4000
    assert findings.environment is not None


def test_a_flood_of_nonsense_does_not_fill_the_report() -> None:
    assert len(build.gather([b"nonsense"] * 10_000).notes) <= 20


CHECK = {"event": "check", "name": "torch", "status": "pass"}
FAIL = {"event": "check", "name": "matmul", "status": "fail"}
ENVIRONMENT = {"event": "environment", **CPU}
FINISHED = {"event": "finished"}


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ([ENVIRONMENT, CHECK, FINISHED, FINISHED], "passed"),
        ([ENVIRONMENT, CHECK, FINISHED, FAIL, FINISHED], "failed"),
        ([ENVIRONMENT, CHECK, FINISHED], "partial"),
        ([ENVIRONMENT, FAIL], "partial"),
        ([FAIL, FINISHED], "failed"),
    ],
)
def test_the_outcome_follows_from_the_checks_and_the_ends(
    said: list[dict[str, Any]], outcome: str
) -> None:
    assert build.outcome(Need(), build.gather(lines(*said))) == outcome


def test_the_workloads_hash_changes_with_the_workloads(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = build.workload_sha256()
    (tmp_path / "smoke.py").write_text("changed")
    monkeypatch.setattr(build, "WORKLOADS", tmp_path)
    build.workload_sha256.cache_clear()
    assert build.workload_sha256() != ours
    build.workload_sha256.cache_clear()


def test_what_both_workloads_say_of_the_machine_is_noted_once() -> None:
    said = {"event": "note", "text": "There is an AMD GPU."}
    assert build.gather(lines(said, {"event": "finished"}, said)).notes == [said["text"]]


def test_a_report_that_is_made_names_nobody_unless_that_is_wished(home: Path) -> None:
    row = SimpleNamespace(
        id="a", created="2026-11-24T08:00:00.000Z", need=Need(targets=("ssh://max@box",)),
        argv=("cloudrun", "launch", "--on", "ssh://max@box"),
    )  # fmt: skip

    def made() -> str:
        return build.make_report(
            row, offer=Offer(provider="ssh", device="cpu"),
            findings=build.Findings(notes=["/home/max/x is full"]), timeline=(), usd=0.0,
            predicted_usd=0.0, outcome="passed",
        ).to_json().decode()  # fmt: skip

    assert not any(word in made() for word in ("max", "box"))
    home.mkdir()
    (home / "config.toml").write_text("[report]\nnames = true\n")
    assert "/home/max/x is full" in made()
    assert made().count("ssh://max@box") == 2
