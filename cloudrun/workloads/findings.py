"""The two ways in which a check does not pass."""

from __future__ import annotations

# The remedies of last resort.
RETRY = "Run 'cloudrun launch' again; if it fails again, use another driver or machine."
WRONG_NUMBERS = "Trust no result of this device; run 'cloudrun launch' again, then use another one."


class Finding(Exception):
    """What a check has to say: one plain sentence, and one thing to do about it."""

    def __init__(self, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.remedy = remedy


class Failure(Finding):
    """The check was made and failed."""


class Skip(Finding):
    """The check cannot be made here; the sentence says why."""
