"""Jobs under their supervisor on real machines, through all that can happen to the link."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from cloudrun.errors import DeadlineReached, HostUnreachable, WorkloadFailed
from cloudrun.hosts import jobs
from cloudrun.hosts.base import Chunk, JobEnd
from cloudrun.hosts.link import Link
from tests.doubles.machines import Machine, processes

FAR = 100.0
FOLDER = ".cloudrun/runs/r1/job"


def start(link: Link, shell: str, seconds: int = 60, **environment: str) -> jobs.RemoteJob:
    command = jobs.command_script(["sh", "-c", shell], "", environment)
    return job_of(link, command, seconds)


def job_of(link: Link, command: str, seconds: int = 60) -> jobs.RemoteJob:
    return jobs.RemoteJob(link, FOLDER, start=jobs.start_script(FOLDER, command, seconds))


def read(job: jobs.RemoteJob, wait_s: float = FAR) -> tuple[bytes, bytes]:
    return joined(job.read(time.monotonic() + wait_s))


def joined(chunks: Iterable[Chunk]) -> tuple[bytes, bytes]:
    streams = {1: bytearray(), 2: bytearray()}
    for chunk in chunks:
        streams[chunk.stream] += chunk.data
    return bytes(streams[1]), bytes(streams[2])


def test_both_streams_and_the_exit_status_come_home(link: Link, machine: Machine) -> None:
    job = start(link, 'printf "a\\0b"; echo oh >&2; pwd; exit 7')
    assert read(job) == (b"a\0b%s\n" % machine.own_home.encode(), b"oh\n")
    assert job.end() == JobEnd(7)


def test_a_command_keeps_its_words_and_its_environment_is_nowhere(
    link: Link, machine: Machine
) -> None:
    say = 'echo "$TOKEN" >&2; printf "%s|" "$@"'
    words = ["sh", "-c", say, "sh", "a b", "", "it's", '"$HOME"', "*", "-n", "é\n"]
    command = jobs.command_script(words, "", {"TOKEN": "s3cret'\"$X"})
    job = job_of(link, command)
    out, err = read(job)
    assert out.decode() == 'a b||it\'s|"$HOME"|*|-n|é\n|'
    assert err.decode() == "s3cret'\"$X\n"
    kept = [path for path in machine.home.rglob("*") if path.is_file()]
    assert not any(b"s3cret" in path.read_bytes() for path in kept if path.name != "err")


def test_a_shell_that_says_where_it_goes_spoils_nothing(link: Link, machine: Machine) -> None:
    (machine.home / ".bashrc").write_text("export CDPATH=.:~\n")
    job = start(link, "echo out; echo oh >&2; exit 3")
    assert read(job) == (b"out\n", b"oh\n")
    assert job.end() == JobEnd(3)


def test_to_start_it_twice_starts_it_once(link: Link, machine: Machine) -> None:
    job = start(link, "echo x >>count")
    again = start(link, "echo x >>count")
    assert read(job) == read(again) == (b"", b"")
    assert (machine.home / "count").read_text() == "x\n"


def test_a_job_that_cannot_be_started_is_told(link: Link, machine: Machine) -> None:
    (machine.home / ".cloudrun").write_text("in the way")
    with pytest.raises(WorkloadFailed, match="could not start the job.*Not a directory"):
        read(start(link, "echo on"))


def test_a_job_that_was_begun_is_read(link: Link) -> None:
    job = start(link, "echo on")
    job.begin()
    assert read(job) == (b"on\n", b"")


def test_a_signals_death_is_told_as_shells_do(link: Link) -> None:
    job = start(link, "kill -SEGV $$")
    read(job)
    assert job.end() == JobEnd(128 + signal.SIGSEGV)


def test_the_machine_keeps_the_deadline_also_against_a_deaf_job(
    link: Link, machine: Machine
) -> None:
    job = start(link, 'trap "" TERM; echo $$; while :; do sleep 0.1; done', seconds=1)
    read(job)
    assert job.end() == JobEnd(128 + signal.SIGKILL, "deadline")
    assert "sleep 0.1" not in processes(machine)


def test_a_machine_that_does_not_keep_it_is_left(link: Link) -> None:
    job = start(link, "sleep 60", seconds=60)
    with pytest.raises(DeadlineReached):
        read(job, -jobs._GRACE_S + 0.5)


def test_to_stop_a_job_ends_all_that_it_started(link: Link, machine: Machine) -> None:
    job = start(link, "sleep 987 & sleep 986 & echo on; wait")
    chunks = job.read(time.monotonic() + FAR)
    assert next(chunks) == Chunk(1, b"on\n")
    job.stop()
    assert joined(chunks) == (b"", b"")
    assert job.end() == JobEnd(128 + signal.SIGTERM, "stopped")
    assert "sleep 98" not in processes(machine)
    job.stop()


@pytest.mark.parametrize("left", ["sleep 985 &", "setsid sleep 985 &", "(setsid sleep 985 &);"])
def test_what_a_job_leaves_behind_goes_with_it(link: Link, machine: Machine, left: str) -> None:
    job = start(link, f"{left} echo started")
    assert read(job) == (b"started\n", b"")
    assert job.end() == JobEnd(0)
    assert "sleep 985" not in processes(machine)


def test_a_new_process_goes_on_where_the_last_one_was(link: Link) -> None:
    job = start(link, "for i in 1 2 3 4 5; do echo $i; echo e$i >&2; done; read _ </dev/zero")
    chunks = job.read(time.monotonic() + FAR)
    out = err = b""
    while len(out) < 10 or len(err) < 15:
        chunk = next(chunks)
        out, err = (out + chunk.data, err) if chunk.stream == 1 else (out, err + chunk.data)
    chunks.close()
    job.stop()
    again = jobs.RemoteJob(link, FOLDER, out_at=4, err_at=3)
    assert read(again) == (b"3\n4\n5\n", b"e2\ne3\ne4\ne5\n")


@pytest.mark.parametrize("how", ["the link is cut", "sshd is killed"])
def test_a_loss_at_full_speed_loses_and_doubles_nothing(
    link: Link, machine: Machine, how: str
) -> None:
    lines = 400_000
    job = start(link, f"seq {lines}; seq 1000 >&2")
    out, err, cut = bytearray(), bytearray(), False
    for chunk in job.read(time.monotonic() + FAR):
        (out if chunk.stream == 1 else err).extend(chunk.data)
        if not cut and len(out) > 300_000:
            cut = True
            if how == "sshd is killed":
                machine.signal_sessions(signal.SIGKILL)
            else:
                link.connection.transport.sock.close()
    assert cut
    assert bytes(out) == b"".join(b"%d\n" % number for number in range(1, lines + 1))
    assert bytes(err) == b"".join(b"%d\n" % number for number in range(1, 1001))
    assert job.end() == JobEnd(0)


@pytest.mark.needs_namespaces("its network is cut")
def test_a_link_that_is_cut_and_mended_goes_on(
    link: Link, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudrun.hosts.dial.CONNECT_S", 2.0)
    job = start(link, "for i in 1 2 3; do echo $i; while [ ! -e go$i ]; do sleep 0.02; done; done")
    chunks = job.read(time.monotonic() + FAR)
    assert next(chunks) == Chunk(1, b"1\n")
    machine.cut()
    (machine.home / "go1").touch()
    threading.Timer(14, machine.mend).start()
    assert next(chunks) == Chunk(1, b"2\n")
    (machine.home / "go2").touch()
    (machine.home / "go3").touch()
    assert joined(chunks) == (b"3\n", b"")


@pytest.mark.needs_namespaces("it is switched off")
def test_a_machine_that_is_gone_ends_it_within_a_minute(
    link: Link, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudrun.hosts.link.PATIENCE_S", 3.0)
    job = start(link, "echo on; sleep 60")
    chunks = job.read(time.monotonic() + FAR)
    assert next(chunks) == Chunk(1, b"on\n")
    machine.power_off()
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="cannot be reached"):
        joined(chunks)
    assert time.monotonic() - began < 20


def test_a_job_without_its_supervisor_is_lost_and_ended(link: Link, machine: Machine) -> None:
    job = start(link, "echo on; sleep 984")
    chunks = job.read(time.monotonic() + FAR)
    assert next(chunks) == Chunk(1, b"on\n")
    supervisor = (machine.home / FOLDER / "pid").read_text().split()[0]
    link.connection.run_script(f"kill -KILL {supervisor}")
    assert joined(chunks) == (b"", b"")
    assert job.end() == JobEnd(-1, "lost")
    assert "sleep 984" not in processes(machine)


def test_nothing_watches_over_jobs_that_have_ended(link: Link, machine: Machine) -> None:
    for number in range(12):
        folder = f"{FOLDER}{number}"
        script = jobs.start_script(folder, jobs.command_script(["true"], "", {}), 983)
        read(jobs.RemoteJob(link, folder, start=script))
    ends = time.monotonic() + 5
    while "983" in processes(machine):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_ctrl_c_means_something_to_a_job(link: Link) -> None:
    job = start(link, "kill -INT $$; echo on")
    assert read(job)[0] == b""
    assert job.end() == JobEnd(128 + signal.SIGINT)


def test_a_command_that_is_not_there_is_told_as_shells_do(link: Link) -> None:
    job = job_of(link, jobs.command_script(["no-such-thing"], "", {}))
    assert read(job) == (b"", b"no-such-thing: there is no such command on the machine\n")
    assert job.end() == JobEnd(127)


def test_a_restarted_machine_is_told(link: Link, machine: Machine) -> None:
    job = start(link, "echo on; sleep 60")
    assert next(job.read(time.monotonic() + FAR)) == Chunk(1, b"on\n")
    there = link.connection
    # The supervisor's number is now that of another process of the user's.
    with there.exchange('trap "echo asked to end" TERM; echo $$; read _; echo over') as other:
        said = there.receive(other, 10)
        number = next(said)[1].decode().strip()
        (machine.home / FOLDER / "pid").write_text(f"{number} {number} another-boot\n")
        assert read(job) == (b"", b"")
        assert job.end() == JobEnd(-1, "lost")
        job.stop()
        there.send(other, b"\n")
        assert b"".join(data for _, data in said) == b"over\n"


@pytest.mark.needs_namespaces("its disk is filled")
@pytest.mark.parametrize("disk", ["32m"])
def test_a_full_disk_is_told_and_the_end_is_written_all_the_same(
    link: Link, machine: Machine
) -> None:
    job = start(link, "head -c 40G /dev/zero >big; echo status $? >&2; exit 3")
    read(job)
    assert job.end() == JobEnd(3, disk_full=True)


def test_a_hundred_megabytes_come_in_flat_memory(link: Link) -> None:
    job = start(link, "head -c 100M /dev/zero")
    largest = total = 0
    for chunk in job.read(time.monotonic() + FAR):
        total += len(chunk.data)
        largest = max(largest, len(chunk.data))
    assert total == 100 * 2**20
    assert largest <= 2**20
    assert job.end() == JobEnd(0)


def test_nothing_follows_a_reader_that_is_gone(link: Link, machine: Machine) -> None:
    job = start(link, "echo on; sleep 983")
    chunks = job.read(time.monotonic() + FAR)
    assert next(chunks) == Chunk(1, b"on\n")
    assert "tail -c" in processes(machine)
    link.drop()
    ends = time.monotonic() + 10
    while "tail -c" in processes(machine):
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_killed_client_is_followed_by_another(
    link: Link, machine: Machine, tmp_path: Path
) -> None:
    client = f"""
import sys, time
from pathlib import Path
from cloudrun.hosts import jobs
from cloudrun.hosts.connection import connect
from cloudrun.hosts.link import Link
from cloudrun.hosts.route import Hop
hop = Hop(
    "{machine.address}", {machine.port}, "{machine.user}", keys=(Path("{machine.key}"),),
)
link = Link(lambda: connect([hop], Path("{tmp_path / "known_hosts"}")), print)
command = jobs.command_script(["sh", "-c", "seq 300000; echo end >&2"], "", {{}})
job = jobs.RemoteJob(link, "{FOLDER}", start=jobs.start_script("{FOLDER}", command, 60))
for chunk in job.read(time.monotonic() + 60):
    if chunk.stream == 1:
        sys.stdout.buffer.write(chunk.data)
        sys.stdout.flush()
"""
    with subprocess.Popen([sys.executable, "-c", client], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = process.stdout.read(100_000)
        process.kill()
    again = jobs.RemoteJob(link, FOLDER, out_at=len(first))
    out, err = read(again)
    assert first + out == b"".join(b"%d\n" % number for number in range(1, 300_001))
    assert err == b"end\n"


@pytest.mark.parametrize("job", ["sleep 973", "rm -rf ~/.cloudrun/runs; sleep 973"])
def test_a_job_whose_folder_is_removed_runs_once_and_can_be_stopped(
    link: Link, machine: Machine, job: str
) -> None:
    started = start(link, f"echo run >>~/count; {job}", seconds=600)
    if "rm" not in job:
        started.begin()
        link.connection.run_script("while [ ! -s ~/count ]; do sleep 0.05; done; rm -rf .cloudrun")
    with pytest.raises(WorkloadFailed, match="not on the machine any more"):
        read(started)
    assert (machine.home / "count").read_text() == "run\n"
    started.stop()
    alive = "pgrep -u $(id -u) -f 'sleep 973|supervisor' | grep -v $$"
    done = link.connection.run_script(f"while {alive} >/dev/null; do sleep 0.05; done", limit_s=20)
    assert done.status == 0


def test_the_deadline_is_kept_without_a_folder(link: Link, machine: Machine) -> None:
    started = start(link, "rm -rf ~/.cloudrun/runs; echo $$ >~/pid; exec sleep 973", seconds=2)
    with pytest.raises(WorkloadFailed, match="not on the machine any more"):
        read(started)
    there = 'kill -0 "$(cat ~/pid)" 2>/dev/null'
    done = link.connection.run_script(f"while {there}; do sleep 0.05; done", limit_s=20)
    assert done.status == 0
