"""A program that behaves as Kaggle's `kaggle` 2.2.5 does, its Kaggle being a folder.

    python kaggle_client.py FOLDER [ARGUMENTS OF kaggle]

Words, streams and exit statuses are the real client's, as tests/notebooks/test_real_clients.py
sees them. A session is a process of this computer, which goes on by itself. FOLDER/fault names
what goes wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

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

FOLDER = Path(sys.argv[1])
FAULT = (FOLDER / "fault").read_text() if (FOLDER / "fault").exists() else ""
_HELP = "Authentication required to call the Kaggle API.\n\nRecommended: log in with OAuth."


def main(arguments: list[str]) -> int:
    with (FOLDER / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if FAULT == "no six":
        sys.exit("ModuleNotFoundError: No module named 'six'")
    if arguments == ["--version"]:
        print(f"Kaggle CLI {'1.7.4' if FAULT == 'old' else '2.2.5'}")
        return 0
    if arguments[0] != "-W":
        print("Warning: Looks like you're using an outdated API Version, please consider updating")
    arguments = [each for each in arguments if each != "-W"]
    if FAULT == "logged out":
        print(f"{_HELP}\n{_HELP}")
        return 1
    if arguments[0] == "quota":
        return quota()
    commands = {"init": init, "push": push, "status": status, "logs": logs, "output": output}
    return {**commands, "delete": delete, "list": listed}[arguments[1]](arguments[2:])


def quota() -> int:
    left = "0.00h" if FAULT == "used up" else "28.50h"
    row = {"used": "1.50h", "total": "30.00h", "refreshAt": "2026-11-28T00:00:00+00:00"}
    rows = [{"resource": "GPU", "remaining": left, **row}, {"resource": "TPU", **row}]
    print(json.dumps(rows, indent=2))
    return 0


def init(arguments: list[str]) -> int:
    path = Path(option(arguments, "-p")) / "kernel-metadata.json"
    path.write_text(json.dumps({"id": f"{USER}/INSERT_KERNEL_SLUG_HERE"}))
    print(f"Kernel metadata template written to: {path}")
    return 0


def push(arguments: list[str]) -> int:
    source = Path(option(arguments, "-p"))
    about = json.loads((source / "kernel-metadata.json").read_text())
    if FAULT.startswith("push: "):
        print(f"Kernel push error: {FAULT.removeprefix('push: ')}")
        return 0
    slug = re.sub(r"[^a-z0-9]+", "-", about["title"].lower()).strip("-")
    if about["id"] != f"{USER}/{slug}":
        print("Your kernel title does not resolve to the specified id.")
    folder = FOLDER / "kernels" / slug
    folder.mkdir(parents=True)
    shutil.copy(source / about["code_file"], folder / "script.py")
    (folder / "about").write_text(json.dumps(about))
    if FAULT == "queued":
        (folder / "queued").touch()
    (folder / "log").touch()
    limit = option(arguments, "-t")
    session = subprocess.Popen(
        [sys.executable, "-c", _SESSION, str(folder), limit, str(FOLDER / "gpu")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    (folder / "session").write_text(str(session.pid))
    address = f"https://www.kaggle.com/code/{about['id']}"
    print(f"Kernel version 1 successfully pushed.  Please check progress at {address}")
    return 0


def status(arguments: list[str]) -> int:
    folder = kernel(arguments[0])
    if not folder.exists():
        print(f"Cannot access kernel '{arguments[0]}' (Permission 'kernels.get' was denied).",
              file=sys.stderr)  # fmt: skip
        return 1
    print(f'{arguments[0]} has status "KernelWorkerStatus.{state_of(folder)}"')
    if state_of(folder) == "ERROR":
        print('Failure message: "Your notebook tried to allocate more memory than is available."')
    return 0


def state_of(folder: Path) -> str:
    if (folder / "queued").exists():
        return "QUEUED"
    return (folder / "state").read_text() if (folder / "state").exists() else "RUNNING"


def logs(arguments: list[str]) -> int:
    folder, seen = kernel(arguments[-1]), 0
    while True:
        is_over = state_of(folder) not in ("QUEUED", "RUNNING")
        lines = (folder / "log").read_text().splitlines(keepends=True)
        for line in [line for line in lines if line.endswith("\n")][seen:]:
            data = json.loads(line)["data"]
            print(data, flush=True, end="" if data.endswith("\n") else "\n")
            seen += 1
            if FAULT == "drops" and seen % 3 == 0:
                print("Log stream connection failed 5 times", file=sys.stderr)
                (FOLDER / "fault").unlink()
                return 0
        if is_over:
            return 0
        time.sleep(0.02)


def output(arguments: list[str]) -> int:
    folder, home = kernel(arguments[0]), Path(option(arguments, "-p"))
    pattern = re.compile(option(arguments, "--file-pattern"))
    if state_of(folder) == "COMPLETE":
        for path in (folder / "working").iterdir():
            if pattern.search(path.name):
                shutil.copy(path, home / path.name)
    (home / f"{folder.name}.log").write_text("[]")
    return 0


def delete(arguments: list[str]) -> int:
    folder = kernel(arguments[0])
    if not folder.exists():
        print("404 Client Error: Not Found for url: https://api.kaggle.com/v1", file=sys.stderr)
        return 1
    with contextlib.suppress(ProcessLookupError):
        os.killpg(int((folder / "session").read_text()), signal.SIGKILL)
    shutil.rmtree(folder)
    print(f"Kernel {arguments[0]} deleted successfully")
    return 0


def listed(arguments: list[str]) -> int:
    there = sorted(path.name for path in (FOLDER / "kernels").glob("*"))
    rows: list[dict[str, Any]] = [{"ref": f"{USER}/{name}", "title": name} for name in there]
    print(json.dumps(rows, indent=2) if rows else "Not found")
    return 0


def kernel(ref: str) -> Path:
    user, _, slug = ref.partition("/")
    assert user == USER
    return FOLDER / "kernels" / slug


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
