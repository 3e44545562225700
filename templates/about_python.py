"""What a Python says of itself, without loading torch. It may be any Python, of 2.7 even."""

import json
import sys


def about():
    """Tell the version and, of a Python that is new enough, what it has."""
    found = {"version": list(sys.version_info[:3])}
    if sys.version_info >= (3, 9):
        found.update(possessions())
    return found


def possessions():
    """Tell where this Python lives, and which of the packages that matter it has."""
    import os
    import site
    import sysconfig

    user = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    return {
        "prefix": sys.prefix,
        "is_venv": sys.prefix != sys.base_prefix,
        "sites": [folder for folder in user + site.getsitepackages() if os.path.isdir(folder)],
        "purelib": sysconfig.get_path("purelib"),
        "torch": version_of("torch"),
        "pip": version_of("pip"),
        "venv": has("venv"),
        "ensurepip": has("ensurepip"),
    }


def has(module):
    """Whether a module could be imported."""
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def version_of(module):
    """The version of a module that could be imported; None when it could not."""
    import importlib.metadata

    if not has(module):
        return None
    try:
        return importlib.metadata.version(module)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


print(json.dumps(about()))
