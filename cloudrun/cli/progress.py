"""Renders what a run says: a line for each finding, and below them one that moves.

The moving line is for terminals only; without one, what happened is said in
plain lines, once each.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from cloudrun.cli import output
from cloudrun.model.columns import clip
from cloudrun.model.events import (
    CommandSaid,
    Event,
    Noted,
    PhaseStarted,
    ResultsCame,
    RunStarted,
    WorkloadSaid,
)
from cloudrun.model.offer import Plan
from cloudrun.model.words import clean, format_duration, format_usd

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

_MARKS = {"pass": ("ok", "green"), "skip": ("skip", "yellow"), "fail": ("FAIL", "red")}


class Progress:
    """A listener of `lifecycle.launch`; use it as a context manager."""

    def __init__(self, options: output.Options, command_to_stderr: bool = False) -> None:
        self._options = options
        self._command_to_stderr = command_to_stderr
        self.results = 0
        self._plan: Plan | None = None
        self._device = "cpu"
        self._started = time.monotonic()
        self._doing = "starting"
        self._console: Console | None = None
        self._live: Live | None = None

    @property
    def quiet(self) -> bool:
        """Whether to say nothing but results and errors."""
        return self._options.quiet

    def __enter__(self) -> Progress:
        if not self._options.quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.live import Live

            self._console = Console(stderr=True, highlight=False)
            self._live = Live(
                get_renderable=self._moving_line, console=self._console, transient=True
            )
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.pause()
        if self._plan is not None and not self._options.quiet:
            output.say("")

    def pause(self) -> None:
        """Take the moving line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: Event) -> None:
        """Render one event."""
        match event:
            case RunStarted():
                self._options.run_started = True
            case CommandSaid(stream, data):
                # The screen is the command's now.
                self.pause()
                pass_through(2 if self._command_to_stderr else stream, data)
            case ResultsCame(files):
                self.results += files
        if self._options.quiet:
            return
        match event:
            case RunStarted(run_id, plan):
                self._plan = plan
                best = plan.offers[0]
                self._say(
                    "",
                    f"Run {run_id} on {best.where} ({clip(best.device_in_words, 40)}): "
                    f"{_in_short(plan)}, {format_usd(plan.usd) if plan.usd else 'free'}.",
                )
            case PhaseStarted(phase):
                self._doing = phase
                if self._options.verbosity > 0:
                    self._say(f"  phase {phase}")
            case Noted(text):
                self._say("  ", text)
            case WorkloadSaid(line):
                self._workload_said(line)

    def _workload_said(self, line: dict[str, Any]) -> None:
        match line.get("event"):
            case "begin":
                number, of = line.get("index", 0) + 1, line.get("of")
                self._doing = f"{line.get('step')} ({number} of {of})".replace("_", " ")
            case "check":
                word, colour = _MARKS.get(str(line.get("status")), ("?", "red"))
                self._say(
                    f"  {word:<4}  {_name(line):<16}  ", str(line.get("detail")), word, colour
                )
            case "measurement":
                steady = "" if line.get("stable") else f" (not steady: {line.get('note')})"
                value = f"{line.get('value', 0.0):,.4g} {line.get('unit')}"
                self._say(f"  {'':<4}  {_measurement(line, self._device):<16}  ", value + steady)
            case "environment":
                self._device = str(line.get("device"))

    def _moving_line(self) -> Text:
        from rich.text import Text

        elapsed = time.monotonic() - self._started
        text = f"... {self._doing}, {format_duration(elapsed)}"
        if self._plan is not None:
            spent = elapsed / 3600 * self._plan.offers[0].usd_per_hour
            seconds = format_duration(self._plan.seconds)
            about = "about" if self._plan.need.command is None else "at most"
            text += f" of {about} {seconds}, {format_usd(spent)} so far"
        return Text(clean(text), no_wrap=True, overflow="ellipsis")

    def _say(self, label: str, text: str = "", mark: str = "", colour: str = "") -> None:
        """Say a line, above the moving one where there is one; only its mark is coloured."""
        line = output.hanging(clean(label), text)
        if mark:
            line = line.replace(mark, click.style(mark, fg=colour), 1)
        if self._console is None:
            click.echo(line, err=True)
        else:
            from rich.text import Text

            self._console.print(Text.from_ansi(line))


def pass_through(stream: int, data: bytes) -> None:
    """Write what the user's command says as it is: its bars and colours are its own."""
    target = (sys.stdout if stream == 1 else sys.stderr).buffer
    target.write(data)
    target.flush()


def _in_short(plan: Plan) -> str:
    if plan.need.command is not None:
        return f"{plan.need.in_words()}, at most {format_duration(plan.deadline_s)}"
    return f"{' and '.join(plan.need.workloads)}, about {format_duration(plan.seconds)}"


def _name(line: dict[str, Any]) -> str:
    return str(line.get("name")).replace("_", " ")


def _measurement(line: dict[str, Any], device: str) -> str:
    """A measurement in a few words: `matmul bf16 8192`, with `(CPU)` beside an accelerator's."""
    params = line.get("params") or {}
    parts = [_name(line)]
    if str(line.get("name")).startswith("matmul"):
        parts += [str(params.get("dtype")), str(params.get("m"))]
    if params.get("device") != device:
        parts.append(f"({params.get('device')})")
    return " ".join(parts)
