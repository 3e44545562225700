from __future__ import annotations

import pytest

from cloudrun.model.columns import clip, pad, width_of, wrap


def test_wide_characters_take_two_columns_and_accents_none() -> None:
    assert width_of("T4 显卡") == 7
    assert width_of("e\u0301") == 1


@pytest.mark.parametrize(
    ("text", "width", "kept"), [("显卡x", 3, "显"), ("显卡x", 5, "显卡x"), ("abc", 0, "")]
)
def test_a_text_is_clipped_where_its_columns_end(text: str, width: int, kept: str) -> None:
    assert clip(text, width) == kept


def test_a_text_is_padded_to_its_columns() -> None:
    assert pad("显", 4) == "显  "
    assert pad("显", 4, right=True) == "  显"


@pytest.mark.parametrize("width", range(2, 12))
def test_no_line_is_wider_than_asked_and_nothing_is_lost(width: int) -> None:
    text = "显卡显卡显卡 and  words, some-of-them-long 显x"
    lines = wrap(text, width)
    assert max(map(width_of, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_whole_word_sticks_out_alone_and_gaps_within_a_line_stay() -> None:
    assert wrap("Cost      about /a/path/to/copy now", 11, whole_words=True) == [
        "Cost",
        "about",
        "/a/path/to/copy",
        "now",
    ]
    assert wrap("Cost      $1", 20) == ["Cost      $1"]
    assert wrap("", 20) == []
