from __future__ import annotations

from typing import Any

import pytest

from cloudrun.model.columns import width_of
from cloudrun.reports import plot
from tests.doubles.reports import measurement, report
from tests.reports.test_page import hostile


def bars_of(*rows: dict[str, Any], **more: Any) -> list[str]:
    lines = plot.render(report(measurements=rows, timeline=[]), **more).splitlines()
    return [line[29:69] for line in lines[1:]]


def test_a_bar_is_as_long_as_its_number_and_the_mark_is_at_the_peak() -> None:
    half, whole = bars_of(measurement(value=2.0, peak=3.0), measurement(value=4.0))
    assert half == "█" * 20 + " " * 10 + "|" + " " * 9
    assert whole == "█" * 40


def test_what_is_not_nothing_shows_a_little_and_eighths_count() -> None:
    rows = [measurement(value=value) for value in (100, 0.001, 0.0, 20.3125)]
    assert [bar.rstrip() for bar in bars_of(*rows)] == ["█" * 40, "▏", "", "█" * 8 + "▏"]


def test_units_are_not_mixed_and_known_ones_come_first() -> None:
    text = plot.render(
        report(
            measurements=[
                measurement(name="odd", unit="furlongs", value=9.0),
                measurement(name="memory_copy", unit="GB/s", value=300.0),
                measurement(value=1.0),
            ]
        )
    )
    titles = [line.partition("   ")[0] for line in text.splitlines() if line[:1].strip()]
    assert titles == ["Arithmetic, TFLOP/s", "Memory, GB/s", "furlongs", "Time"]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_it_fits_whatever_a_report_says(width: int) -> None:
    text = plot.render(hostile(), width=width)
    lines = text.splitlines()
    assert max(map(width_of, lines)) <= width
    assert len(lines) < 100
    assert all(char.isprintable() for line in lines for char in line)


def test_a_report_without_numbers_gives_the_time_only() -> None:
    text = plot.render(report(measurements=[]))
    assert text.splitlines()[1].split() == ["run", "█" * 30, "|", "30", "s"]
    assert plot.render(report(measurements=[], timeline=[])) == ""


def test_no_text_of_a_report_steers_the_terminal() -> None:
    evil = measurement(name="\x1b[2J", unit="\u202e", params={"device": "\x07", "dtype": "\n"})
    text = plot.render(report(measurements=[evil]))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "?[2J ? ?" in text
