"""What the cells' helpers do where there is a GPU, no matplotlib, or a notebook service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from cloudrun.templates import (
    notebook_charts,
    notebook_look,
    notebook_report,
    notebook_run,
    notebook_script,
)

from cloudrun.reports import schema
from tests.doubles.notebooks import scripted_programs
from tests.doubles.reports import measurement

ROOT = Path(__file__).parents[2]


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that sees two T4s, as Kaggle's."""
    stub = tmp_path / "bin" / "nvidia-smi"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\necho "Tesla T4, 15360"\necho "Tesla T4, 15360"\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:{os.environ['PATH']}")


def torch_with(cuda: bool) -> Any:
    fake = types.ModuleType("torch")
    fake.__version__ = "2.11.0+cu128"  # type: ignore[attr-defined]
    fake.cuda = types.SimpleNamespace(is_available=lambda: cuda)  # type: ignore[attr-defined]
    return fake


@pytest.mark.parametrize(("cuda", "says"), [(True, "15.0 GiB"), (False, "cannot use the GPU")])
def test_the_gpu_that_was_given_is_named(
    smi: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cuda: bool,
    says: str,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with(cuda))
    found = notebook_look.look()
    assert found["gpus"] == [{"name": "Tesla T4", "memory_bytes": 15 * 2**30}] * 2
    assert found["device"] == ("cuda" if cuda else "cpu")
    said = capsys.readouterr().out
    assert said.count("Tesla T4") == 2
    assert says in said
    assert "No GPU." not in said


def test_without_torch_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert notebook_look.look()["device"] == "cpu"
    assert "torch none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "place"),
    [("COLAB_RELEASE_TAG", "colab"), ("KAGGLE_KERNEL_RUN_TYPE", "kaggle"), ("X", "jupyter")],
)
def test_the_service_is_known(monkeypatch: pytest.MonkeyPatch, variable: str, place: str) -> None:
    for name in ("COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    assert notebook_look.place() == place


def both_devices() -> list[dict[str, Any]]:
    rows = []
    for device, large, speed in (("cuda", 8192, 8.0), ("cpu", 2048, 0.1)):
        for size in (64, 256, 1024, large):
            params = {"dtype": "fp32", "m": size, "device": device}
            rows.append(measurement(params=params, value=speed * size / large, flops=2.0 * size**3))
        params = {"dtype": "fp32", "device": device}
        rows.append(measurement(name="memory_copy", params=params, unit="GB/s", value=200.0))
        rows.append(measurement(name="training", params=params, unit="tokens/s", value=0.0))
    return rows


def test_charts_of_a_cpu_and_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)
    notebook_charts.draw(both_devices())
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == [
        "Matrix products, TFLOP/s",
        "One product in fp32, seconds",
        "Memory bandwidth, GB/s",
        "Training, tokens/s",
    ]
    assert [tick.get_text() for tick in axes[0].get_yticklabels()] == [
        "product fp32 cuda: 8",
        "product fp32 cpu: 0.1",
    ]
    lines = {line.get_label(): line for line in axes[1].get_lines()}
    assert list(lines["cuda"].get_xdata()) == [64, 256, 1024, 8192]
    assert lines["cuda"].get_ydata()[-1] == pytest.approx(2 * 8192**3 / 8e12)
    plt.close("all")
    notebook_charts.draw([])
    plt.close("all")


def test_without_matplotlib_the_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    notebook_charts.draw(both_devices())
    assert "memory copy fp32 cuda" in capsys.readouterr().out


def test_in_colab_the_browser_downloads_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    files = types.SimpleNamespace(download=fetched.append)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    colab = types.ModuleType("google.colab")
    colab.files = files  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    notebook_report.offer_download("results.json")
    assert fetched == ["results.json"]


def test_nonsense_between_the_lines_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = scripted_programs(tmp_path / "programs", "babbling.py")
    monkeypatch.setattr(notebook_run, "FOLDER", str(tmp_path))
    monkeypatch.setattr(notebook_run, "WORK", str(programs / "work.py"))
    parts: dict[str, Any] = {}
    notebook_run.run("smoke", "quick", parts)
    assert [line["event"] for line in parts["smoke"]["said"]] == [
        "environment",
        "check",
        "finished",
    ]


def test_what_was_said_before_a_stop_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = scripted_programs(tmp_path / "programs", "good.py")
    monkeypatch.setattr(notebook_run, "FOLDER", str(tmp_path))
    monkeypatch.setattr(notebook_run, "WORK", str(programs / "work.py"))
    print_line = notebook_run.print_line

    def stop_at_the_end(line: dict[str, Any]) -> None:
        print_line(line)
        if line["event"] == "finished":
            raise KeyboardInterrupt

    monkeypatch.setattr(notebook_run, "print_line", stop_at_the_end)
    parts: dict[str, Any] = {}
    with pytest.raises(KeyboardInterrupt):
        notebook_run.run("smoke", "quick", parts)
    about = {"cloudrun": "0", "workload": "smoke", "profile": "quick", "argv": [], "steps": 1}
    report = notebook_report.make_report("colab", about, str(programs), parts)
    assert report["outcome"] == "partial"
    assert [check["name"] for check in report["checks"]] == ["torch"]
    assert schema.parse(json.dumps(report).encode(), "x").environment is not None


def test_a_script_that_is_stopped_is_reported_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.py").write_text("print('hello', flush=True)\nimport sys; sys.stdin.read()\n")

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", stop)
    parts: dict[str, Any] = {}
    with pytest.raises(KeyboardInterrupt):
        notebook_script.run_script(parts, str(tmp_path), "x.py")
    monkeypatch.undo()
    assert parts["x.py"]["said"][0]["status"] == "fail"
    assert parts["x.py"]["said"][0]["detail"] == "'python x.py' was stopped."


def test_a_notebook_that_is_killed_takes_its_workload_along(tmp_path: Path) -> None:
    programs = scripted_programs(tmp_path / "programs", "endless.py")
    code = (
        "from cloudrun.templates import notebook_run\n"
        f"notebook_run.FOLDER, notebook_run.WORK = {str(tmp_path)!r}, "
        f"{str(programs / 'work.py')!r}\n"
        "notebook_run.run('smoke', 'quick', {})\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=env) as process:
        assert process.stdout is not None
        assert b"pass" in process.stdout.readline()
        (workload,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
        # The notebook's own stdin is still open: it is not what ends the workload.
        subprocess.run(["tail", f"--pid={workload}", "-f", "/dev/null"], check=True, timeout=30)
