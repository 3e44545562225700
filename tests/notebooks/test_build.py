"""The notebooks that are built: valid, the same each time, and run for real from top to bottom."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from cloudrun.notebooks import build
from cloudrun.notebooks.project import Project
from cloudrun.notebooks.read import harvest
from cloudrun.reports import schema
from cloudrun.reports.build import WORKLOADS
from tests.doubles.notebooks import (
    execute,
    printed,
    scripted_programs,
    shape,
    small_programs,
    source_of,
)

# All that loads torch runs in one worker: two would fight for the cores.
pytestmark = pytest.mark.xdist_group("torch")

SCRIPT = Project("train.py", (("train.py", b"print('hello')\n"), ("requirements.txt", b"x\n")), ())
KINDS = {
    "all": lambda: build.workloads_notebook("all", "quick"),
    "smoke": lambda: build.workloads_notebook("smoke", "standard"),
    "bench": lambda: build.workloads_notebook("bench", "full", gpu="L4", name="b.ipynb"),
    "script": lambda: build.script_notebook(SCRIPT),
}
# Files that a cell cannot write as text, each for a reason of its own.
AWKWARD = {
    "plain.py": b"x = 1\n\n\nif x:\n    pass\n",
    "no_end.py": b"x = 1",
    "windows.py": b"x = 1\r\ny = 2\r\n",
    "mac.txt": b"a\rb\n",
    "blanks_last.py": b"x\n\n\n",
    "spaces.txt": b"  x  \n",
    "empty.py": b"",
    "blank.py": b"\n",
    "blanks_first.py": b"\n\n   x\n",
    "latin.txt": b"caf\xe9\n",
    "chinese.txt": "你好\n".encode(),
    "separators.txt": "a\x0cb\x1cc\u2028d\u0085e\n".encode(),
    "mark.txt": b"\xef\xbb\xbfx\n",
    "doctest.txt": b">>> 1 + 1\n2\n",
    "dots.txt": b"... and so on\nmore\n",
    "session.txt": b"In [1]: x\nOut[1]: 2\n",
    "magic.txt": b"%%bash\n!ls {x} $y ?\n",
    "a space.txt": b"x\n",
    "{braces}.txt": b"x\n",
    "-dash.txt": b"x\n",
    "it's.txt": b"x\n",
    "pixels.bin": bytes(range(256)),
    "below/deeper/x.py": b"y = 2\n",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_is_valid_and_saves_as_it_was_built(kind: str) -> None:
    data = build.to_bytes(KINDS[kind]())
    opened = nbformat.reads(data.decode(), as_version=4)
    nbformat.validate(opened)
    assert nbformat.writes(opened).encode() == data.removesuffix(b"\n")
    assert build.to_bytes(KINDS[kind]()) == data


@pytest.mark.parametrize("kind", KINDS)
def test_it_asks_for_a_gpu_and_keeps_its_outputs(kind: str) -> None:
    metadata = KINDS[kind]()["metadata"]
    assert metadata["accelerator"] == "GPU"
    assert metadata["colab"]["gpuType"] == ("L4" if kind == "bench" else "T4")
    assert "private_outputs" not in metadata["colab"]
    assert metadata["kaggle"]["isGpuEnabled"] is True
    assert metadata["kaggle"]["accelerator"] == "nvidiaTeslaT4"
    headings = {cell["id"] for cell in KINDS[kind]()["cells"]}
    assert set(metadata["colab"]["collapsed_sections"]) <= headings


@pytest.mark.parametrize("kind", KINDS)
def test_it_installs_nothing_and_names_no_place_of_this_machine(kind: str) -> None:
    said = source_of(KINDS[kind]())
    assert not re.search(r"^\s*[!%]+\s*(pip|conda|uv|mamba)\b|-m.{1,4}pip\b", said, re.MULTILINE)
    assert str(Path.home()) not in said
    assert str(WORKLOADS) not in said


@pytest.mark.parametrize("kind", KINDS)
def test_every_step_is_explained_before_it_is_made(kind: str) -> None:
    cells = KINDS[kind]()["cells"]
    assert cells[0]["cell_type"] == "markdown"
    texts = [cell for cell in cells if cell["cell_type"] == "markdown"]
    assert all(len("".join(cell["source"])) > 80 for cell in texts)
    kinds = {cell["id"]: cell["cell_type"] for cell in cells}
    for name in {"look", "run-smoke", "run-bench", "run", "make-report"} & set(kinds):
        at = list(kinds).index(name)
        assert "markdown" in list(kinds.values())[at - 2 : at]


def test_what_it_runs_is_byte_for_byte_the_workloads(tmp_path: Path) -> None:
    notebook = KINDS["all"]()
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"].startswith("programs-") or
                         cell["id"].startswith("file-")]  # fmt: skip
    execute(notebook, tmp_path / "there")
    written = tmp_path / "there" / "cloudrun-notebook" / "cloudrun" / "workloads"
    # Else a cloudrun in site-packages would be run instead.
    assert (written.parent / "__init__.py").is_file()
    sources = {path.name: path.read_bytes() for path in WORKLOADS.glob("*.py")}
    assert len(sources) > 10
    assert {path.name: path.read_bytes() for path in written.iterdir()} == sources


def test_the_workloads_can_be_read_in_the_notebook() -> None:
    said = ["".join(cell["source"]) for cell in KINDS["all"]()["cells"]]
    for path in WORKLOADS.glob("*.py"):
        assert any(text.partition("\n")[2] + "\n" == path.read_text("utf-8") for text in said)


def test_files_of_all_kinds_arrive_as_they_were(tmp_path: Path) -> None:
    notebook = build.script_notebook(Project("plain.py", tuple(AWKWARD.items()), ()))
    notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"].startswith("file")]
    execute(notebook, tmp_path / "there")
    project = tmp_path / "there" / "project"
    written = {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file()
    }
    assert written == AWKWARD


@pytest.mark.parametrize("name", ["windows.py", "mac.txt", "no_end.py", "blanks_last.py"])
def test_what_an_editor_would_change_is_no_text(name: str) -> None:
    notebook = build.script_notebook(Project(name, ((name, AWKWARD[name]),), ()))
    (cell,) = [cell for cell in notebook["cells"] if cell["id"] == "file-1"]
    assert "".join(cell["source"]).startswith(f"put('project/{name}', ")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The notebook of all workloads, executed with real ones that are small."""
    folder = tmp_path_factory.mktemp("measured")
    programs = small_programs(folder / "programs")
    notebook = build.workloads_notebook("all", "quick", programs=programs)
    return folder / "there", execute(notebook, folder / "there")


def test_a_fresh_kernel_runs_it_and_all_three_forms_hold_the_report(measured: Any) -> None:
    folder, executed = measured
    assert "No GPU." in printed(executed, "look")
    assert "Runtime, Change runtime type" in printed(executed, "look")
    assert "the sum 1.99999904" in printed(executed, "sum")
    assert "pass  autograd" in printed(executed, "run-smoke")
    assert "training" in printed(executed, "run-bench")
    (chart,) = [cell for cell in executed.cells if cell.id == "draw"]
    assert any("image/png" in out.get("data", {}) for out in chart.outputs)
    (cell,) = [cell for cell in executed.cells if cell.id == "make-report"]
    (shown,) = [out for out in cell.outputs if out.output_type == "display_data"]
    kept = (folder / "results.json").read_bytes()
    assert json.loads(kept) == shown.data["application/vnd.cloudrun.report+json"]
    (report,) = harvest(printed(executed, "make-report").encode(), "x").reports
    assert report == schema.parse(kept, "x")
    assert "results.json lies beside" in printed(executed, "download")


def test_its_report_is_one_as_launch_makes_it(measured: Any) -> None:
    folder, _ = measured
    report = schema.parse((folder / "results.json").read_bytes(), "x")
    assert report.outcome == "passed"
    assert (report.run.workload, report.run.profile) == ("all", "quick")
    assert report.machine.provider == report.run.target == "jupyter"
    assert {row.name for row in report.measurements} >= {"matmul", "memory_copy", "training"}
    names = ["driver", "torch", "device", "allocate", "autograd", "matmul"]
    assert [check.name for check in report.checks] == names
    assert report.environment is not None
    assert report.environment.device == "cpu"
    assert [timing.phase for timing in report.timeline] == ["run", "run"]
    # Nothing is lost on the way: the schema knows every field that the notebook writes.
    written = json.loads((folder / "results.json").read_bytes())
    whole = json.loads(report.to_json())
    assert {key: shape(whole[key]) for key in written if key != "machine"} | {
        "machine": shape(written["machine"])
    } == shape(written) | {"measurements": shape(whole["measurements"])}


def test_the_report_names_the_programs_that_ran(measured: Any, tmp_path: Path) -> None:
    folder, _ = measured
    report = schema.parse((folder / "results.json").read_bytes(), "x")
    from cloudrun.templates import notebook_report

    programs = folder / "cloudrun-notebook" / "cloudrun" / "workloads"
    assert report.provenance.workload_sha256 == notebook_report.source_sha256(str(programs))


def test_the_hash_of_the_unchanged_programs_is_that_of_a_launch() -> None:
    from cloudrun.templates import notebook_report

    from cloudrun.reports.build import workload_sha256

    assert notebook_report.source_sha256(str(WORKLOADS)) == workload_sha256()


@pytest.mark.parametrize(
    ("kind", "script", "outcome"),
    [("smoke", "failing.py", "failed"), ("bench", "dying.py", "partial")],
)
def test_each_kind_reports_how_it_went(
    kind: str, script: str, outcome: str, tmp_path: Path
) -> None:
    programs = scripted_programs(tmp_path / "programs", script)
    executed = execute(
        build.workloads_notebook(kind, "full", programs=programs), tmp_path / "there"
    )
    report = schema.parse((tmp_path / "there" / "results.json").read_bytes(), "x")
    assert report.outcome == outcome
    assert (report.run.workload, report.run.profile) == (kind, "full")
    said = printed(executed, f"run-{kind}")
    if kind == "bench":
        assert "the last word on stderr" in said
        assert "the last word on stderr" in report.notes[0]


def test_a_script_runs_in_its_folder_and_its_results_come_along(tmp_path: Path) -> None:
    script = (
        b"import os, sys, helper\n"
        b"os.makedirs('results')\n"
        b"open('results/x.txt', 'w').write(helper.WORD)\n"
        b"print(helper.WORD, sys.argv, flush=True)\n"
        b"sys.exit(3)\n"
    )
    project = Project("train.py", (("train.py", script), ("helper.py", b"WORD = 'found'\n")), ())
    executed = execute(build.script_notebook(project), tmp_path / "there")
    assert "found ['train.py']" in printed(executed, "run")
    report = schema.parse((tmp_path / "there" / "results.json").read_bytes(), "x")
    assert report.outcome == "failed"
    assert report.run.workload == "command"
    assert report.checks[0].detail == "'python train.py' ended with exit status 3."
    assert report.environment is not None
    import zipfile

    with zipfile.ZipFile(tmp_path / "there" / "cloudrun-results.zip") as archive:
        assert archive.read("results/x.txt") == b"found"
        assert "results.json" in archive.namelist()
    assert "cloudrun-results.zip lies beside" in printed(executed, "download")
