"""paramiko without invoke, whose import takes twice as long as all the rest of it.

paramiko runs `Match exec` of an SSH configuration through invoke and needs it
for nothing else; `bring_invoke` gives it back for that. Import paramiko by
`from cloudrun.hosts.lean import paramiko`.
"""

from __future__ import annotations

import importlib
import logging
import sys
from typing import Any

_there: Any = sys.modules.get("invoke")
if _there is None:
    # So Python notes what cannot be imported; paramiko can do without.
    sys.modules["invoke"] = None  # type: ignore[assignment]
try:
    import paramiko
finally:
    if _there is None:
        del sys.modules["invoke"]

# What goes wrong is told by our own errors; its tracebacks would go to the terminal.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

__all__ = ["bring_invoke", "paramiko"]


def bring_invoke() -> None:
    """Let paramiko run commands of an SSH configuration."""
    importlib.import_module("paramiko.config").invoke = importlib.import_module("invoke")  # type: ignore[attr-defined]
