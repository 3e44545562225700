"""The command line on a real machine over SSH, as its user would use it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudrun import settings
from cloudrun.errors import BadSettings, HostUnreachable
from cloudrun.launcher import lifecycle, project
from cloudrun.launcher.journal import Journal
from cloudrun.model.events import CommandSaid, Event
from cloudrun.model.need import Need
from cloudrun.providers import ssh
from tests.conftest import Cloudrun
from tests.doubles.machines import Machine, processes

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def box(machine: Machine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine as a target: its key is known, and ours opens it."""
    machine.give_python()
    user_home = tmp_path / "user"
    folder = user_home / ".ssh"
    folder.mkdir(parents=True)
    (folder / "known_hosts").write_text(f"{machine.known_name} {machine.host_key}\n")
    (folder / "config").write_text(
        f"Host box\n  HostName {machine.address}\n  Port {machine.port}\n"
        f"  User {machine.user}\n  IdentityFile {machine.key}\n"
    )
    monkeypatch.setenv("HOME", str(user_home))
    return "ssh://box"


@pytest.mark.xdist_group("torch")
def test_a_launch_gives_the_same_report_as_here(cloudrun: Cloudrun, box: str) -> None:
    done = cloudrun("launch", "--on", box, "--workload", "smoke", "--json")
    report = json.loads(done.stdout)
    assert done.returncode in (0, 1), done.stderr
    assert report["environment"]["torch"].startswith("2.")
    assert report["machine"]["provider"] == "ssh"
    assert {"autograd", "matmul"} <= {check["name"] for check in report["checks"]}


@pytest.mark.needs_namespaces("its sshd opens a terminal, for which most must be root")
def test_a_shell_opens_on_the_machine_of_a_run(
    cloudrun: Cloudrun, box: str, machine: Machine
) -> None:
    launched = cloudrun("launch", "--on", box, "--workload", "smoke", "--ttl", "1s")
    assert launched.returncode == 75, launched.stderr
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (17, 91))
    command = [sys.executable, "-m", "cloudrun", "ssh", "last"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        # What is typed before the shell is there is lost, as at any terminal that is made raw.
        shell.stdout.read(1)
        os.write(ours, b"stty size; echo on $(hostname); exit 7\r")
        said = shell.communicate(timeout=60)[0].decode()
    os.close(ours)
    os.close(theirs)
    assert shell.returncode == 7
    assert f"on {machine.name}" in said
    assert "17 91" in said
    # Without a terminal it reads to the end of its input, and echoes nothing.
    piped = subprocess.run(command, input="echo $((6 * 7))", capture_output=True, encoding="utf-8")
    assert (piped.returncode, piped.stdout) == (0, "42\n")


def test_of_several_targets_the_first_that_answers_is_taken(
    cloudrun: Cloudrun, box: str, machine: Machine
) -> None:
    nobody = f"ssh://{machine.user}@{machine.address}:9"
    done = cloudrun("run", "--gpu", "any", "--on", f"{nobody},{box}", "--", "hostname")
    assert (done.returncode, done.stdout) == (0, f"{machine.name}\n"), done.stderr
    assert "Nothing listens on its port 9" in " ".join(done.stderr.split())
    both = cloudrun("run", "--on", f"{nobody},local", "--", "echo", "here")
    assert (both.returncode, both.stdout) == (0, "here\n"), both.stderr


def test_without_a_machine_of_its_own_there_is_no_shell(cloudrun: Cloudrun) -> None:
    assert cloudrun("ssh", "last").returncode == 2


def test_a_command_runs_there_and_its_results_come_home(
    cloudrun: Cloudrun, box: str, machine: Machine
) -> None:
    work = Path.cwd()
    (work / "data").mkdir()
    (work / "data" / "numbers").write_text("1 2 3")
    (work / "work.sh").write_text(
        "pwd; cat data/numbers; echo oh >&2; mkdir -p results/deep; echo $SECRET >results/deep/a\n"
        "exit 7\n"
    )
    done = cloudrun(
        *("run", "--on", box, "--data", "data", "--env", "SECRET=s3cret", "--env=B=s3cret"),
        *("--", "sh", "work.sh"),
    )
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith(f"{machine.own_home}/.cloudrun/projects/work-")
    assert done.stdout.endswith("1 2 3")
    assert "\noh\n" in done.stderr
    assert "exit status 7; 1 file of results came home" in " ".join(done.stderr.split())
    assert (work / "results" / "deep" / "a").read_text() == "s3cret\n"
    report = json.loads(cloudrun("report", "show", "--json").stdout)
    assert (report["outcome"], report["run"]["workload"]) == ("failed", "command")
    assert report["provenance"]["argv"].count("SECRET=...") == 1
    ours = [path for path in Path(os.environ["CLOUDRUN_HOME"]).rglob("*") if path.is_file()]
    assert not any(b"s3cret" in path.read_bytes() for path in ours)
    assert cloudrun("ps").stderr == "Nothing is running.\n"


def wait_for(what: Callable[[], object]) -> None:
    ends = time.monotonic() + 30
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.02)


COUNT = "i=0; while [ ! -e stop ]; do echo $i; i=$((i+1)); sleep 0.01; done; echo done >&2"


def test_what_ignore_files_leave_here_is_told(cloudrun: Cloudrun, box: str) -> None:
    work = Path.cwd()
    (work / "cache").mkdir()
    for name in ("train.py", "a.log", "b.log", "cache/1", "cache/2", "old.bin"):
        (work / name).write_text("12345")
    (work / ".gitignore").write_text("*.log\ncache/\n")
    (work / ".cloudrunignore").write_text("old.bin\n")
    command = ("run", "--on", box, "--", "true")

    def told() -> str:
        return " ".join(cloudrun(*command).stderr.split())

    left = "3 files and 1 folder are left here by .cloudrunignore and .gitignore."
    assert f"Of work, 3 files went over (26 B); {left}" in told()
    (work / ".gitignore").unlink()
    assert "Of work, 4 files went over (20 B); 1 file is left here by .cloudrunignore." in told()
    assert "nothing had to go over; 1 file is left" in told()
    (work / ".cloudrunignore").unlink()
    assert "went over" not in told()


def test_a_detached_run_is_listed_read_and_brought_home(
    cloudrun: Cloudrun, box: str, machine: Machine
) -> None:
    left = cloudrun("run", "--on", box, "--detach", "--", "sh", "-c", COUNT)
    assert left.returncode == 0, left.stderr
    run = left.stdout.split()[0]
    (listed,) = json.loads(cloudrun("ps", "--json").stdout)
    assert (listed["run"]["id"], listed["state"]) == (run, "not followed")
    wait_for(lambda: "3\n" in cloudrun("logs", "last").stdout)
    (there,) = (machine.home / ".cloudrun" / "projects").glob("work-*")
    with subprocess.Popen(
        [sys.executable, "-m", "cloudrun", "logs", "-f", run[:6]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "0\n"
        (there / "stop").touch()
        rest = following.stdout.read()
        assert following.stderr is not None
        assert following.stderr.read() == "done\n"
    followed = f"0\n{rest}"
    attached = cloudrun("attach", run)
    assert attached.returncode == 0, attached.stderr
    assert attached.stdout == followed
    assert cloudrun("ps").stderr == "Nothing is running.\n"
    assert cloudrun("logs", run).stdout == followed
    assert not (machine.home / ".cloudrun" / "runs" / run).exists()
    again = cloudrun("attach", run)
    assert (again.returncode, "is over" in again.stderr) == (2, True)


def test_a_killed_cloudrun_is_taken_up_where_it_was(box: str, cloudrun: Cloudrun) -> None:
    command = [sys.executable, "-m", "cloudrun", "run", "--on", box, "--", "sh", "-c"]
    with subprocess.Popen(
        [*command, "seq 200000; mkdir -p results; echo x >results/y"], stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        began = first.stdout.read(50_000)
        first.kill()
    attached = cloudrun("attach", "last")
    assert attached.returncode == 0, attached.stderr
    whole = "".join(f"{number}\n" for number in range(1, 200_001))
    assert whole.startswith(began.decode())
    assert whole.endswith(attached.stdout)
    assert cloudrun("logs", "last").stdout == whole
    assert Path("results/y").read_text() == "x\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_a_signal_stops_the_job_and_keeps_its_results(
    box: str, machine: Machine, cloudrun: Cloudrun, number: signal.Signals
) -> None:
    shell = "mkdir -p results; echo half >results/model; echo on; sleep 976"
    with subprocess.Popen(
        [sys.executable, "-m", "cloudrun", "run", "--on", box, "--", "sh", "-c", shell],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert Path("results/model").read_text() == "half\n"
    assert "sleep 976" not in processes(machine)
    assert cloudrun("ps").stderr == "Nothing is running.\n"


def test_the_deadline_is_75_and_what_there_is_comes_home(cloudrun: Cloudrun, box: str) -> None:
    shell = "mkdir -p results; echo half >results/model; sleep 976"
    done = cloudrun("run", "--on", box, "--ttl", "2s", "--", "sh", "-c", shell)
    assert done.returncode == 75, done.stderr
    assert Path("results/model").read_text() == "half\n"


def test_down_ends_a_run_that_goes_on_alone(cloudrun: Cloudrun, box: str, machine: Machine) -> None:
    left = cloudrun("run", "--on", box, "--detach", "--", "sh", "-c", "echo on; sleep 975")
    assert left.returncode == 0, left.stderr
    ended = cloudrun("down", "last")
    assert ended.returncode == 0, ended.stderr
    assert "sleep 975" not in processes(machine)
    assert cloudrun("ps").stderr == "Nothing is running.\n"
    assert cloudrun("down", "--all").stderr == "Nothing is running.\n"


@pytest.mark.needs_namespaces("it is switched off")
def test_a_machine_that_goes_out_ends_the_command_in_words(
    box: str, machine: Machine, monkeypatch: pytest.MonkeyPatch, cloudrun: Cloudrun
) -> None:
    monkeypatch.setattr("cloudrun.hosts.link.PATIENCE_S", 2.0)
    monkeypatch.setattr("cloudrun.hosts.dial.DEAD_S", 8)
    monkeypatch.setattr("cloudrun.hosts.dial.CONNECT_S", 2.0)

    def listener(event: Event) -> None:
        if isinstance(event, CommandSaid):
            machine.power_off()

    need = Need(targets=(box,), command=project.command(("sh", "-c", "echo on; sleep 9"), Path()))
    with pytest.raises(HostUnreachable, match="cloudrun attach"):
        lifecycle.run(need, around=lifecycle.Around(listener=listener))
    assert cloudrun("ps", "--json").stdout.count("not followed") == 1


def test_a_full_disk_here_leaves_the_job_and_can_be_mended(
    box: str, cloudrun: Cloudrun, home: Path, machine: Machine
) -> None:
    run = (
        "sh",
        "-c",
        "echo on; while [ ! -e go ]; do sleep 0.05; done; mkdir -p results; echo 1 >results/a",
    )

    def listener(event: Event) -> None:
        if isinstance(event, CommandSaid):
            # A folder where a file is to be: as good as a disk that takes no more.
            Path("results").write_text("in the way")
            (there,) = (machine.home / ".cloudrun" / "projects").glob("work-*")
            (there / "go").touch()

    need = Need(targets=(box,), command=project.command(run, Path.cwd()))
    with pytest.raises(BadSettings, match="cloudrun attach"):
        lifecycle.run(need, around=lifecycle.Around(listener=listener))
    Path("results").unlink()
    assert cloudrun("attach", "last").returncode == 0
    assert Path("results/a").read_text() == "1\n"


def test_an_unknown_host_is_refused_where_nobody_is_there(
    cloudrun: Cloudrun, box: str, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "user" / ".ssh" / "known_hosts").unlink()
    done = cloudrun("run", "--on", box, "--yes", "--", "true")
    assert done.returncode == 76
    assert "not known" in done.stderr


def test_a_gpu_that_is_not_there_is_told(cloudrun: Cloudrun, box: str, machine: Machine) -> None:
    asked = ("run", "--on", box, "--gpu", "T4", "--", "echo", "on")
    without = cloudrun(*asked)
    assert (without.returncode, without.stdout) == (69, "")
    assert "no NVIDIA GPU" in without.stderr
    put_smi(machine, "echo 'NVIDIA L4, 23034'; echo 'Tesla T4, 15360'")
    assert cloudrun(*asked).stdout == "on\n"
    two = cloudrun("run", "--on", box, "--gpu", "T4:2", "--", "echo", "on")
    assert two.returncode == 69
    assert "NVIDIA L4, Tesla T4" in two.stderr


def put_smi(machine: Machine, row: str) -> None:
    smi = machine.root / "usr/local/bin/nvidia-smi"
    smi.write_text(f"#!/bin/sh\n{row}\n")
    smi.chmod(0o755)


@pytest.mark.parametrize("gpu", [True, False])
def test_the_report_of_a_command_names_the_machines_device(
    cloudrun: Cloudrun, box: str, machine: Machine, gpu: bool
) -> None:
    if gpu:
        put_smi(machine, "echo 'Tesla T4, 580.95.05, 15360'; echo 'Tesla T4, 580.95.05, 15360'")
    assert cloudrun("run", "--on", box, "--", "true").returncode == 0
    (listed,) = json.loads(cloudrun("report", "list", "--json").stdout)
    shown = cloudrun("report", "show").stdout
    if gpu:
        assert listed["device"] == "Tesla T4"
        assert "Device    Tesla T4, 2 GPUs, 15 GiB\nSoftware  driver 580.95.05, Python 3" in shown
    else:
        assert f": {listed['device']}\n" in Path("/proc/cpuinfo").read_text()
        assert "no GPU" in shown
    assert "Next" not in shown


def test_a_host_has_a_name_in_the_settings(cloudrun: Cloudrun, box: str, machine: Machine) -> None:
    assert cloudrun("config", "set", "hosts.lab", box).returncode == 0
    assert cloudrun("config", "set", "run.on", "lab").returncode == 0
    done = cloudrun("run", "--", "hostname")
    assert done.stdout == f"{machine.name}\n", done.stderr
    assert cloudrun("run", "--on", "lap", "--", "true").stderr.count("'lab'") == 1


def test_the_doctor_says_what_a_host_has(cloudrun: Cloudrun, box: str, machine: Machine) -> None:
    cloudrun("config", "set", "hosts.lab", box)

    def found(on: str) -> tuple[int, dict[str, str]]:
        done = cloudrun("doctor", "--on", on, "--json")
        (row,) = json.loads(done.stdout)
        return done.returncode, row

    status, row = found("lab")
    assert (status, row["name"], row["status"]) == (0, "ssh lab", "pass")
    assert row["detail"].startswith("Python 3.")
    put_smi(machine, "echo 'Tesla T4, 580.95.05, 15360'")
    assert "; NVIDIA driver 580.95.05: Tesla T4; Linux" in found("lab")[1]["detail"]
    put_smi(machine, "echo 'Driver/library version mismatch'; exit 18")
    status, row = found(box)
    assert (status, row["status"]) == (1, "fail")
    assert "Driver/library version mismatch" in row["detail"]
    assert row["remedy"]


def test_the_doctor_asks_all_hosts_at_once_and_nobody_for_a_key(
    box: str, machine: Machine, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "user/.ssh/config").open("a") as config:
        config.write(
            f"Host stranger\n  Port {machine.port}\n  HostName {machine.address}\n"
            "  HostKeyAlias elsewhere\n"
        )
    monkeypatch.setattr(ssh, "_LOOK_S", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        hosts = {
            "lab": box,
            "stranger": "ssh://stranger",
            "closed": "ssh://box:1",
            "unwanted": f"ssh://{machine.user}x@box",
            "deaf": f"ssh://127.0.0.1:{deaf.getsockname()[1]}",
            "wrong": "ssh://no-such-host.invalid",
        }
        lines = "".join(f'{name} = "{target}"\n' for name, target in hosts.items())
        home.mkdir(exist_ok=True)
        (home / "config.toml").write_text(f"[hosts]\n{lines}")
        began = time.monotonic()
        found = {finding.name.removeprefix("ssh "): finding for finding in ssh.check()}
        took = time.monotonic() - began
    assert took < 4
    assert {name: finding.status for name, finding in found.items()} == {
        **dict.fromkeys(hosts, "fail"),
        "lab": "pass",
    }
    assert "is not known" in found["stranger"].detail
    assert "Nothing listens on its port 1" in found["closed"].detail
    assert "does not let you in" in found["unwanted"].detail
    assert "did not answer within" in found["deaf"].detail
    assert all(finding.remedy for name, finding in found.items() if name != "lab")
    assert not (home / "state" / "known_hosts").exists()


def test_what_is_no_ssh_server_is_told_without_a_traceback(cloudrun: Cloudrun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close() -> None:
            server.accept()[0].close()

        threading.Thread(target=close, daemon=True).start()
        done = cloudrun("doctor", "--on", f"ssh://127.0.0.1:{server.getsockname()[1]}", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    (row,) = json.loads(done.stdout)
    assert "cannot be reached" in row["detail"]


@pytest.mark.parametrize(
    ("options", "status"),
    [(["--keep"], 0), (["--keep-failed", "10m"], 3), (["--keep-failed", "9m"], 0)],
)
def test_what_is_kept_is_listed_and_ended_by_down(
    cloudrun: Cloudrun, box: str, machine: Machine, options: list[str], status: int
) -> None:
    kept = "--keep" in options or status != 0
    done = cloudrun("run", "--on", box, *options, "--", "sh", "-c", f"exit {status}")
    assert done.returncode == status, done.stderr
    runs = machine.home / ".cloudrun" / "runs"
    assert len(list(runs.iterdir())) == kept
    states = [row["state"][:10] for row in json.loads(cloudrun("ps", "--json").stdout)]
    assert states == ["kept until"] * kept
    assert cloudrun("down", "--all").returncode == 0
    assert list(runs.iterdir()) == []
    assert json.loads(cloudrun("ps", "--json").stdout) == []


def test_notebooks_open_through_a_tunnel_and_end_with_us(
    cloudrun: Cloudrun, box: str, machine: Machine
) -> None:
    assert cloudrun("run", "--on", box, "--", "sh", "-c", "echo 1 >there.txt").returncode == 0
    with subprocess.Popen(
        [sys.executable, "-m", "cloudrun", "jupyter", "last", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            token = address.partition("token=")[2]
            api = address.partition("/lab?")[0] + "/api/contents"
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(api)  # noqa: S310
            with urllib.request.urlopen(f"{api}?token={token}") as answer:  # noqa: S310
                names = [entry["name"] for entry in json.load(answer)["content"]]
            assert "there.txt" in names
            assert token not in processes(machine)
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, stderr
    wait_for(lambda: "jupyterlab" not in processes(machine))


@pytest.mark.needs_namespaces("its network is cut")
def test_a_down_that_cannot_reach_the_machine_keeps_the_run(
    cloudrun: Cloudrun, box: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = cloudrun("run", "--on", box, "--detach", "--", "sleep", "973")
    assert left.returncode == 0, left.stderr
    machine.cut()
    monkeypatch.setattr("cloudrun.hosts.dial.CONNECT_S", 1.0)
    with Journal(settings.places().state) as journal:
        (row,) = journal.open_runs()
        with pytest.raises(HostUnreachable, match="may go on there.*cloudrun down"):
            lifecycle.stop(row, journal)
    machine.mend()
    assert json.loads(cloudrun("ps", "--json").stdout)[0]["state"] == "not followed"
    assert cloudrun("down", "last").returncode == 0
    assert "sleep 973" not in processes(machine)
    assert json.loads(cloudrun("ps", "--json").stdout) == []


def test_a_terminal_that_has_gone_leaves_the_job(
    box: str, machine: Machine, cloudrun: Cloudrun
) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "cloudrun",
            "run",
            "--on",
            box,
            "--",
            "sh",
            "-c",
            "echo on; sleep 972",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGHUP)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "cloudrun attach" in stderr
    assert "sleep 972" in processes(machine)
    assert cloudrun("down", "last").returncode == 0
    assert "sleep 972" not in processes(machine)


@pytest.mark.parametrize(
    ("keys", "goes_on"), [(b"leave\n", True), (b"what\nstop\n", False), (b"\x03", True)]
)
def test_ctrl_c_at_a_terminal_asks_what_is_to_become_of_the_job(
    box: str, machine: Machine, cloudrun: Cloudrun, keys: bytes, goes_on: bool
) -> None:
    ours, its = pty.openpty()
    command = ["run", "--on", box, "--", "sh", "-c", "echo on-the-way; sleep 971"]
    with subprocess.Popen(
        [sys.executable, "-m", "cloudrun", *command],
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(its)
        seen = b""
        for wanted, answer in ((b"on-the-way\r\n", b"\x03"), (b"leave it running?", keys)):
            while wanted not in seen:
                seen += os.read(ours, 4096)
            os.write(ours, answer)
        with contextlib.suppress(OSError):
            while os.read(ours, 4096):
                pass
        assert process.wait(timeout=60) == 130
    os.close(ours)
    assert ("sleep 971" in processes(machine)) == goes_on
    assert len(json.loads(cloudrun("ps", "--json").stdout)) == goes_on
    cloudrun("down", "--all")


def test_two_runs_of_a_folder_are_told_of_each_other(cloudrun: Cloudrun, box: str) -> None:
    first = cloudrun("run", "--on", box, "--detach", "--", "sleep", "970")
    second = cloudrun("run", "--on", box, "--", "true")
    assert first.stdout.split()[0] in second.stderr
    assert "changes its files there" in " ".join(second.stderr.split())
    assert cloudrun("down", "--all").returncode == 0


def test_a_home_is_not_pushed(
    cloudrun: Cloudrun, box: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (Path.home(), Path.home().parent, Path("/")):
        monkeypatch.chdir(folder)
        done = cloudrun("run", "--on", box, "--", "true")
        assert done.returncode == 2
        assert "is your home or holds it" in " ".join(done.stderr.split())
    assert not (machine.home / ".cloudrun").exists()


@pytest.mark.needs_namespaces("its disk is filled")
@pytest.mark.parametrize("disk", ["32m"])
def test_a_job_that_fills_the_machines_disk_can_be_ended(
    cloudrun: Cloudrun, box: str, machine: Machine
) -> None:
    fill = "mkdir -p results; echo 1 >results/a; head -c 40M /dev/zero >&2; echo $?"
    done = cloudrun("run", "--on", box, "--", "sh", "-c", fill)
    # Its last words found no room either.
    assert (done.returncode, done.stdout) == (1, "")
    assert "disk is full" in " ".join(done.stderr.split())
    assert Path("results/a").read_text() == "1\n"
    assert json.loads(cloudrun("ps", "--json").stdout) == []


@pytest.mark.needs_namespaces("its disk is filled")
@pytest.mark.parametrize("disk", ["1m"])
def test_a_full_disk_there_is_told_before_a_launch(
    cloudrun: Cloudrun, box: str, machine: Machine
) -> None:
    with contextlib.suppress(OSError), (machine.home / "full").open("wb") as full:
        while True:
            full.write(bytes(2**16))
    done = cloudrun("launch", "--on", box, "--workload", "smoke")
    assert done.returncode == 69
    assert "is full. Make room on it." in " ".join(done.stderr.split())
