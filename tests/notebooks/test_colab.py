"""Runs in Colab, through a program that behaves as Google's client does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import (
    CannotHave,
    CloudrunError,
    HostUnreachable,
    NoCredentials,
    NotInstalled,
    Unavailable,
)
from cloudrun.launcher import lifecycle
from cloudrun.model.need import Need
from cloudrun.notebooks import colab as provider
from cloudrun.notebooks import payload, tied_client
from tests.conftest import Cloudrun
from tests.doubles import clients
from tests.doubles.clients import Service
from tests.doubles.notebooks import scripted_programs

CLOUDRUN = (sys.executable, "-m", "cloudrun")
ON = ("--on", "colab", "--yes")
# Says that it runs, and then nothing more until it is ended.
FOREVER = "import time; print('running', flush=True); time.sleep(600)"


SMOKE = Need(targets=("colab",), workload="smoke")


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workloads that find everything in order, at once."""
    monkeypatch.setattr(payload, "WORKLOADS", scripted_programs(tmp_path / "w", "good.py"))


@pytest.fixture(params=clients.KINDS)
def colab(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Service]:
    with clients.installed("colab", request.param, tmp_path, monkeypatch) as service:
        yield service


def test_a_launch_gives_a_report_and_its_machine_back(colab: Service, short: None) -> None:
    colab.goes_wrong("banner")
    report = lifecycle.launch(SMOKE)
    assert report.outcome == "passed"
    assert report.machine.provider == "colab"
    assert [check.name for check in report.checks] == ["torch"]
    assert colab.machines() == []
    _, run, _ = colab.calls()
    assert [call[0] for call in colab.calls()] == ["version", "run", "sessions"]
    # The client's own limit ends nothing: after it, the client only spins.
    assert int(run[run.index("--timeout") + 1]) >= SMOKE.ttl_s + 300


def test_a_command_speaks_and_ends_as_it_does_here_and_its_results_come_home(
    colab: Service,
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
    assert b"1 file of results came home" in done.stderr
    assert Path("results/model.bin").read_bytes() == bytes(range(256))
    assert colab.machines() == []


def start(*arguments: str, **more: object) -> subprocess.Popen[str]:
    """Start a command that says `running`, and wait until it has."""
    process = subprocess.Popen(
        [*CLOUDRUN, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        **more,  # type: ignore[call-overload]
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_interrupts_a_run_gives_the_machine_back(
    colab: Service, cloudrun: Cloudrun, number: int
) -> None:
    process = start("run", *ON, "--", "python", "-c", FOREVER)
    assert len(colab.machines()) == 1
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "All that it had started was ended" in said
    assert colab.machines() == []
    assert cloudrun("ps").stderr == "Nothing is running.\n"


def test_who_waits_for_a_machine_can_give_up(colab: Service) -> None:
    colab.goes_wrong("slow")
    process = subprocess.Popen(
        [*CLOUDRUN, "run", *ON, "--", "true"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    clients.wait_for(colab.folder / "asked")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert colab.machines() == []


def test_the_client_is_interrupted_even_where_interrupts_are_ignored(colab: Service) -> None:
    """As for what a script starts in its background: the client would not hear of it."""
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = start("run", *ON, "--", "python", "-c", FOREVER, **ignore)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert colab.machines() == []


def test_a_killed_cloudrun_leaves_no_machine(colab: Service, cloudrun: Cloudrun) -> None:
    process = start("run", *ON, "--", "python", "-c", FOREVER)
    process.kill()
    process.wait()
    # What ties the client to us sees to it.
    colab.wait_until_one_is_given_back()
    assert colab.machines() == []
    told = cloudrun("ps")
    assert "was cut off before its end" in told.stderr
    assert colab.machines() == []
    assert not list((Path(os.environ["CLOUDRUN_HOME"]) / "state" / "colab").iterdir())


def test_an_interrupted_client_gives_its_machine_back_by_itself(
    colab: Service, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(FOREVER)
    client = ("colab", "--config", str(tmp_path / "state.json"), "run", "-s", "x", "--gpu", "T4")
    nothing = json.dumps(["true"])
    process = subprocess.Popen(
        [sys.executable, tied_client.__file__, nothing, *client, str(tmp_path / "script.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    assert len(colab.machines()) == 1
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert colab.machines() == []


def test_a_machine_that_the_client_forgot_is_given_back(colab: Service, short: None) -> None:
    """The client swallows an error of its last act, and forgets the machine all the same."""
    colab.goes_wrong("teardown fails")
    assert lifecycle.launch(SMOKE).outcome == "passed"
    assert [call[0] for call in colab.calls()][1:] == ["run", "sessions", "stop", "sessions"]
    assert colab.machines() == []


def test_a_machine_that_stays_is_named_and_ended_later(colab: Service, cloudrun: Cloudrun) -> None:
    Path("train.py").write_text("")
    colab.goes_wrong("stays")
    done = cloudrun("run", *ON, "--", "python", "train.py")
    assert done.returncode == 68
    assert "Colab still lists the machine" in done.stderr.replace("\n", " ")
    colab.goes_wrong("logged out")
    unseen = cloudrun("leaks")
    assert unseen.returncode == 68
    assert "Whether Colab has still the machine" in unseen.stderr.replace("\n", " ")
    colab.goes_wrong("")
    told = cloudrun("leaks", "--json")
    assert "could not be ended" not in told.stderr
    assert json.loads(told.stdout) == []
    assert colab.machines() == []


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ("412", CannotHave, "a limit is reached"),
        ("400", CannotHave, "does not give your account a T4"),
        ("503", CannotHave, "has no T4 free now"),
        ("logged out", NoCredentials, "login has expired"),
        ("lost", HostUnreachable, "took the machine back"),
    ],
)
def test_what_colab_refuses_is_told_with_a_remedy(
    colab: Service, short: None, fault: str, kind: type[CloudrunError], says: str
) -> None:
    colab.goes_wrong(fault)
    with pytest.raises(kind, match=says) as told:
        lifecycle.launch(SMOKE)
    assert told.value.try_this
    assert colab.machines() == []


def test_a_machine_without_a_gpu_is_not_measured(colab: Service, short: None) -> None:
    (colab.folder / "gpu" / "nvidia-smi").unlink()
    with pytest.raises(Unavailable, match="without a GPU"):
        lifecycle.launch(SMOKE)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        ("echo Version: 0.6.0", "It is 0.6.0; cloudrun needs 0.7.5"),
        ("echo colab-cli 2.2.5", "not the official client"),
    ],
)
def test_a_client_that_will_not_do_is_told_with_a_remedy(
    colab: Service, tmp_path: Path, says: str, told: str
) -> None:
    clients.program(tmp_path / "clients" / "colab", says)
    with pytest.raises(NotInstalled, match=told):
        lifecycle.launch(SMOKE)


def test_on_windows_it_says_what_works_there(
    colab: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(NotInstalled, match="--on kaggle"):
        provider.offers(SMOKE)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--detach"], "cannot be detached"),
        (["--env", "TOKEN=x"], "--env (TOKEN) cannot go to Colab"),
        (["--data", "data"], "Data cannot go"),
        (["--gpu", "V100"], "no V100 to be had from colab"),
    ],
)
def test_what_cannot_be_done_is_refused_before_a_machine_is_taken(
    colab: Service, cloudrun: Cloudrun, options: list[str], says: str
) -> None:
    Path("data").mkdir()
    done = cloudrun("run", *ON, *options, "--", "true")
    assert done.returncode in (2, 69), done.stderr
    assert says in " ".join(done.stderr.split())
    assert [call for call in colab.calls() if call[0] == "run"] == []


def test_the_first_use_is_agreed_to_once(colab: Service, cloudrun: Cloudrun) -> None:
    asked = cloudrun("run", "--on", "colab", "--", "true")
    assert asked.returncode == 2
    assert "one account a person" in " ".join(asked.stderr.split())
    assert cloudrun("run", *ON, "--", "true").returncode == 0
    again = cloudrun("run", "--on", "colab", "--", "true")
    assert again.returncode == 0
    assert "one account" not in again.stderr


def test_a_job_ends_at_its_deadline_and_its_results_come_home(
    colab: Service, cloudrun: Cloudrun
) -> None:
    Path("train.py").write_text(
        "import os, time\nos.mkdir('results')\nopen('results/x', 'w').close()\n"
        "print('running', flush=True)\ntime.sleep(600)\n"
    )
    done = cloudrun("run", *ON, "--ttl", "2s", "--", "python", "train.py")
    assert done.returncode == 75, done.stderr
    assert Path("results/x").exists()
    assert colab.machines() == []
