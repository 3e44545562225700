"""Reading the catalogue's CSV files."""

from __future__ import annotations

import csv
from pathlib import Path


def read(name: str) -> list[dict[str, str]]:
    """The rows of a CSV file in this folder, each by the names in its first line."""
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    """A number, or None where the cell is blank: never zero for unknown."""
    return float(text) if text else None
