"""Texts on a terminal, counted in its columns: a Chinese character takes two, an accent none."""

from __future__ import annotations

import re
import unicodedata


def width_of(text: str) -> int:
    """The columns that a text takes."""
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, width: int) -> str:
    """The beginning of a text, as much as fits into `width` columns."""
    used = 0
    for at, char in enumerate(text):
        used += _width(char)
        if used > width:
            return text[:at]
    return text


def pad(text: str, width: int, right: bool = False) -> str:
    """Fill a text up with spaces to `width` columns, behind it or (`right`) before it."""
    space = " " * (width - width_of(text))
    return space + text if right else text + space


def wrap(text: str, width: int, whole_words: bool = False) -> list[str]:
    """Break a text into lines of at most `width` columns (2 or more), at its spaces.

    `whole_words`: a word that is longer than a line, such as a path, stands
    alone and sticks out, so that it can be copied; else it is cut.
    """
    lines: list[str] = []
    for gap, word in re.findall(r"(\s*)(\S+)", text):
        if lines and width_of(lines[-1] + gap + word) <= width:
            lines[-1] += gap + word
        else:
            lines += [word] if whole_words else _cut(word, width)
    return lines


def _cut(word: str, width: int) -> list[str]:
    pieces = [clip(word, width)]
    while rest := word[sum(map(len, pieces)) :]:
        pieces.append(clip(rest, width))
    return pieces
