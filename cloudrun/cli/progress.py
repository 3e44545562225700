"""Renders what a run says: a line for each finding, and below them one that moves.

The moving line is for terminals only; without one, what happened is said in
plain lines, once each.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from cloudrun.cli import output
from cloudrun.model.events import Event, Noted, PhaseStarted, RunStarted, WorkloadSaid
from cloudrun.model.offer import Plan
from cloudrun.model.words import clean, format_duration, format_usd

if TYPE_CHECKING:
    from rich.status import Status

_MARKS = {"pass": ("ok", "green"), "skip": ("skip", "yellow"), "fail": ("FAIL", "red")}


class Progress:
    """A listener of `lifecycle.launch`; use it as a context manager."""

    def __init__(self, options: output.Options) -> None:
        self._options = options
        self._plan: Plan | None = None
        self._started = time.monotonic()
        self._doing = ""
        self._status: Status | None = None

    def __enter__(self) -> Progress:
        if not self._options.quiet and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.pause()
        if self._plan is not None and not self._options.quiet:
            output.say("")

    def pause(self) -> None:
        """Take the moving line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def __call__(self, event: Event) -> None:
        """Render one event."""
        if self._options.quiet:
            return
        match event:
            case RunStarted(run_id, plan):
                self._plan = plan
                best = plan.offers[0]
                self._say(
                    "",
                    f"Run {run_id} on {best.where} ({best.gpu or best.device.upper()}): "
                    f"{' and '.join(plan.need.workloads)}, about {format_duration(plan.seconds)}, "
                    f"{format_usd(plan.usd) if plan.usd else 'free'}.",
                )
            case PhaseStarted(phase):
                self._doing = phase
                if self._options.verbosity > 0:
                    self._say(f"  phase {phase}", dim=True)
            case Noted(text):
                self._say("  ", text, fg="yellow")
            case WorkloadSaid(line):
                self._workload_said(line)
        self._show_status()

    def _workload_said(self, line: dict[str, Any]) -> None:
        match line.get("event"):
            case "begin":
                number, of = line.get("index", 0) + 1, line.get("of")
                self._doing = f"{line.get('step')} ({number} of {of})"
            case "check":
                word, colour = _MARKS.get(str(line.get("status")), ("?", "red"))
                self._say(f"  {word:<4}  {_name(line):<16}  ", str(line.get("detail")), fg=colour)
            case "measurement":
                steady = "" if line.get("stable") else f" (not steady: {line.get('note')})"
                value = f"{line.get('value', 0.0):,.4g} {line.get('unit')}"
                self._say(f"  {'':<4}  {measurement_name(line):<16}  ", value + steady)

    def _show_status(self) -> None:
        if self._status is None:
            return
        elapsed = time.monotonic() - self._started
        text = f"{self._doing}, {format_duration(elapsed)}"
        if self._plan is not None:
            spent = elapsed / 3600 * self._plan.offers[0].usd_per_hour
            text += f" of about {format_duration(self._plan.seconds)}, {format_usd(spent)} so far"
        self._status.update(clean(text))

    def _say(self, label: str, text: str = "", **style: Any) -> None:
        output.say(output.hanging(clean(label), text), **style)


def _name(line: dict[str, Any]) -> str:
    return str(line.get("name")).replace("_", " ")


def measurement_name(line: dict[str, Any]) -> str:
    """A measurement in a few words: `matmul bf16`, `memory copy`, with `(CPU)` beside a GPU."""
    params = line.get("params") or {}
    parts = [_name(line)]
    if line.get("name") == "matmul":
        parts.append(str(params.get("dtype")))
    return " ".join(parts)
