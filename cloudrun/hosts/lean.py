"""paramiko without invoke, whose import takes twice as long as all the rest of it.

paramiko needs it to run commands of an SSH configuration, which we read ourselves.
Import paramiko by `from cloudrun.hosts.lean import paramiko`.
"""

from __future__ import annotations

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

__all__ = ["paramiko"]
