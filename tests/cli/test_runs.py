"""The commands about runs, where there is no machine but this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Cloudrun


def test_a_command_runs_here_and_its_status_is_ours(cloudrun: Cloudrun) -> None:
    done = cloudrun("run", "--env", "A=b c", "--", "sh", "-c", "pwd; echo $A >&2; exit 3")
    assert done.returncode == 3
    assert done.stdout == f"{Path.cwd()}\n"
    assert "b c\n" in done.stderr
    report = json.loads(cloudrun("report", "show", "--json").stdout)
    assert report["checks"][0]["detail"].endswith("ended with exit status 3.")


def test_one_json_document_is_all_that_stdout_holds(cloudrun: Cloudrun) -> None:
    done = cloudrun("run", "--json", "--", "sh", "-c", "echo loud")
    assert json.loads(done.stdout)["outcome"] == "passed"
    assert "loud" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "CMD"),
        (["run", "--results", "..", "--", "true"], "--results results"),
        (["run", "--results", "/x", "--", "true"], "below this one"),
        (["run", "--env", "NOT_SET_HERE", "--", "true"], "is not set here"),
        (["run", "--env", "a-b=c", "--", "true"], "no name of a variable"),
        (["run", "--requirements", "nope.txt", "--", "true"], "nope.txt cannot be read. No such"),
        (["run", "--data", "nowhere", "--", "true"], "no folder"),
        (["run", "--on", "ssh://", "--", "true"], "does not name a host"),
        (["run", "--on", "ssh", "--", "true"], "ssh://[USER@]HOST"),
        (["run", "--detach", "--", "true"], "cannot be detached"),
        (["run", "--", "no-such-program"], "cannot be started"),
        (["attach", "last"], "There is no run yet"),
        (["logs", "x"], "There is no run 'x'"),
        (["down"], "--all"),
    ],
)
def test_what_makes_no_sense_is_told(cloudrun: Cloudrun, arguments: list[str], says: str) -> None:
    done = cloudrun(*arguments)
    assert done.returncode in (1, 2), done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_down_ends_what_another_cloudrun_follows(cloudrun: Cloudrun) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cloudrun", "run", "--", "sh", "-c", "echo $$; sleep 600"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        followed = cloudrun("logs", "last")
        assert followed.stdout == f"{child}\n"
        assert "asked to end it" in cloudrun("down", "last").stderr
        process.communicate(timeout=30)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(child, signal.SIGCONT)
    assert cloudrun("down", "last").stderr == "Nothing of it is running.\n"


def test_a_command_here_ends_when_cloudrun_is_killed(cloudrun: Cloudrun) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cloudrun", "run", "--", "sh", "-c", "echo $$; sleep 600"],
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
    # `tail --pid` returns when the process is gone.
    subprocess.run(["tail", f"--pid={child}", "-f", "/dev/null"], check=True, timeout=30)
    assert "cut off before its end" in cloudrun("ps").stderr


def test_the_log_and_the_results_are_stored_beside_the_report(
    cloudrun: Cloudrun, tmp_path: Path
) -> None:
    store = tmp_path / "reports"
    done = cloudrun(
        *("run", "--store", str(store), "--store-results"),
        *("--", "sh", "-c", "echo said; mkdir -p results/deep; echo made > results/deep/x.json"),
    )
    assert done.returncode == 0, done.stderr
    (run,) = (store / "runs").iterdir()
    assert (run / "out.txt").read_text() == "said\n"
    with tarfile.open(run / "results.tar.gz") as archive:
        made = archive.extractfile("./deep/x.json")
        assert made is not None
        assert made.read() == b"made\n"
    (row,) = json.loads(cloudrun("report", "list", "--store", str(store), "--json").stdout)
    assert row["report"] == run.name
