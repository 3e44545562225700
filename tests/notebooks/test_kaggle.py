"""Runs at Kaggle, through a program that behaves as Kaggle's client does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import (
    CannotHave,
    CloudrunError,
    NoCredentials,
    NotInstalled,
    Unavailable,
    WorkloadFailed,
)
from cloudrun.launcher import lifecycle, project
from cloudrun.model.need import Need, parse_gpu
from cloudrun.notebooks import kaggle as provider
from cloudrun.notebooks import payload
from tests.conftest import Cloudrun
from tests.doubles import clients
from tests.doubles.clients import Service
from tests.doubles.notebooks import scripted_programs

CLOUDRUN = (sys.executable, "-m", "cloudrun")
ON = ("--on", "kaggle", "--yes")
SMOKE = Need(targets=("kaggle",), workload="smoke")


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workloads that find everything in order, at once."""
    monkeypatch.setattr(payload, "WORKLOADS", scripted_programs(tmp_path / "w", "good.py"))


@pytest.fixture(params=clients.KINDS)
def kaggle(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    provider._user.cache_clear()
    with clients.installed("kaggle", request.param, tmp_path, monkeypatch, gpus=2) as service:
        yield service


def kernels(kaggle: Service) -> list[str]:
    return [path.name for path in (kaggle.folder / "kernels").glob("*")]


@pytest.mark.parametrize("fault", ["", "drops"])
def test_a_launch_gives_a_report_and_leaves_no_notebook(
    kaggle: Service, short: None, fault: str
) -> None:
    kaggle.goes_wrong(fault)
    report = lifecycle.launch(SMOKE)
    assert report.outcome == "passed"
    assert [check.name for check in report.checks] == ["torch"]
    assert kernels(kaggle) == []


def test_a_command_speaks_and_ends_as_it_does_here_and_its_results_come_home(
    kaggle: Service,
) -> None:
    Path("train.py").write_text(
        # A file of its own, which the text that goes there is not.
        "from __future__ import annotations\n"
        "import os, sys\n"
        "assert os.path.basename(__file__) == 'train.py'\n"
        "os.makedirs('results')\n"
        "open('results/model.bin', 'wb').write(bytes(range(256)))\n"
        "sys.stdout.buffer.write(b'a bar: 10%\\r100%\\xff, no end of line')\n"
        "print('to stderr', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run([*CLOUDRUN, "run", *ON, "--", "python", "train.py"], capture_output=True)
    assert done.returncode == 7, done.stderr
    assert done.stdout == b"a bar: 10%\r100%\xff, no end of line"
    assert b"to stderr" in done.stderr
    assert Path("results/model.bin").read_bytes() == bytes(range(256))
    assert kernels(kaggle) == []


# Says that it runs, and goes on when it is told to.
WAITS = """
import os, time
print("running", flush=True)
while not os.path.exists({go!r}):
    time.sleep(0.02)
os.makedirs("results")
open("results/x", "w").close()
print("done")
"""


def waiting_script(tmp_path: Path) -> Path:
    """Write a script that waits; returns the file that lets it go on."""
    go = tmp_path / "go"
    Path("train.py").write_text(WAITS.format(go=str(go)))
    return go


def test_a_job_goes_on_without_us_and_is_brought_home(
    kaggle: Service, cloudrun: Cloudrun, tmp_path: Path
) -> None:
    go = waiting_script(tmp_path)
    left = cloudrun("run", *ON, "--detach", "--json", "--", "python", "train.py")
    run = json.loads(left.stdout)["run"]["id"]
    (row,) = json.loads(cloudrun("ps", "--json").stdout)
    assert (row["run"]["id"], row["state"]) == (run, "not followed")
    (leak,) = json.loads(cloudrun("leaks", "--json").stdout)
    assert (leak["run"], leak["kind"], leak["leak"]) == (run, "notebook", "in use")
    go.touch()
    done = cloudrun("attach", run)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "running\ndone\n"
    assert Path("results/x").exists()
    assert kernels(kaggle) == []


def test_a_killed_cloudrun_is_followed_by_another_without_a_line_lost_or_doubled(
    kaggle: Service, cloudrun: Cloudrun, tmp_path: Path
) -> None:
    go = waiting_script(tmp_path)
    process = subprocess.Popen(
        [*CLOUDRUN, "-q", "run", *ON, "--", "python", "train.py"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.kill()
    process.communicate()
    go.touch()
    again = cloudrun("attach", "last")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "done\n"
    assert cloudrun("logs", "last").stdout == "running\ndone\n"
    assert kernels(kaggle) == []


def test_what_kaggles_client_cannot_stop_is_deleted_and_said(
    kaggle: Service, cloudrun: Cloudrun, tmp_path: Path
) -> None:
    waiting_script(tmp_path)
    cloudrun("run", *ON, "--detach", "--", "python", "train.py")
    down = cloudrun("down", "last")
    assert down.returncode == 0, down.stderr
    assert "client cannot stop what runs" in " ".join(down.stderr.split())
    assert kernels(kaggle) == []


@pytest.mark.thorough
def test_a_job_that_is_over_is_brought_home_by_down(
    kaggle: Service, cloudrun: Cloudrun, tmp_path: Path
) -> None:
    waiting_script(tmp_path).touch()
    cloudrun("run", *ON, "--detach", "--", "python", "train.py")
    (folder,) = (kaggle.folder / "kernels").iterdir()
    clients.wait_for(folder / "state")
    assert cloudrun("down", "last").returncode == 0
    assert Path("results/x").exists()
    assert kernels(kaggle) == []


def test_a_notebook_that_nobody_knows_is_a_leak(kaggle: Service, cloudrun: Cloudrun) -> None:
    Path("train.py").write_text("")
    cloudrun("run", *ON, "--keep", "--", "python", "train.py")
    (name,) = kernels(kaggle)
    for path in (Path(os.environ["CLOUDRUN_HOME"]) / "state").glob("journal*"):
        path.unlink()
    (kaggle.folder / "kernels" / "cloudrun-mine").mkdir()
    (leak,) = json.loads(cloudrun("leaks", "--json").stdout)
    assert (leak["id"], leak["state"]) == (f"ada/{name}", "COMPLETE")
    assert cloudrun("leaks", "--kill").returncode == 0
    assert kernels(kaggle) == ["cloudrun-mine"]


def test_the_queue_is_told_and_waited_for(
    kaggle: Service, cloudrun: Cloudrun, tmp_path: Path
) -> None:
    waiting_script(tmp_path).touch()
    kaggle.goes_wrong("queued")
    process = subprocess.Popen(
        [*CLOUDRUN, "run", *ON, "--", "python", "train.py"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    told = next(line for line in process.stderr if "queue" in line)
    assert "minutes" in told
    (folder,) = (kaggle.folder / "kernels").iterdir()
    (folder / "queued").unlink()
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "running\ndone\n")


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("push: Maximum batch GPU session count of 2 reached.", CannotHave, "as it does at once"),
        ("push: Phone verification is required", CannotHave, "phone number"),
        ("push: Something new", CannotHave, "It says: Something new"),
        ("used up", Unavailable, "hours at Kaggle are used up"),
        ("logged out", NoCredentials, "not logged in"),
    ],
)
def test_what_kaggle_refuses_is_told_with_a_remedy(
    kaggle: Service, short: None, fault: str, kind: type[CloudrunError], says: str
) -> None:
    kaggle.goes_wrong(fault)
    with pytest.raises(kind, match=says) as told:
        lifecycle.launch(SMOKE)
    assert told.value.try_this
    assert kernels(kaggle) == []


def test_a_session_that_dies_is_told_and_leaves_nothing(kaggle: Service, tmp_path: Path) -> None:
    Path("train.py").write_text("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    command = project.command(("python", "train.py"), Path.cwd())
    with pytest.raises(WorkloadFailed, match="allocate more memory"):
        lifecycle.run(Need(targets=("kaggle",), command=command))
    assert kernels(kaggle) == []


def test_a_machine_without_a_gpu_is_not_measured(kaggle: Service, short: None) -> None:
    (kaggle.folder / "gpu" / "nvidia-smi").unlink()
    with pytest.raises(WorkloadFailed, match="phone number"):
        lifecycle.launch(SMOKE)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("echo Kaggle CLI 1.7.4", "It is 1.7.4; cloudrun needs 2.2.4"),
        ("echo \"ModuleNotFoundError: No module named 'six'\" >&2; exit 1", "pip install six"),
    ],
)
def test_a_client_that_will_not_do_is_told_with_a_remedy(
    kaggle: Service, tmp_path: Path, says: str, told: str
) -> None:
    clients.program(tmp_path / "clients" / "kaggle", says)
    with pytest.raises(NotInstalled, match=told):
        lifecycle.launch(SMOKE)


@pytest.mark.parametrize(
    ("gpu", "says"),
    [("P100", "no P100 any more"), ("A100", "no A100 to be had"), ("T4:4", "no T4:4 to be had")],
)
def test_gpus_that_kaggle_does_not_lend_are_refused(kaggle: Service, gpu: str, says: str) -> None:
    with pytest.raises(Unavailable, match=says):
        lifecycle.launch(Need(targets=("kaggle",), gpu=parse_gpu(gpu)))


def test_free_takes_the_first_that_can_be_used_and_says_why_not_the_others(
    kaggle: Service, cloudrun: Cloudrun
) -> None:
    kaggle.goes_wrong("push: Maximum batch GPU session count of 2 reached.")
    done = cloudrun("run", "--on", "free", "--yes", "--", "python", "-c", "print('here')")
    assert (done.returncode, done.stdout) == (0, "here\n")
    said = " ".join(done.stderr.split())
    assert "Kaggle is running as many" in said
    assert "The client of Colab is not installed" in said
    planned = cloudrun("run", "--on", "free", "--dry-run", "--", "true")
    assert "T4" in planned.stdout
    assert "The client of Colab is not installed" in " ".join(planned.stderr.split())


def test_quota_is_in_doctor_and_offers(kaggle: Service, cloudrun: Cloudrun) -> None:
    (found,) = json.loads(cloudrun("doctor", "--on", "kaggle", "--json").stdout)
    assert found["status"] == "pass"
    assert "28.50h of 30.00h, renewed 2026-11-28 00:00 UTC" in found["detail"]
    (offer,) = json.loads(cloudrun("offers", "--on", "kaggle", "--json").stdout)
    assert (offer["gpu"], offer["gpu_count"]) == ("T4", 2)
    assert offer["price_note"] == "28.50h of 30.00h left this week"
