"""Connections, scripts, logs: what each tool does, and what cloudrun promises for it.

Every tool is used as its own documentation has it, with its own defaults,
ciphers included. Each has its own folders.
"""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import timing

from over_ssh.measure import (
    MEMORY,
    OURS,
    SECONDS,
    Case,
    Failed,
    Figures,
    Limit,
    Row,
    follow,
    only,
    process,
)
from over_ssh.server import ALIAS, Lab, ssh

PROGRAMS = Path(__file__).parent
# Memory that does not grow with the work is about that of the smallest work.
FLAT = 1.25
_CONNECTIONS = 10
_HOSTS = 64
_LINES = 1_000_000
_RESULT = 1_000_000
_SCRIPT = f"""\
import os, pathlib
pathlib.Path("results").mkdir(exist_ok=True)
pathlib.Path("results/out.bin").write_bytes(os.urandom({_RESULT}))
print("done")
"""
# The pauses differ, so that no timer of a tool's keeps step with the lines.
_CLOCK = """\
import time
time.sleep(0.5)
for number in range(30):
    time.sleep(0.05 + number % 7 * 0.011)
    print(time.time_ns(), flush=True)
"""
_FIRST = "first of its process"
_LATE, _LATEST = "late, median, ms", "late, worst, ms"


def connect(lab: Lab) -> Row:
    """Connect and run `true` in a process that has begun: the first time, the median after it."""

    def times(name: str) -> Figures:
        command = [sys.executable, _program(name), "connect", str(_CONNECTIONS + 1)]
        first, *others = _printed(command, lab)
        return {SECONDS: statistics.median(others), _FIRST: first}

    # With a delay, the round trips alone take longer than the seconds promised.
    promised = [] if lab.delay_s else [Limit(OURS, 0.040)]
    return Row(
        "connect and run true, in process",
        [Case(name, partial(times, name)) for name in (OURS, "paramiko")],
        [*promised, Limit("paramiko", 1 / 3)],
    )


def hosts(lab: Lab) -> Row:
    """64 connections at once, each of which runs `true`, in a process that has begun."""

    def wall(*command: str) -> Figures:
        return {SECONDS: _printed([*command, "many", str(_HOSTS)], lab)[0]}

    return Row(
        "64 hosts at once, connect and run true",
        [
            Case(OURS, partial(wall, sys.executable, _program(OURS))),
            Case("parallel-ssh", partial(wall, lab.peers, _program("parallel_ssh"))),
        ],
        [Limit("parallel-ssh", 1.0)],
    )


def script(lab: Lab) -> Row:
    """One script pushed and run, 1 MB of results back: the whole command."""
    project = lab.here / "script"
    project.mkdir()
    (project / "script.py").write_text(_SCRIPT)
    peers = {
        "Fabric": [lab.peers, _program("fabric")],
        "asyncssh": [lab.peers, _program("asyncssh")],
        "parallel-ssh": [lab.peers, _program("parallel_ssh"), "script"],
        "ssh + scp": ["sh", "-c", _ssh_and_scp(lab), "-"],
        "tar | ssh": ["sh", "-c", _tar(lab), "-"],
    }
    cases = [_script_of_ours(lab, project)]
    for number, (name, command) in enumerate(peers.items()):
        there, result = lab.home / f"script-{number}", lab.here / f"result-{number}"
        command += [str(project / "script.py"), str(there), str(result / "out.bin")]
        cases.append(
            Case(
                name,
                partial(_timed, command, lab),
                partial(renew, there, result),
                partial(_check_size, result / "out.bin"),
            )
        )
    limits = [Limit(name, 1.2) for name in peers if name != "tar | ssh"]
    return Row("one script there, run, 1 MB back", cases, [*limits, Limit("tar | ssh", 1.6)])


def _script_of_ours(lab: Lab, project: Path) -> Case:
    """The machine has never seen the project."""
    results = project / "results"
    return Case(
        OURS,
        lambda: only(process(_run("python3", "script.py"), lab.env, project)),
        lambda: remove(lab.home / ".cloudrun" / "projects", results),
        partial(_check_size, results / "out.bin"),
    )


def _ssh_and_scp(lab: Lab) -> str:
    """$1, $2 and $3: the script, the machine's folder, where the result goes."""
    scp = f"scp -q -F {lab.config}"
    return (
        f'{scp} "$1" "{ALIAS}:$2/"'
        f' && ssh -F {lab.config} {ALIAS} "cd $2 && python3 script.py"'
        f' && {scp} "{ALIAS}:$2/results/out.bin" "$3"'
    )


def _tar(lab: Lab) -> str:
    """The same, over one connection."""
    there = "cd $2 && tar -xf - && python3 script.py >&2 && tar -cf - -C results out.bin"
    return (
        'tar -cf - -C "${1%/*}" "${1##*/}"'
        f' | ssh -F {lab.config} {ALIAS} "{there}"'
        ' | tar -xf - -C "${3%/*}"'
    )


def lines(lab: Lab) -> Row:
    """A million lines of a log as fast as they come, to a file here; its bytes are compared."""
    log, project = lab.home / "log", _empty_project(lab)
    with log.open("w") as file:
        for number in range(_LINES):
            file.write(f"step {number}: loss 2.3025, accuracy 0.1000, 8192 tokens/s\n")

    def case(tool: str, command: list[str], *figures: str) -> Case:
        out = lab.here / f"log of {tool}"

        def check() -> None:
            if SECONDS in figures and not filecmp.cmp(log, out, shallow=False):
                raise Failed("what came is not what was said")

        return Case(
            tool, lambda: only(process(command, lab.env, project, out), *figures), after=check
        )

    return Row(
        "a million log lines, 58 MB",
        [
            case(OURS, _run("cat", str(log)), SECONDS, MEMORY),
            case("ssh", ssh(lab, "cat", str(log)), SECONDS),
            case("cloudrun, one line", _run("head", "-n", "1", str(log)), MEMORY),
        ],
        [Limit("ssh", 1.5), Limit("cloudrun, one line", FLAT, MEMORY)],
    )


def late(lab: Lab) -> Row:
    """How long after it was printed on the machine a line is on the screen."""
    clock, project = lab.home / "clock.py", _empty_project(lab)
    clock.write_text(_CLOCK)

    def lateness(command: list[str]) -> Figures:
        waited: list[float] = []

        def read(child: subprocess.Popen[bytes]) -> None:
            assert child.stdout is not None  # noqa: S101 - for the type checker
            # Each moment is taken as its line comes.
            waited.extend((time.time_ns() - int(line)) / 1e6 for line in child.stdout)

        follow(command, lab.env, read, project)
        return {_LATE: statistics.median(waited), _LATEST: max(waited)}

    return Row(
        "a line printed there is on the screen",
        [
            Case(OURS, partial(lateness, _run("python3", str(clock)))),
            Case("ssh", partial(lateness, ssh(lab, "python3", str(clock)))),
        ],
        [Limit(OURS, 150, _LATE), Limit(OURS, 150, _LATEST)],
    )


def remove(*paths: Path) -> None:
    """Remove files and folders, whether they are there or not."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def renew(*folders: Path) -> None:
    """Make folders that are empty."""
    remove(*folders)
    for folder in folders:
        folder.mkdir()


def _run(*argv: str) -> list[str]:
    return [timing.cloudrun(), "run", "--on", f"ssh://{ALIAS}", "--", *argv]


def _program(name: str) -> str:
    return str(PROGRAMS / f"with_{name}.py")


def _timed(command: list[str], lab: Lab) -> Figures:
    return only(process(command, lab.env))


def _printed(command: list[str], lab: Lab) -> list[float]:
    """What a program of ours measured by itself."""
    out = lab.here / "printed"
    process(command, lab.env, out=out)
    return [float(seconds) for seconds in json.loads(out.read_text())]


def _empty_project(lab: Lab) -> Path:
    folder = lab.here / "empty"
    folder.mkdir(exist_ok=True)
    return folder


def _check_size(file: Path) -> None:
    if os.stat(file).st_size != _RESULT:
        raise Failed("the result that came is not whole")
