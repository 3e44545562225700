"""A Kaggle that is a folder: what the double of its client, and the one of its server, do there.

FOLDER/kernels/NAME is a notebook: `script.py`, `log` (lines as Kaggle's own), `working` (its
files), `state` when it is over. Its session is a process of this computer, which goes on by
itself. FOLDER/fault names what goes wrong.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

USER = "ada"
# What Kaggle itself does with a notebook that is pushed, in a process of its own.
_SESSION = """
import json, os, subprocess, sys, time
folder, limit, path = sys.argv[1], float(sys.argv[2]), sys.argv[3]
while os.path.exists(folder + "/queued"):
    time.sleep(0.05)
work = folder + "/working"
os.makedirs(work)
environment = {**os.environ, "PATH": path + ":" + os.environ["PATH"]}
process = subprocess.Popen(
    [sys.executable, "-u", folder + "/script.py"], cwd=work, env=environment,
    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
)
began = time.monotonic()
with open(folder + "/log", "a") as log:
    for line in process.stdout:
        said = {"stream_name": "stdout", "time": time.monotonic() - began}
        log.write(json.dumps({**said, "data": line.decode("utf-8", "replace")}) + "\\n")
        log.flush()
with open(folder + "/state.part", "w") as state:
    state.write("COMPLETE" if process.wait() == 0 else "ERROR")
os.rename(folder + "/state.part", folder + "/state")
"""


def fault(service: Path) -> str:
    return (service / "fault").read_text() if (service / "fault").exists() else ""


def push(service: Path, slug: str, title: str, script: str, limit: str) -> str:
    """Take a notebook and run it; returns why not, else nothing."""
    if fault(service).startswith("push: "):
        return fault(service).removeprefix("push: ")
    assert re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") == slug.rpartition("/")[2]
    folder = kernel(service, slug)
    folder.mkdir(parents=True)
    (folder / "script.py").write_text(script)
    if fault(service) == "queued":
        (folder / "queued").touch()
    (folder / "log").touch()
    session = subprocess.Popen(
        [sys.executable, "-c", _SESSION, str(folder), limit, str(service / "gpu")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (folder / "session").write_text(str(session.pid))
    return ""


def kernel(service: Path, ref: str) -> Path:
    user, _, slug = ref.partition("/")
    assert user == USER
    return service / "kernels" / slug


def state_of(folder: Path) -> str:
    if (folder / "queued").exists():
        return "QUEUED"
    return (folder / "state").read_text() if (folder / "state").exists() else "RUNNING"


def lines(folder: Path) -> list[str]:
    """The lines of the log so far, each in JSON."""
    said = (folder / "log").read_text().splitlines(keepends=True)
    return [line for line in said if line.endswith("\n")]


def delete(folder: Path) -> None:
    # Kaggle's machine goes with all that runs on it, whatever session that is in.
    for pid in _with_its_children(int((folder / "session").read_text())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)


def _with_its_children(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        # What is stopped starts no other one meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(parent, signal.SIGSTOP)
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def names(service: Path) -> list[str]:
    return sorted(path.name for path in (service / "kernels").glob("*"))
