"""Run a workload's steps in a child process, each with a time limit.

A driver that crashes or hangs takes its process with it. Here that is a
finding about one step: the child is replaced and goes on with the next one.
This process never imports torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, Optional

from cloudrun.workloads.protocol import claim_stdout

# Until the first step begins, torch may have to be read from a slow new disk and the
# GPUs to be woken.
_START_LIMIT_S = 240.0
_DEATH_S = 10.0
# What waits to be read of the child. More, and the child waits: what it says must not fill
# the memory, in many lines or in one without an end.
_MOST_LINES, _MOST_LINE_BYTES = 64, 8 * 2**20
_BEFORE_FIRST = {"step": "start", "index": -1, "limit_s": _START_LIMIT_S, "fatal": True}

Line = dict[str, Any]


def follow(child: list[str]) -> Iterator[Line]:
    """Run `child` to its end, through as many deaths as it has steps; give its lines.

    A death is a line too: `{"event": "died", "how": ..., **begin}` with the
    fields of the `begin` line of the step it happened in, and `how` in words
    ("was killed by SIGSEGV"). After a fatal step nothing more is tried.

    Args:
        child: The command that runs the steps; `--from N` is added to it.
    """
    claim_stdout()
    first = 0
    while True:
        step, how = yield from _run_child([*child, "--from", str(first)])
        if how is None:
            return
        yield {**step, "event": "died", "how": how}
        if step["fatal"]:
            return
        first = step["index"] + 1


def _run_child(command: list[str]) -> Generator[Line, None, tuple[Line, Optional[str]]]:
    """Run one child. Returns the step it was in last, and how it died (None: it finished)."""
    process = subprocess.Popen(  # noqa: S603 - our own file, no shell
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    lines: queue.Queue[tuple[float, bytes]] = queue.Queue(_MOST_LINES)
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    step: Line = _BEFORE_FIRST
    ends = time.monotonic() + step["limit_s"]
    finished = False
    try:
        while True:
            came, raw = lines.get(timeout=max(0.0, ends - time.monotonic()))
            if not raw:
                break
            if came > ends:
                # Also for a child that says so much that there is always a next line.
                raise queue.Empty
            line = _parse(raw)
            if line is None:
                continue
            if line["event"] == "begin":
                step, ends = line, time.monotonic() + line["limit_s"]
            finished = finished or line["event"] == "finished"
            yield line
    except queue.Empty:
        return step, f"did not end within {step['limit_s']:.0f} s and was stopped"
    finally:
        _kill(process)
    return step, None if finished else _how_it_died(process.returncode)


def _read(pipe: Any, lines: queue.Queue[tuple[float, bytes]]) -> None:
    """Pass the child's lines on, with the moment at which each came; the last one is empty."""
    while raw := pipe.readline(_MOST_LINE_BYTES):
        lines.put((time.monotonic(), raw))
    lines.put((time.monotonic(), b""))


def _parse(raw: bytes) -> Optional[Line]:
    """Read a line; None when it is none, such as what a dying child left half written."""
    try:
        line = json.loads(raw)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "event" in line else None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the child and all that it started; give one that is ending by itself a moment."""
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        process.kill()
    if hasattr(os, "killpg"):
        # Nobody of its group may be left (macOS says so with EPERM).
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    # A process that a hung driver holds does not die; it is left behind.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_DEATH_S)


def _how_it_died(status: Optional[int]) -> str:
    if status is None:
        return "did not die when it was killed"
    if status == -getattr(signal, "SIGKILL", 9):
        return "was killed by SIGKILL (this machine may have run out of memory)"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def child_command(file: str, argv: list[str]) -> list[str]:
    """The command that runs this workload's steps: the same file, as the child."""
    return [sys.executable, file, "--child", *argv]
