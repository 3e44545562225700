"""`cloudrun launch` as its user runs it: for real, killed at bad moments, on a full disk."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.model.run import PHASES
from cloudrun.reports import schema
from tests.conftest import Cloudrun

# All that loads torch runs in one worker: two would fight for the cores.
pytestmark = pytest.mark.xdist_group("torch")
SMOKE = ("launch", "--workload", "smoke")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cloudrun", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        bufsize=1,
    )


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Read what the process says until a line has the word."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    raise AssertionError(f"it ended before it said '{word}'")


def workloads_of(home: Path) -> list[int]:
    """The processes whose environment names this home, but for this one: what a run left behind."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                environment = (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"CLOUDRUN_HOME={home}".encode() in environment.split(b"\0") and state != "Z":
                found.append(int(folder.name))
    return found


def wait_until_nothing_runs(home: Path) -> None:
    """Wait for the end of every process of a run; the event is each one's end."""
    for pid in workloads_of(home):
        subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=30)
    assert workloads_of(home) == []


def test_a_newcomer_gets_a_report_of_this_machine(cloudrun: Cloudrun, home: Path) -> None:
    done = cloudrun("launch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("PASSED")
    assert "matrix product" in done.stdout
    assert max(map(len, (done.stdout + done.stderr).splitlines())) <= 80
    wait_until_nothing_runs(home)
    report = schema.parse(cloudrun("report", "show", "--json").stdout.encode(), "x")
    assert report.outcome == "passed"
    assert {row.name for row in report.measurements} >= {"matmul", "memory_copy", "training"}
    assert tuple(timing.phase for timing in report.timeline) == PHASES
    assert report.provenance.argv[-1] == "launch"
    assert report.cost.usd == 0
    assert report.id in cloudrun("report", "list").stdout
    assert json.loads(cloudrun("ps", "--json").stdout) == []


def test_json_is_the_report_and_quiet_is_quiet(cloudrun: Cloudrun) -> None:
    done = cloudrun(*SMOKE, "--json", "-q")
    assert done.returncode == 0
    assert done.stderr == ""
    report = schema.parse(done.stdout.encode(), "x")
    assert (report.run.workload, report.measurements) == ("smoke", ())


def test_a_machine_that_computes_wrongly_fails_in_words_and_status(
    cloudrun: Cloudrun, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'smoke.py' in ' '.join(sys.orig_argv):\n"
        "    import torch\n"
        "    torch.nn.functional.scaled_dot_product_attention = lambda q, k, v: v + 1\n"
    )
    done = cloudrun(*SMOKE, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stdout.startswith("FAILED")
    assert "attention: Attention is off by" in " ".join(done.stdout.split())
    assert "FAIL  attention" in done.stderr


def test_ctrl_c_tidies_up_says_so_and_keeps_what_was_found(cloudrun: Cloudrun, home: Path) -> None:
    process = start(*SMOKE)
    wait_for(process, "autograd")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    wait_until_nothing_runs(home)
    report = schema.parse(cloudrun("report", "show", "--json").stdout.encode(), "x")
    assert report.outcome == "partial"
    assert "autograd" in {check.name for check in report.checks}
    assert f"cloudrun report show {report.id}" in " ".join(stderr.split())


def test_sigterm_is_like_ctrl_c(cloudrun: Cloudrun, home: Path) -> None:
    process = start("launch", "--workload", "bench", "--json")
    wait_for(process, "matmul")
    process.terminate()
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(stdout)["error"]["kind"] == "interrupted"
    wait_until_nothing_runs(home)
    report = schema.parse(cloudrun("report", "show", "--json").stdout.encode(), "x")
    assert report.outcome == "partial"
    assert [row.name for row in report.measurements] == ["matmul"]


def test_kill_9_leaves_nothing_running_and_the_next_command_keeps_the_numbers(
    cloudrun: Cloudrun, home: Path
) -> None:
    process = start(*SMOKE)
    wait_for(process, "autograd")
    assert "smoke" in cloudrun("ps").stdout
    process.kill()
    process.communicate()
    wait_until_nothing_runs(home)
    done = cloudrun("ps")
    assert "Nothing is running" in done.stderr
    assert "what it measured is kept" in " ".join(done.stderr.split())
    report = schema.parse(cloudrun("report", "show", "--json").stdout.encode(), "x")
    assert report.outcome == "partial"
    assert "put together later" in report.notes[-1]
    assert [timing.phase for timing in report.timeline][-1] == "run"
    assert "Nothing is running" in cloudrun("ps").stderr
    assert len(json.loads(cloudrun("report", "list", "--json").stdout)) == 1


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_at_any_moment_leaves_a_state_that_works(
    cloudrun: Cloudrun, home: Path, seed: int
) -> None:
    process = start(*SMOKE)
    wait = random.Random(seed).uniform(0.05, 3.0)
    try:
        process.communicate(timeout=wait)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    wait_until_nothing_runs(home)
    assert json.loads(cloudrun("ps", "--json").stdout) == []
    assert cloudrun("report", "list").returncode == 0
    for folder in home.rglob("*"):
        assert not folder.name.startswith("#"), "a half-written file is left"


def test_two_at_once_both_end_well_and_know_of_each_other(cloudrun: Cloudrun) -> None:
    first, second = start(*SMOKE, "--json"), None
    wait_for(first, "Run ")
    second = start(*SMOKE, "--json")
    documents = [process.communicate(timeout=200)[0] for process in (first, second)]
    reports = [schema.parse(text.encode(), "x") for text in documents]
    assert [report.outcome for report in reports] == ["passed", "passed"]
    assert reports[0].id != reports[1].id
    assert reports[0].id in reports[1].notes[0]
    assert len(json.loads(cloudrun("report", "list", "--json").stdout)) == 2


def test_the_deadline_is_status_75_and_what_was_found_is_kept(cloudrun: Cloudrun) -> None:
    began = time.monotonic()
    done = cloudrun("launch", "--ttl", "4s")
    assert done.returncode == 75
    assert time.monotonic() - began < 30
    assert "--ttl" in done.stderr
    report = schema.parse(cloudrun("report", "show", "--json").stdout.encode(), "x")
    assert report.outcome == "partial"


def test_without_torch_the_install_line_is_given_and_nothing_is_left(
    cloudrun: Cloudrun, tmp_path: Path
) -> None:
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(
        "import importlib.util\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'torch' else "
        "real(name, *more)\n"
    )
    done = cloudrun("launch", env={**os.environ, "PYTHONPATH": str(hide)})
    assert done.returncode == 1
    # In one piece, and for the Python that lacks it.
    assert re.search(r"^\S+python\S* -m pip install torch --index-url \S+$", done.stderr, re.M)
    assert done.stdout == ""
    assert json.loads(cloudrun("ps", "--json").stdout) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_before_work_starts(cloudrun: Cloudrun, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * (7 * 2**20))
    done = cloudrun(*SMOKE, "--store", str(small_disk / "reports"))
    assert done.returncode == 78
    assert "No space left on device" in " ".join(done.stderr.split())
    assert "torch" not in done.stderr
    assert [path for path in small_disk.rglob("*") if path.is_file()] == [small_disk / "filler"]


def test_a_disk_that_fills_up_in_between_loses_nothing(
    cloudrun: Cloudrun, small_disk: Path
) -> None:
    process = start(*SMOKE, "--store", str(small_disk / "reports"))
    wait_for(process, "autograd")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb") as file:
        while True:
            file.write(b"x" * 2**16)
            file.flush()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 78
    assert "No space left on device" in " ".join(stderr.split())
    assert [path for path in small_disk.rglob("*") if path.is_file()] == [filler]
    filler.unlink()
    cloudrun("ps")
    done = cloudrun("report", "show", "--json", "--store", str(small_disk / "reports"))
    assert schema.parse(done.stdout.encode(), "x").outcome == "passed"


def test_a_read_only_disk_is_said_before_work_starts(cloudrun: Cloudrun, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = cloudrun(*SMOKE, env={**os.environ, "CLOUDRUN_HOME": str(small_disk / "home")})
    assert done.returncode == 78
    assert "Read-only file system" in " ".join(done.stderr.split())
