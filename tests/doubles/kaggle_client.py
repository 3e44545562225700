"""A program that behaves as Kaggle's `kaggle` 2.2.5 does, its Kaggle being a folder.

    python kaggle_client.py FOLDER [ARGUMENTS OF kaggle]

Words, streams and exit statuses are the real client's, as the tests see with REAL_CLIENTS
(see clients.py). What Kaggle does is in kaggle_service.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path

import kaggle_service as service

FOLDER = Path(sys.argv[1])
FAULT = service.fault(FOLDER)
_HELP = "Authentication required to call the Kaggle API.\n\nRecommended: log in with OAuth."


def main(arguments: list[str]) -> int:
    with (FOLDER / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if arguments == ["--version"]:
        print("Kaggle CLI 2.2.5")
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
    path.write_text(json.dumps({"id": f"{service.USER}/INSERT_KERNEL_SLUG_HERE"}))
    print(f"Kernel metadata template written to: {path}")
    return 0


def push(arguments: list[str]) -> int:
    source = Path(option(arguments, "-p"))
    about = json.loads((source / "kernel-metadata.json").read_text())
    script = (source / about["code_file"]).read_text()
    refused = service.push(FOLDER, about["id"], about["title"], script, option(arguments, "-t"))
    if refused:
        print(f"Kernel push error: {refused}")
        return 0
    address = f"https://www.kaggle.com/code/{about['id']}"
    print(f"Kernel version 1 successfully pushed.  Please check progress at {address}")
    return 0


def status(arguments: list[str]) -> int:
    folder = service.kernel(FOLDER, arguments[0])
    if not folder.exists():
        print(f"Cannot access kernel '{arguments[0]}' (Permission 'kernels.get' was denied).",
              file=sys.stderr)  # fmt: skip
        return 1
    print(f'{arguments[0]} has status "KernelWorkerStatus.{service.state_of(folder)}"')
    if service.state_of(folder) == "ERROR":
        print('Failure message: "Your notebook tried to allocate more memory than is available."')
    return 0


def logs(arguments: list[str]) -> int:
    folder, seen = service.kernel(FOLDER, arguments[-1]), 0
    while True:
        is_over = service.state_of(folder) not in ("QUEUED", "RUNNING")
        for line in service.lines(folder)[seen:]:
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
    folder, home = service.kernel(FOLDER, arguments[0]), Path(option(arguments, "-p"))
    pattern = re.compile(option(arguments, "--file-pattern"))
    if service.state_of(folder) == "COMPLETE":
        for path in (folder / "working").iterdir():
            if pattern.search(path.name):
                shutil.copy(path, home / path.name)
    (home / f"{folder.name}.log").write_text("[]")
    return 0


def delete(arguments: list[str]) -> int:
    folder = service.kernel(FOLDER, arguments[0])
    if not folder.exists():
        print("404 Client Error: Not Found\n\nThe resource was not found.", file=sys.stderr)
        return 1
    service.delete(folder)
    print(f"Kernel {arguments[0]} deleted successfully")
    return 0


def listed(arguments: list[str]) -> int:
    rows = [{"ref": f"{service.USER}/{name}", "title": name} for name in service.names(FOLDER)]
    print(json.dumps(rows, indent=2) if rows else "Not found")
    return 0


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:]))
