"""The guard with children of the tests' own, each dying in another way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_PARENT = """
import json, sys
from cloudrun.workloads import guard
from cloudrun.workloads.protocol import claim_stdout, die_with_parent, emit
claim_stdout()
if sys.argv[2] == "tied":
    die_with_parent()
for line in guard.follow([sys.executable, sys.argv[1]]):
    emit(**line)
"""

# Steps 0 to 3; number 1 does what BODY says.
_CHILD = """
import os, signal, sys, time
from cloudrun.workloads.protocol import claim_stdout, die_with_parent, emit
claim_stdout()
die_with_parent()
for index in range(int(sys.argv[2]), 4):
    emit("begin", step=f"step{{index}}", index=index, of=4, limit_s={limit}, fatal={fatal})
    if index == 1:
        {body}
    emit("check", name=f"step{{index}}", status="pass", detail="", remedy="")
emit("finished")
"""


def follow(
    folder: Path, body: str, limit: float = 60, fatal: bool = False
) -> tuple[list[dict[str, Any]], str]:
    child = folder / "child.py"
    child.write_text(_CHILD.format(body=body, limit=limit, fatal=fatal))
    done = subprocess.run(
        [sys.executable, "-c", _PARENT, str(child), "free"],
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def passed(lines: list[dict[str, Any]]) -> list[str]:
    return [line["name"] for line in lines if line["event"] == "check"]


def test_a_child_that_lives_is_followed_to_its_end(tmp_path: Path) -> None:
    lines, _ = follow(tmp_path, "pass")
    assert passed(lines) == ["step0", "step1", "step2", "step3"]
    assert lines[-1]["event"] == "finished"


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "out of memory"),
        ("os._exit(3)", "exit status 3"),
        ("os._exit(0)", "exit status 0"),
    ],
)
def test_a_death_is_told_and_the_other_steps_are_made(tmp_path: Path, body: str, how: str) -> None:
    lines, _ = follow(tmp_path, body)
    assert passed(lines) == ["step0", "step2", "step3"]
    (death,) = [line for line in lines if line["event"] == "died"]
    assert (death["step"], death["index"]) == ("step1", 1)
    assert how in death["how"]


def test_a_step_that_hangs_is_stopped_at_its_limit(tmp_path: Path) -> None:
    lines, _ = follow(tmp_path, "time.sleep(600)", limit=1.0)
    assert passed(lines) == ["step0", "step2", "step3"]
    (death,) = [line for line in lines if line["event"] == "died"]
    assert "did not end within 1 s" in death["how"]


def test_a_step_that_babbles_without_end_is_stopped_at_its_limit(tmp_path: Path) -> None:
    lines, _ = follow(tmp_path, "while True: emit('noise', text='x' * 100)", limit=1.0)
    assert passed(lines) == ["step0", "step2", "step3"]
    (death,) = [line for line in lines if line["event"] == "died"]
    assert "did not end within 1 s" in death["how"]


def test_what_a_hanging_step_started_is_ended_too(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    body = (
        "import subprocess; "
        "other = subprocess.Popen(['sleep', '600']); "
        f"open({str(pid)!r}, 'w').write(str(other.pid)); "
        "time.sleep(600)"
    )
    follow(tmp_path, body, limit=2.0)
    assert not is_running(int(pid.read_text()))


def is_running(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_after_a_death_in_a_fatal_step_nothing_more_is_tried(tmp_path: Path) -> None:
    lines, _ = follow(tmp_path, "os._exit(3)", fatal=True)
    assert passed(lines) == ["step0"]
    assert lines[-1]["event"] == "died"


def test_stray_output_of_libraries_does_not_reach_the_lines(tmp_path: Path) -> None:
    lines, stderr = follow(tmp_path, "print('stray'); os.write(1, b'raw'); sys.stdout.flush()")
    assert passed(lines) == ["step0", "step1", "step2", "step3"]
    assert "stray" in stderr
    assert "raw" in stderr


def test_when_its_starter_is_gone_everything_ends(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(_CHILD.format(body="time.sleep(600)", limit=600, fatal=False))
    guard = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(child), "tied"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    begun = [json.loads(guard.stdout.readline())["event"] for _ in range(3)]
    assert begun == ["begin", "check", "begin"]
    guard.stdin.close()
    assert guard.wait(timeout=30) == 143
    # The child's end of the pipe closes when it has ended.
    assert guard.stdout.read() == b""
