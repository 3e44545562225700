from __future__ import annotations

import csv

import pytest

from cloudrun.reports.tables import csv_lines, markdown_lines, plain_markdown


@pytest.mark.parametrize(
    "text",
    ["NVIDIA A100-SXM4-80GB", "", "2.13.0+cu130", "显卡, 8192 (±3%)", "2026-11-24T08:57:51Z"],
)
def test_what_is_plain_stays_plain(text: str) -> None:
    assert plain_markdown(text) == text


@pytest.mark.parametrize(
    "text",
    ["![x](http://evil)", "<img src=x>", "@team", "#1", "www.evil.example", "WWW.evil.example",
     "http://evil.example", "a*b*", "[a]: b", "&amp;", "$a$", "~~a~~"],
)  # fmt: skip
def test_what_markdown_would_make_something_of_is_code(text: str) -> None:
    assert plain_markdown(text) == f"`{text}`"


def test_no_text_ends_its_code_or_its_cell() -> None:
    assert plain_markdown("a`b|c\\|d\\") == "`a'b\\|c/\\|d/`"
    assert "\n" not in plain_markdown("a\nb\x1b[2J")


def test_a_table_of_markdown() -> None:
    assert list(markdown_lines(["a", "b"], [["x|y", "1"]], right=[1])) == [
        "| a | b |\n",
        "| --- | ---: |\n",
        "| `x\\|y` | 1 |\n",
    ]


def test_csv_reads_back_and_no_text_is_a_formula() -> None:
    row = ["=cmd()", "+1", "-1", "@x", 'a "quoted", b', None, -1.5, True, "a\nb"]
    lines = list(csv_lines(["a"] * len(row), [row]))
    assert list(csv.reader(lines))[1] == [
        "'=cmd()", "'+1", "'-1", "'@x", 'a "quoted", b', "", "-1.5", "true", "a?b",
    ]  # fmt: skip
