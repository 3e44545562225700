"""A real GPU with one command: get it, prove it, measure it, leave nothing running.

The library's face. The command line is a thin layer over these names:

    >>> import cloudrun
    >>> report = cloudrun.launch(cloudrun.Need(profile="quick"))    # doctest: +SKIP
    >>> report.outcome                                              # doctest: +SKIP
    'passed'

Nothing is imported before it is used, so that `cloudrun --help` costs no more
than Click itself.
"""

from __future__ import annotations

# As typing has it, which takes milliseconds to import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloudrun.launcher.lifecycle import Around, launch, run
    from cloudrun.model.need import Need
    from cloudrun.reports.schema import Report

__version__ = "0.1.0"
__all__ = ["Around", "Need", "Report", "__version__", "launch", "run"]

_HOME_OF = {
    "Around": "cloudrun.launcher.lifecycle",
    "run": "cloudrun.launcher.lifecycle",
    "launch": "cloudrun.launcher.lifecycle",
    "Need": "cloudrun.model.need",
    "Report": "cloudrun.reports.schema",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'cloudrun' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)
