"""What a run says while it goes on: plain data that the caller renders.

The launcher emits these; so does the workload, as lines of JSON, for the
kinds that carry its findings (see `cloudrun.workloads.protocol`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from cloudrun.model.offer import Plan
from cloudrun.model.run import Phase


class RunStarted(msgspec.Struct, frozen=True):
    """A run has its id and is in the journal."""

    run_id: str
    plan: Plan


class PhaseStarted(msgspec.Struct, frozen=True):
    """A phase begins; `predicted_seconds` is what the plan said of it."""

    phase: Phase
    predicted_seconds: float


class WorkloadSaid(msgspec.Struct, frozen=True):
    """One line of the workload's, decoded: see `cloudrun.workloads.protocol`."""

    line: dict[str, Any]


class CommandSaid(msgspec.Struct, frozen=True):
    """Bytes that the user's command said, on stream 1 (stdout) or 2 (stderr)."""

    stream: int
    data: bytes


class ResultsCame(msgspec.Struct, frozen=True):
    """So many files of results have come home."""

    files: int


class Noted(msgspec.Struct, frozen=True):
    """One sentence for the person who waits."""

    text: str


Event = RunStarted | PhaseStarted | WorkloadSaid | CommandSaid | ResultsCame | Noted
Listener = Callable[[Event], None]
