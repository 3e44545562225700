"""How people write durations, numbers and names, and how we write them back."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable

from cloudrun.errors import WrongUsage

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])")
_LONGEST_S = 30 * 24 * 3600


def parse_duration(text: str) -> int:
    """Read a duration such as `90s`, `45m`, `2h` or a sum (`1h30m`): whole seconds.

    Raises:
        WrongUsage: it is not a duration, is zero, or is longer than 30 days.
    """
    compact = text.strip().lower().replace(" ", "")
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        bare = re.fullmatch(r"[1-9][0-9]{0,4}", compact)
        guess = f" Did you mean '{compact}m'?" if bare else ""
        raise WrongUsage(
            f"'{text}' is not a duration.",
            "A duration is a number with s, m or h behind it, or a sum of such.",
            f"Write it like 90s, 45m, 2h or 1h30m.{guess}",
        )
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 1 <= seconds <= _LONGEST_S:
        raise WrongUsage(
            f"The duration '{text}' is out of range.",
            "The shortest is 1s; the longest is 720h (30 days).",
            "Write it like 90s, 45m or 2h.",
        )
    return math.ceil(seconds)


def format_duration(seconds: float) -> str:
    """Write seconds as a person would: `0.4 s`, `41 s`, `2 min 05 s`, `1 h 30 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_usd(usd: float) -> str:
    """Write money in US dollars; below one cent with enough digits not to read as nothing."""
    if usd == 0 or usd >= 0.005:
        return f"${usd:.2f}"
    return f"${usd:.4f}" if usd >= 0.00005 else "under $0.0001"


def format_bytes(count: float) -> str:
    """Write a number of bytes in binary units: `15.6 GiB`, `512 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def format_number(value: float) -> str:
    """Write a measured number in three digits or whole: `0.213`, `48.4`, `52,914`, `1e+12`."""
    return f"{value:,.0f}" if 100 <= value < 1e9 else f"{value:.3g}"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Give the known word that is most like `word`, case aside; None when none is."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Make the sentence that offers the nearest known word, or lists them all."""
    names = list(known)
    close = nearest(word, names)
    return f"Did you mean '{close}'?" if close else f"Known: {', '.join(names)}."


def clean(text: str) -> str:
    """Take out what would steer a terminal: control, escape and direction characters.

    A text from elsewhere (a report, a machine) must not move the reader's
    cursor or reverse his text.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "?" for char in text)
