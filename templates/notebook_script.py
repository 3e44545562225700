"""Run your script as a process of its own, in its folder, and listen to it."""

import os
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone


def run_script(parts, folder, script, *arguments):
    """Run the script to its end and print what it says; how it ended goes into `parts`."""
    command = [sys.executable, "-u", script, *arguments]
    began, started = datetime.now(timezone.utc), time.monotonic()
    status, how = 1, "was stopped"
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        for line in process.stdout:
            print(line.decode("utf-8", "replace"), end="", flush=True)
        status = process.wait()
        how = f"ended with exit status {status}"
    finally:
        process.kill()
        process.stdout.close()
        check = {
            "event": "check",
            "name": "command",
            "status": "fail" if status else "pass",
            "detail": f"'{' '.join(('python', script, *arguments))}' {how}.",
        }
        seconds = time.monotonic() - started
        parts[script] = {"said": [check], "began": began, "seconds": seconds}
        print(check["detail"])


def pack_results(folder):
    """Put the report, and the folder `results` where the script has made one, into one archive."""
    home = "cloudrun-results"
    shutil.rmtree(home, ignore_errors=True)
    os.makedirs(home)
    shutil.copy("results.json", home)
    results = os.path.join(folder, "results")
    if os.path.isdir(results):
        shutil.copytree(results, os.path.join(home, "results"))
    return os.path.basename(shutil.make_archive(home, "zip", home))
