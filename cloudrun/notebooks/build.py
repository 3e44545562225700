"""Build a notebook, as plain JSON in nbformat 4.5; what it runs is what runs everywhere else.

The texts and the helpers of the cells lie in templates/; the programs are the
files of cloudrun/workloads, each in a cell that writes it, byte for byte. The
same arguments give the same bytes. nbformat itself would take longer to import
than all the rest, so that only the tests use it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import cloudrun
from cloudrun.hosts.scripts import text
from cloudrun.notebooks.project import Project
from cloudrun.reports.build import WORKLOADS

Cell = dict[str, Any]
Notebook = dict[str, Any]

# What Colab calls its GPUs: the names that its own client takes.
GPUS = ("T4", "L4", "G4", "A100", "H100")
# Where the programs are written to, beside the notebook.
_PROGRAMS = "cloudrun-notebook/cloudrun/workloads"
_PROJECT = "project"
_STEPS = {"smoke": ("smoke",), "bench": ("bench",), "all": ("smoke", "bench")}

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
# What IPython takes for a prompt that was copied along, and would cut away.
_LIKE_A_PROMPT = re.compile(r"\s*(>>>|\.\.\.|In \[)")

_SERIES = """\
import torch

steps = 20
x = torch.tensor(0.5, requires_grad=True)
total = torch.ones(())
for _ in range(steps):
    total = 1 + x * total
total.backward()
print(f"the sum {total.item()}, its derivative {x.grad.item()}")"""

_MAKE_FOLDERS = """\
import os
import shutil

shutil.rmtree({top!r}, ignore_errors=True)
for folder in {folders!r}:
    os.makedirs(folder)"""

_PROFILE = (
    'PROFILE = {profile!r}  # "quick", "standard" (5 minutes on a GPU) or "full" (20 minutes)'
)

_BENCH = """\
# Without a device that works there is nothing to measure.
if any(line["event"] == "environment" for line in parts["smoke"]["said"]):
    run("bench", PROFILE, parts)
else:
    print("Not measured: see the smoke test.")"""

_DRAW = """\
said = [line for part in parts.values() for line in part["said"]]
draw([line for line in said if line["event"] == "measurement"])"""

_REPORT = """\
ABOUT = {{
    "cloudrun": {version!r},
    "workload": {workload!r},
    "profile": {profile},
    "argv": {argv!r},
    "steps": {steps},
}}
hand_over(make_report(place(), ABOUT, {folder!r}, parts{more}))"""


def workloads_notebook(
    workload: str, profile: str, gpu: str = "T4", name: str = "cloudrun.ipynb",
    programs: Path = WORKLOADS,
) -> Notebook:  # fmt: skip
    """A notebook that tests and measures the machine that it runs on.

    Args:
        workload: `smoke`, `bench` or `all`.
        profile: `quick`, `standard` or `full`.
        gpu: One of `GPUS`; what the notebook asks for.
        name: What Colab shows as its name.
        programs: The folder of the workloads.
    """
    steps = _STEPS[workload]
    cells = [
        _text("title"),
        _text("given"),
        _code("look", text("notebook_look.py"), "look();"),
        _text("gpu"),
        _text("series"),
        _code("sum", _SERIES),
        _heading("programs"),
        _code("programs-folder", _make_folders([_PROGRAMS]), _mark_as_package(_PROGRAMS)),
        *_files(_PROGRAMS, _sources(programs)),
        *_runs(steps, profile),
        *([_text("charts"), _code("draw", text("notebook_charts.py"), _DRAW)] * ("bench" in steps)),
        *_report(_PROGRAMS, workload, "PROFILE", len(steps)),
        _text("home"),
        _code("download", 'offer_download("results.json")'),
    ]
    return _notebook(cells, gpu, name, internet=False)


def script_notebook(project: Project, gpu: str = "T4", name: str = "script.ipynb") -> Notebook:
    """A notebook that runs a script of the user's, with the files beside it."""
    has_packages = any(path == "requirements.txt" for path, _ in project.files)
    install = f"# %pip install -r {_PROJECT}/requirements.txt"
    cells = [
        _text("script-title"),
        _text("given"),
        _code("look", text("notebook_look.py"), "machine = look()"),
        _heading("script-files"),
        _code("files-folder", _make_folders(_folders(project)), text("notebook_files.py")),
        *_files(_PROJECT, dict(project.files)),
        *([_text("script-packages"), _code("packages", install)] * has_packages),
        _text("script-run"),
        _code("run-tool", text("notebook_script.py")),
        _code("run", f"parts = {{}}\nrun_script(parts, {_PROJECT!r}, {project.script!r})"),
        *_report(_PROJECT, "command", '""', 0, more=", machine"),
        _text("script-home"),
        _code("download", f"offer_download(pack_results({_PROJECT!r}))"),
    ]
    return _notebook(cells, gpu, name, internet=True)


def to_bytes(notebook: Notebook) -> bytes:
    """The notebook as a file, in the form that nbformat writes."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _runs(steps: Iterable[str], profile: str) -> list[Cell]:
    first, *others = steps
    start = f"{_PROFILE.format(profile=profile)}\nparts = {{}}\nrun({first!r}, PROFILE, parts)"
    cells = [
        _text(first),
        _code("run-tool", text("notebook_run.py")),
        _code(f"run-{first}", start),
    ]
    for step in others:
        cells += [_text(step), _code(f"run-{step}", _BENCH)]
    return cells


def _report(folder: str, workload: str, profile: str, steps: int, more: str = "") -> list[Cell]:
    argv = ["cloudrun", "colab"] + ([] if workload == "command" else ["--workload", workload])
    call = _REPORT.format(
        version=cloudrun.__version__, workload=workload, profile=profile, argv=argv,
        steps=steps, folder=folder, more=more,
    )  # fmt: skip
    return [
        _text("report"),
        _code("report-tool", text("notebook_report.py")),
        _code("make-report", call),
    ]


def _sources(programs: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(programs.glob("*.py"))}


def _files(folder: str, files: Mapping[str, bytes]) -> list[Cell]:
    """A cell for each file, in the order in which they come, after the folders that they need."""
    return [
        _code(f"file-{number}", _write(f"{folder}/{path}", content))
        for number, (path, content) in enumerate(files.items(), start=1)
    ]


def _write(path: str, content: bytes) -> str:
    """A cell's source that writes a file: readable, where IPython then writes these very bytes."""
    if _is_plain(path, content):
        return f"%%writefile {path}\n{content.decode().removesuffix(chr(10))}"
    packed = base64.b64encode(content).decode()
    return f"put({path!r}, {packed!r})"


def _is_plain(path: str, content: bytes) -> bool:
    """Whether `%%writefile` gives a file back as it is, in any program that shows notebooks.

    That is UTF-8, with lines that end as on Unix and no empty ones at the end:
    editors change the former, and IPython the latter.
    """
    ends_well = content.endswith(b"\n") and not content.endswith(b"\n\n")
    if not _PLAIN_NAME.fullmatch(path) or not ends_well or b"\r" in content:
        return False
    try:
        body = content.decode()
    except UnicodeDecodeError:
        return False
    return bool(body.strip()) and not _LIKE_A_PROMPT.match(body)


def _folders(project: Project) -> list[str]:
    """The folders that a project's files lie in, each after the one that it lies in."""
    paths = [PurePosixPath(_PROJECT, path) for path, _ in project.files]
    return sorted({str(folder) for path in paths for folder in path.parents} - {"."})


def _make_folders(folders: list[str]) -> str:
    return _MAKE_FOLDERS.format(top=folders[0].partition("/")[0], folders=folders)


def _mark_as_package(folder: str) -> str:
    # Else a cloudrun that is installed there would be taken for this one.
    return f'open("{folder.rpartition("/")[0]}/__init__.py", "w").close()'


def _text(name: str) -> Cell:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": _lines(_texts()[name])}


def _heading(name: str) -> Cell:
    """A text whose section is folded up when the notebook opens, in Colab and in JupyterLab."""
    return {**_text(name), "metadata": {"id": name, "jp-MarkdownHeadingCollapsed": True}}


def _code(name: str, *sources: str) -> Cell:
    return {
        "cell_type": "code",
        "execution_count": None,
        "id": name,
        "metadata": {},
        "outputs": [],
        "source": _lines("\n\n\n".join(source.rstrip("\n") for source in sources)),
    }


def _texts() -> dict[str, str]:
    """The texts of templates/notebook.md by their names."""
    _, *parts = re.split(r"^<!-- ([a-z-]+) -->\n", text("notebook.md"), flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _lines(source: str) -> list[str]:
    return source.splitlines(keepends=True)


def _notebook(cells: list[Cell], gpu: str, name: str, *, internet: bool) -> Notebook:
    folded = [cell["id"] for cell in cells if cell["metadata"]]
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "accelerator": "GPU",
            "cloudrun": {"version": cloudrun.__version__},
            "colab": {
                "collapsed_sections": folded,
                "gpuType": gpu,
                "name": name,
                "provenance": [],
                "toc_visible": True,
            },
            # Kaggle rents no other single GPU for nothing.
            "kaggle": {
                "accelerator": "nvidiaTeslaT4",
                "isGpuEnabled": True,
                "isInternetEnabled": internet,
            },
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "cells": cells,
    }
