from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cloudrun.model.columns import width_of
from cloudrun.reports import build
from cloudrun.reports.schema import Report
from cloudrun.reports.text import render
from tests.doubles.reports import CPU, T4, document, measurement, report

GPU_PARAMS = {"dtype": "fp16", "m": 8192, "n": 8192, "k": 8192, "device": "cuda"}


def gpu_report(**fields: Any) -> Report:
    """A T4's report, its peaks put in as the launcher does."""
    environment = {"event": "environment", **T4}
    rows = [
        measurement(params=GPU_PARAMS, value=52.0, **fields),
        measurement(name="memory_copy", unit="GB/s", params={"device": "cuda"}, value=270.0),
        measurement(name="training", unit="tokens/s", params={"device": "cuda"}, value=120_000.0),
        measurement(name="training", unit="tokens/s", params={"device": "cpu"}, value=6_000.0),
    ]
    lines = [environment, *({"event": "measurement", **row} for row in rows)]
    findings = build.gather(msgspec.json.encode(line) for line in lines)
    whole = document(environment=T4, machine={"provider": "aws", "price_usd_per_hour": 0.526})
    whole["measurements"] = msgspec.to_builtins(findings.measurements)
    whole["cost"] = {"usd": 0.0105, "predicted_usd": 0.01, "basis": "hours x price"}
    return msgspec.convert(whole, Report)


def test_what_a_person_wants_first_stands_first() -> None:
    lines = render(report()).splitlines()
    assert lines[0].startswith("PASSED")
    assert "Test CPU, 2 threads, no GPU" in lines[1]


@pytest.mark.parametrize("width", [40, 66, 80])
def test_it_fits_the_terminal_whatever_the_names(width: int) -> None:
    long = {**CPU, "cpu": "A very long processor name " * 7, "os": "显卡" * 90}
    params = {"dtype": "某种格式" * 8, "device": "cpu"}
    whole = report(
        id="i" * 64,
        environment=long,
        notes=["a long note " * 40, "很长的说明没有空格" * 20],
        checks=[{"name": "n" * 60, "status": "fail", "detail": "word " * 100, "remedy": "y" * 300}],
        measurements=[
            measurement(stable=False, note="because " * 30, unit="单位" * 15, params=params)
        ],
        outcome="partial",
    )
    for text in (render(whole, width=width), render(gpu_report(), width=width)):
        assert max(map(width_of, text.splitlines())) <= width


def test_a_long_name_does_not_move_the_columns_behind_it() -> None:
    odd = measurement(params={"dtype": "a-format-of-tomorrow", "device": "cpu"}, unit="x" * 60)
    starts = {
        line.index("steady")
        for line in render(report(measurements=[odd, measurement(name="training")])).splitlines()
        if "steady" in line
    }
    assert starts == {46}


def test_a_gpus_numbers_say_how_good_they_are_for_it() -> None:
    text = render(gpu_report())
    assert "80% of the data sheet's 65: as it should be" in " ".join(text.split())
    assert "84% of the data sheet's 320: as it should be" in " ".join(text.split())
    assert "20 times this machine's CPU" in text
    assert "$0.01 ($0.53 an hour" in text.replace("at ", "")
    assert "no published peak" not in text


def test_a_boost_or_a_power_limit_is_seen_by_the_clock() -> None:
    state = {"clock_mhz": 1170.0, "power_w": 70.0, "temperature_c": 70.0, "throttled_by": []}
    text = " ".join(render(gpu_report(gpu=state)).split())
    # 40 x 1024 FLOP x 1170 MHz are 47.9 TFLOP/s.
    assert "109% of what its 1170 MHz allow" in text
    assert "MHz" not in render(gpu_report())


def test_the_first_seconds_stand_beside_the_headline_and_never_are_it() -> None:
    burst = measurement(name="matmul_burst", params=GPU_PARAMS, value=80.0, stable=False)
    warm = measurement(params=GPU_PARAMS, value=52.0, peak=65.0, peak_fraction=0.8)
    lines = render(report(environment=T4, measurements=[burst, warm])).splitlines()
    first, second = [line for line in lines if "fp16" in line]
    assert ("matrix product fp16" in first, "52 TFLOP/s" in first) == (True, True)
    assert ("first 2 s, fp16" in second, "80 TFLOP/s" in second) == (True, True)
    assert "65% of it is left when warm" in second
    assert "not steady" not in second


def test_energy_and_what_else_is_to_be_known_are_told() -> None:
    text = " ".join(render(gpu_report(per_joule=0.743, note="bound by its launch: 9%")).split())
    assert "0.743 TFLOP per joule" in text
    assert "bound by its launch: 9%" in text
    assert "not steady" not in text


def test_a_number_that_is_low_is_called_low() -> None:
    params = {"device": "cuda"}
    slow = measurement(
        name="memory_copy", unit="GB/s", params=params, value=100, peak=320, peak_fraction=0.31
    )
    text = " ".join(render(report(environment=T4, measurements=[slow])).split())
    assert "31% of the data sheet's 320: low" in text
    assert "held back" not in text
    slow["gpu"] = {"throttled_by": ["heat", "its power limit"]}
    text = " ".join(render(report(environment=T4, measurements=[slow])).split())
    assert "320: low, held back by heat, its power limit" in text


def test_a_cpu_gets_no_peak_but_a_yardstick_and_the_next_rung() -> None:
    text = " ".join(render(report()).split())
    assert "no published peak for this device" in text
    assert "65 TFLOP/s in fp16, 320 times this" in text
    assert "cloudrun colab --open" in text
    assert "cloudrun launch --on aws --gpu T4" in text
    assert "an hour (aws g4dn.xlarge, price of 2026-07-20)" in text


def test_an_unsteady_number_says_so_and_why() -> None:
    shaky = measurement(stable=False, note="other programs took 40% of the processor")
    text = " ".join(render(report(measurements=[shaky])).split())
    assert "not steady: other programs took 40% of the processor" in text


def test_a_failed_check_shows_its_sentence_and_its_remedy_and_no_next_rung() -> None:
    bad = {"name": "matmul", "status": "fail", "detail": "It is off.", "remedy": "Use another."}
    text = render(report(checks=[bad], outcome="failed"))
    assert text.startswith("FAILED")
    assert "matmul: It is off." in text
    assert "Use another." in text
    assert "Next" not in text


def test_a_partial_report_without_a_device_can_be_read() -> None:
    text = render(report(environment=None, measurements=[], outcome="partial"))
    assert text.startswith("PARTIAL")
    assert "no device that torch can use" in text


def test_hostile_text_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e"
    whole = report(
        environment={**CPU, "cpu": evil, "torch": evil, "os": evil},
        notes=[evil],
        checks=[{"name": evil, "status": "fail", "detail": evil, "remedy": evil}],
        measurements=[
            measurement(
                note=evil,
                stable=False,
                unit=evil,
                params={"dtype": evil, "device": "cpu"},
                peak=1.0,
                peak_fraction=0.2,
                per_joule=1.0,
                gpu={"throttled_by": [evil]},
            )
        ],
        machine={"provider": evil, "zone": evil},
    )
    text = render(whole)
    assert all(char.isprintable() or char == "\n" for char in text)


def test_colours_are_painted_by_role() -> None:
    text = render(report(), lambda text, role: f"<{role}>{text}</>")
    assert text.startswith("<good>PASSED</>")
