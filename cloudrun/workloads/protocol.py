"""How a workload speaks: lines of JSON on its standard output, and nothing else there.

| event         | fields                                                        |
|---------------|---------------------------------------------------------------|
| `environment` | what `device.environment` returns                             |
| `begin`       | `step`, `index`, `of`, `limit_s`, `fatal`: a step begins      |
| `check`       | `name`, `status` (pass, fail, skip), `detail`, `remedy`       |
| `measurement` | what `measure.measure` returns                                |
| `note`        | `text`: one sentence for the reader                           |
| `finished`    | all steps are over                                            |
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, TextIO

_lines: TextIO = sys.stdout


def claim_stdout() -> None:
    """Keep the real standard output for our lines; send all other output to stderr.

    Libraries print to file descriptor 1 without asking (a driver's banner, a
    compiler's warning). One such line between ours would spoil the stream.
    """
    global _lines
    if _lines is not sys.stdout:
        return
    sys.stdout.flush()
    _lines = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)


def emit(event: str, **fields: Any) -> None:
    """Print one line. NaN and infinity are refused: JSON has no word for them."""
    _lines.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
    _lines.flush()


def note(text: str) -> None:
    """Say one sentence to the reader of the report."""
    emit("note", text=text)


def die_with_parent() -> None:
    """End this process when whoever started it is gone: its end of our stdin closes.

    A pipe closes even when the parent is killed with SIGKILL, on every system.
    """

    def wait_for_end() -> None:
        while os.read(0, 4096):
            pass
        os._exit(143)

    threading.Thread(target=wait_for_end, daemon=True, name="die-with-parent").start()
