"""The two ways in which a check does not pass."""

from __future__ import annotations


class Finding(Exception):
    """What a check has to say: one plain sentence, and one thing to do about it."""

    def __init__(self, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.remedy = remedy


class Failure(Finding):
    """The check was made and failed."""


class Skip(Finding):
    """The check cannot be made here; the sentence says why."""
