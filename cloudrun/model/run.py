"""A run is one pass through all phases, with an id; it is journaled before it acts."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Literal

Phase = Literal["plan", "provision", "connect", "prepare", "push", "run", "collect", "end"]
PHASES: tuple[Phase, ...] = (
    "plan",
    "provision",
    "connect",
    "prepare",
    "push",
    "run",
    "collect",
    "end",
)
Outcome = Literal["passed", "failed", "partial"]

# Without the letters that are read as digits, or the other way round.
_ID_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"
_ID_LENGTH = 12


def new_run_id() -> str:
    """Make a run's id: 12 letters and digits, 59 bits, safe in any cloud's labels.

    It begins with a letter, as the names of some clouds' machines must.
    """
    letter = secrets.choice(_ID_ALPHABET[:22])
    return letter + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH - 1))


def now() -> str:
    """The present moment, RFC 3339 in UTC with milliseconds."""
    return rfc3339(datetime.now(UTC))


def later(seconds: float) -> str:
    """The moment so many seconds from now, as `now` writes it."""
    return rfc3339(datetime.now(UTC) + timedelta(seconds=seconds))


def seconds_until(moment: str) -> float:
    """How many seconds a moment (RFC 3339) is away; none when it is past."""
    return max(0.0, (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds())


def rfc3339(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
