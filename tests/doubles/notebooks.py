"""Notebooks run for real, in a kernel of their own, with workloads that take little time."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from cloudrun.notebooks import build
from cloudrun.reports.build import WORKLOADS

SCRIPTS = Path(__file__).parent / "workloads"
# Checks that take long, and are tested elsewhere.
_LONG = "attention|compile|convolution|dataloader|distributed|memory|mixed_precision|onnx"
_SMALLER = {
    "bench.py": [('"quick": 1.0', '"quick": 0.02')],
    "cases.py": [
        (".get(place.type, 2048)", ".get(place.type, 256)"),
        ("max(256 * MIB, 4 * _last_cache())", "MIB"),
        ("1024, 256, 4, 4, 16, 128", "64, 32, 1, 2, 4, 16"),
    ],
}


def small_programs(folder: Path) -> Path:
    """The workloads themselves, with fewer checks and smaller sizes."""
    shutil.copytree(WORKLOADS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in _SMALLER.items():
        source = (folder / name).read_text("utf-8")
        for old, new in changes:
            assert old in source, f"{name} has changed"
            source = source.replace(old, new)
        (folder / name).write_text(source, "utf-8")
    smoke = (folder / "smoke.py").read_text("utf-8")
    shorter = re.sub(rf'    Check\("({_LONG})".*\n', "", smoke)
    assert shorter.count("    Check(") == smoke.count("    Check(") - len(_LONG.split("|"))
    (folder / "smoke.py").write_text(shorter, "utf-8")
    return folder


def scripted_programs(folder: Path, script: str) -> Path:
    """Workloads that say what one of the doubles says, whatever they are asked for."""
    folder.mkdir()
    for name in ("good.py", script):
        shutil.copy(SCRIPTS / name, folder / name)
    shutil.copy(SCRIPTS / script, folder / "work.py")
    return folder


def execute(notebook: build.Notebook, folder: Path) -> Any:
    """Run a notebook from top to bottom in a fresh kernel; returns it with its outputs."""
    folder.mkdir(exist_ok=True)
    opened = nbformat.reads(build.to_bytes(notebook).decode(), as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(opened, timeout=200, resources=resources).execute()
    return opened


def save(executed: Any, path: Path) -> Path:
    """Save an executed notebook as Jupyter does."""
    nbformat.write(executed, path)
    return path


def printed(executed: Any, cell: str) -> str:
    """What a cell printed."""
    (found,) = [each for each in executed.cells if each.id == cell]
    return "".join(out.text for out in found.outputs if out.output_type == "stream")


def shape(value: Any) -> Any:
    """The keys of a JSON document, and the kinds of its values; of a list its first element's."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return type(value).__name__


def source_of(notebook: build.Notebook) -> str:
    """All that a notebook says, in its texts and its code."""
    return "\n".join("".join(cell["source"]) for cell in notebook["cells"])
