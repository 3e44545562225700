from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudrun.errors import DeadlineReached, WorkloadFailed
from cloudrun.hosts import local, tied
from cloudrun.hosts.base import Job, JobEnd, Ready, Work
from cloudrun.hosts.local import LocalHost, LocalJob
from cloudrun.model.need import Command, Need
from cloudrun.workloads.driver import Nvidia, NvidiaGpu

SCRIPTS = Path(__file__).parent.parent / "doubles" / "workloads"
FAR = 60.0


def start(*argv: str) -> LocalJob:
    return LocalJob([sys.executable, *argv], None, {})


def read(job: Job, wait_s: float = FAR) -> dict[int, bytes]:
    said = {1: b"", 2: b""}
    for chunk in job.read(time.monotonic() + wait_s):
        said[chunk.stream] += chunk.data
    return said


def test_what_a_job_says_comes_whole_and_its_end_is_told() -> None:
    job = start(str(SCRIPTS / "good.py"))
    assert read(job)[1].count(b"}\n") == 3
    assert job.end() == JobEnd(0)


def test_a_death_is_told_with_the_last_words() -> None:
    job = start(str(SCRIPTS / "dying.py"))
    assert read(job)[2] == b"the last word on stderr\n"
    assert job.end() == JobEnd(128 + signal.SIGKILL)


def test_the_deadline_is_kept_and_the_job_can_be_stopped_twice() -> None:
    job = start(str(SCRIPTS / "endless.py"))
    with pytest.raises(DeadlineReached):
        read(job, 1.0)
    job.stop()
    job.stop()
    assert job.end() == JobEnd(0, "stopped")


def test_a_job_that_babbles_keeps_the_deadline_too() -> None:
    job = start("-c", "while True: print('{}', flush=True)")
    with pytest.raises(DeadlineReached):
        read(job, 0.5)
    job.stop()


def test_a_job_that_says_more_than_is_read_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_GRACE_S", 0.2)
    job = start("-c", "import sys; sys.stdout.buffer.write(bytes(2**30))")
    next(job.read(time.monotonic() + FAR))
    assert job._chunks.qsize() <= local._MOST_WAITING
    job.stop()
    assert job.end() == JobEnd(128 + signal.SIGKILL, "stopped")


@pytest.mark.parametrize("by_user", [True, False])
def test_a_job_that_does_not_listen_is_ended_by_force(
    monkeypatch: pytest.MonkeyPatch, by_user: bool
) -> None:
    monkeypatch.setattr(local, "_GRACE_S", 0.2)
    deaf = (
        "import signal, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True)\n"
        "while True: time.sleep(60)"
    )
    job = start(*([tied.__file__, sys.executable] if by_user else []), "-c", deaf)
    child = int(next(job.read(time.monotonic() + FAR)).data)
    job.stop()
    assert job.end() == JobEnd(128 + signal.SIGKILL, "stopped")
    subprocess.run(["tail", f"--pid={child}", "-f", "/dev/null"], check=True, timeout=30)


def users(*argv: str, folder: Path) -> tuple[Need, Work]:
    need = Need(command=Command(argv=argv, folder=str(folder)))
    return need, Work("arun", argv, 60, {"A": "b"})


def test_a_users_command_runs_in_its_folder_and_reads_nothing(tmp_path: Path) -> None:
    said = "import os, sys; print(os.getcwd(), os.environ['A'], repr(sys.stdin.read())); exit(3)"
    need, work = users(sys.executable, "-c", said, folder=tmp_path)
    job = LocalHost(None).start(Ready("", ""), need, work)
    assert read(job)[1].decode() == f"{tmp_path} b ''\n"
    assert job.end() == JobEnd(3)


def test_a_signals_death_of_a_users_command_is_told_as_shells_do(tmp_path: Path) -> None:
    need, work = users("sh", "-c", "kill -SEGV $$", folder=tmp_path)
    job = LocalHost(None).start(Ready("", ""), need, work)
    read(job)
    assert job.end() == JobEnd(128 + signal.SIGSEGV)


@pytest.mark.parametrize("session", ["", "setsid "])
def test_what_a_stopped_command_has_started_goes_with_it(tmp_path: Path, session: str) -> None:
    need, work = users("sh", "-c", f"echo on; {session}sleep 1000", folder=tmp_path)
    job = LocalHost(None).start(Ready("", ""), need, work)
    said = job.read(time.monotonic() + 30)
    assert next(said).data == b"on\n"
    job.stop()
    # Its streams close, since nobody is left who holds them; else this is the deadline.
    assert list(said) == []


@pytest.mark.parametrize("leave", [
    "sleep 1000 &", "trap '' TERM; sleep 1000 &", "setsid sleep 1000 &",
    "setsid sleep 1000 >/dev/null 2>&1 &",
])  # fmt: skip
def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path, leave: str) -> None:
    need, work = users("sh", "-c", f"{leave} echo $!; exit 3", folder=tmp_path)
    job = LocalHost(None).start(Ready("", ""), need, work)
    pid = read(job)[1].strip().decode()
    assert job.end() == JobEnd(3)
    subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], check=True, timeout=30)


def test_a_daemon_that_holds_its_streams_is_not_waited_for(tmp_path: Path) -> None:
    hide = "env -u CLOUDRUN_JOB setsid sleep 1000 & echo $!; exit 3"
    need, work = users("sh", "-c", hide, folder=tmp_path)
    job = LocalHost(None).start(Ready("", ""), need, work)
    pid = int(read(job)[1])
    try:
        assert job.end() == JobEnd(3)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    need, work = users("no-such-program", folder=tmp_path)
    with pytest.raises(WorkloadFailed, match="'no-such-program' cannot be started"):
        LocalHost(None).start(Ready("", ""), need, work)


def test_one_stream_may_close_long_before_the_other() -> None:
    closes = "import os, time; os.close(2); print('a', flush=True); time.sleep(600)"
    job = start("-c", closes)
    with pytest.raises(DeadlineReached):
        read(job, 1.0)
    job.stop()
    began = time.monotonic()
    read(job, 30)
    assert time.monotonic() - began < 10


_STARTER = """
import sys
from cloudrun.hosts.local import LocalJob
job = LocalJob([sys.executable, sys.argv[1]], None, {})
print(job._process.pid, flush=True)
sys.stdin.read()
"""


def test_a_job_ends_when_its_cloudrun_is_killed() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, str(SCRIPTS / "endless.py")],
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


_MARKED = """
import sys
from cloudrun.hosts import tied
from cloudrun.hosts.local import LocalJob
command = (sys.executable, tied.__file__, "sh", "-c", "setsid sleep 1000 & echo $!; wait")
job = LocalJob(command, None, {}, mark="marked")
print(next(job.read(1e12)).data.decode(), end="", flush=True)
sys.stdin.read()
"""


def test_so_does_what_it_started_in_a_session_of_its_own() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", _MARKED], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.communicate()
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
        LocalHost(None).prepare(Need(), print, 0)
    assert "python -m pip install " in caught.value.try_this
    assert ("--force-reinstall" in caught.value.try_this) == (installed is not None)


@pytest.mark.parametrize("installed", ["2.0.1", "2.13.0+cpu", "10.1"])
def test_a_torch_that_will_do_is_taken(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    monkeypatch.setattr(local, "torch_version", lambda: installed)
    assert LocalHost(None).prepare(Need(), print, 0).python == sys.executable


def test_where_no_torch_fits_the_reason_is_given_instead_of_a_line() -> None:
    k80 = NvidiaGpu("Tesla K80", "470.256.02", "3.7", 11441)
    assert "pip install" not in local.torch_line(Nvidia((k80,), None))
    assert local.torch_line(Nvidia((k80,), None))
