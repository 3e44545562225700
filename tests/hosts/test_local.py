from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudrun.errors import DeadlineReached, WorkloadFailed
from cloudrun.hosts import local
from cloudrun.hosts.local import LocalHost, LocalJob
from cloudrun.workloads.driver import Nvidia, NvidiaGpu

SCRIPTS = Path(__file__).parent.parent / "doubles" / "workloads"
FAR = 60.0


def start(script: str, log: Path) -> LocalJob:
    return LocalJob([sys.executable, str(SCRIPTS / script)], log)


def test_a_jobs_lines_come_whole_and_its_end_is_told(tmp_path: Path) -> None:
    job = start("good.py", tmp_path / "log")
    lines = list(job.lines(time.monotonic() + FAR))
    assert len(lines) == 3
    assert all(line.endswith(b"}\n") for line in lines)
    assert job.wait().status == 0


def test_a_death_is_told_with_the_last_words(tmp_path: Path) -> None:
    job = start("dying.py", tmp_path / "log")
    list(job.lines(time.monotonic() + FAR))
    end = job.wait()
    assert end.status == -9
    assert end.log_tail == "the last word on stderr"


def test_the_deadline_is_kept_and_the_job_can_be_stopped_twice(tmp_path: Path) -> None:
    job = start("endless.py", tmp_path / "log")
    with pytest.raises(DeadlineReached):
        list(job.lines(time.monotonic() + 1.0))
    job.stop()
    job.stop()
    assert job.wait().status == 0


def test_a_job_that_babbles_keeps_the_deadline_too(tmp_path: Path) -> None:
    babble = "while True: print('{}', flush=True)"
    job = LocalJob([sys.executable, "-c", babble], tmp_path / "log")
    with pytest.raises(DeadlineReached):
        for _ in job.lines(time.monotonic() + 0.5):
            pass
    job.stop()


def test_a_job_that_nobody_reads_waits_and_can_be_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE_S", 1.0)
    much = f"for _ in range(20_000): print('x' * 1000)\nopen({str(tmp_path / 'done')!r}, 'w')"
    job = LocalJob([sys.executable, "-c", much], tmp_path / "log")
    assert job.wait().status == -9
    assert not (tmp_path / "done").exists()


def test_a_line_without_an_end_comes_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_MOST_LINE_BYTES", 1000)
    endless = "while True: print('x', end='')"
    job = LocalJob([sys.executable, "-c", endless], tmp_path / "log")
    lines = job.lines(time.monotonic() + FAR)
    assert [len(next(lines)) for _ in range(3)] == [1000] * 3
    monkeypatch.setattr(local, "_GRACE_S", 0.1)
    job.stop()


def test_a_job_that_does_not_listen_is_ended_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE_S", 0.2)
    deaf = (
        "import subprocess, time\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "while True: time.sleep(60)"
    )
    job = LocalJob([sys.executable, "-c", deaf], tmp_path / "log")
    child = int(next(job.lines(time.monotonic() + FAR)))
    job.stop()
    assert job.wait().status == -9
    subprocess.run(["tail", f"--pid={child}", "-f", "/dev/null"], check=True, timeout=30)


_STARTER = """
import sys
from pathlib import Path
from cloudrun.hosts.local import LocalJob
job = LocalJob([sys.executable, sys.argv[1]], Path(sys.argv[2]))
print(job._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_job_ends_when_its_cloudrun_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(SCRIPTS / "endless.py"), str(tmp_path / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    starter.kill()
    starter.communicate()
    # `tail --pid` returns when the process is gone.
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=30)


@pytest.mark.parametrize(
    ("installed", "says"),
    [(None, "torch is not installed"), ("1.13.1", "torch 1.13.1 is too old")],
)
def test_without_a_torch_that_will_do_the_install_line_is_given(
    monkeypatch: pytest.MonkeyPatch, installed: str | None, says: str
) -> None:
    monkeypatch.setattr(local, "torch_version", lambda: installed)
    with pytest.raises(WorkloadFailed, match=says) as caught:
        LocalHost(None).prepare()
    assert "python -m pip install " in caught.value.try_this
    assert ("--force-reinstall" in caught.value.try_this) == (installed is not None)


@pytest.mark.parametrize("installed", ["2.0.1", "2.13.0+cpu", "10.1"])
def test_a_torch_that_will_do_is_taken(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    monkeypatch.setattr(local, "torch_version", lambda: installed)
    assert LocalHost(None).prepare().python == sys.executable


def test_where_no_torch_fits_the_reason_is_given_instead_of_a_line() -> None:
    k80 = NvidiaGpu("Tesla K80", "470.256.02", "3.7", 11441)
    assert "pip install" not in local.torch_line(Nvidia((k80,), None))
    assert local.torch_line(Nvidia((k80,), None))
