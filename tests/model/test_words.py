from __future__ import annotations

import pytest

from cloudrun.errors import WrongUsage
from cloudrun.model import words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), (" 1.5H ", 5400), ("0.5m1s", 31)],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert words.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "5 minutes", "1d", "0s", "721h", "1e3s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        words.parse_duration(text)
    assert "90s" in caught.value.try_this


def test_a_bare_number_gets_the_likely_duration_offered() -> None:
    with pytest.raises(WrongUsage, match="Did you mean '10m'"):
        words.parse_duration("10")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (41.2, "41 s"),
        (125, "2 min 05 s"),
        (5400, "1 h 30 min"),
        (59.7, "1 min 00 s"),
    ],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    assert words.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0, "$0.00"),
        (0.526, "$0.53"),
        (0.0042, "$0.0042"),
        (0.00001, "under $0.0001"),
        (98.32, "$98.32"),
    ],
)
def test_money_never_reads_as_nothing_when_it_is_something(usd: float, text: str) -> None:
    assert words.format_usd(usd) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (16 * 2**30, "16 GiB"), (2**42, "4 TiB")]
)
def test_bytes_are_written(count: int, text: str) -> None:
    assert words.format_bytes(count) == text


def test_the_nearest_word_is_offered_else_all() -> None:
    assert words.did_you_mean("QUIK", ["quick", "full"]) == "Did you mean 'quick'?"
    assert words.did_you_mean("zzz", ["quick", "full"]) == "Known: quick, full."


def test_clean_text_cannot_steer_a_terminal() -> None:
    hostile = "a\x1b[2Jb\rc\x07d\u202ee\x9bf\ng"
    assert words.clean(hostile) == "a?[2Jb?c?d?e?f?g"
    assert words.clean("显卡 T4 é") == "显卡 T4 é"
