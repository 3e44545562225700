"""The shell scripts that run on a machine, out of templates/, with their variables set."""

from __future__ import annotations

import functools
import shlex
from importlib import resources


def render(name: str, **variables: str | int | float) -> str:
    """Give a script with its variables set before its first line.

    Args:
        name: The file in templates/, such as `follow.sh`.
        variables: What the script says that it takes; quoted for the shell here.
    """
    lines = [f"{key}={shlex.quote(str(value))}" for key, value in variables.items()]
    # With it, `cd` says where it goes, among what the script says.
    return "\n".join(["unset CDPATH", *lines, text(name)])


@functools.cache
def text(name: str) -> str:
    """The text of a file in templates/."""
    return resources.files("cloudrun.templates").joinpath(name).read_text("utf-8")
