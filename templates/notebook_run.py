"""Run one of the programs above as a process of its own, and listen to it."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone

FOLDER = os.path.abspath("cloudrun-notebook")
WORK = os.path.join(FOLDER, "cloudrun", "workloads", "work.py")


def run(workload, profile, parts):
    """Run a workload to its end and print what it says; all of it goes into `parts`, too."""
    command = [sys.executable, "-u", WORK, "--workload", workload, "--profile", profile, "--tied"]
    part = {"said": [], "began": datetime.now(timezone.utc), "seconds": 0.0}
    # At once, so that what it has said is there when you stop it.
    parts[workload] = part
    started = time.monotonic()
    with open(os.path.join(FOLDER, f"{workload}.log"), "w+b") as log:
        # Its stdin is a pipe: when this notebook is stopped, the pipe closes, and it ends too.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "PYTHONPATH": FOLDER},
        )
        try:
            part["said"].extend(line for line in map(_read, process.stdout) if line)
            process.wait()
        finally:
            process.stdin.close()
            process.stdout.close()
            part["seconds"] = time.monotonic() - started
        if not any(line["event"] == "finished" for line in part["said"]):
            part["said"].append(_died(process.returncode, log))


def _read(raw):
    """One line of JSON, which is printed in words; None where it is none."""
    try:
        line = json.loads(raw)
        print_line(line)
    except (ValueError, TypeError, KeyError):
        return None
    return line


def print_line(line):
    """Say in words what a workload says in JSON."""
    event = line["event"]
    if event == "check":
        print(f"{line['status']:<5} {line['name'].replace('_', ' '):<16} {line['detail']}")
        if line["status"] == "fail" and line.get("remedy"):
            print(f"{'':<22} Try: {line['remedy']}")
    elif event == "measurement":
        params = line["params"]
        size = f"{params['m']} x {params['m']}" if "m" in params else ""
        what = f"{line['name'].replace('_', ' ')} {params.get('dtype', '')} {size}"
        note = "" if line["stable"] else f"  not steady: {line['note']}"
        print(f"{params['device']:<5} {what:<28} {line['value']:>9.3g} {line['unit']}{note}")
    elif event == "note":
        print(line["text"])


def _died(status, log):
    """A note about a workload that did not come to its end, with its last words."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
    words = log.read().decode("utf-8", "replace").strip().splitlines()
    text = f"The workload ended with exit status {status}: {words[-1] if words else 'no message'}"
    print(text)
    return {"event": "note", "text": text}
