"""Run a job where a notebook service runs this text: a cell in Colab, a script at Kaggle.

Before it stand JOB, what to do, and ARCHIVE, the files for it (tar.gz, base64). All that
the job says goes out as lines `cloudrun:STREAM:OFFSET "TEXT"`, the text as JSON: whatever
the service's log does with lines, colours or repeats, the bytes can be put together again.
Stream 0 is ours: how the job ended, and on which machine.
"""

import base64
import io
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

# Logs cut longer lines; a text grows in JSON, at worst to six times its bytes.
_PIECE = 1000
# How long a job may take to end by itself after being asked to.
_GRACE_S = 10.0
_RESULTS = "cloudrun-results.tar.gz"


def launch(job, archive):
    """Do the job, to its end or its deadline."""
    folder = tempfile.mkdtemp(prefix="cloudrun-")
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive)), mode="r:gz") as tar:
        # Ours, to the byte; newer Pythons want to hear how far it is trusted.
        how = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(folder, **how)  # noqa: S202
    gpus = _count_gpus()
    _say(0, 0, {"gpus": gpus})
    if job["needs_gpu"] and not gpus:
        return
    ends = time.monotonic() + job["seconds"]
    status, reason = 0, "exit"
    work = os.path.join(folder, job["folder"])
    os.makedirs(work, exist_ok=True)
    for step in job["steps"]:
        if status == 0:
            status, reason = _run(step, work, folder, ends)
    results = _pack(os.path.join(work, job["results"]), job) if job["results"] else 0
    end = {"status": status, "reason": reason, "results": results}
    _say(0, 1, {**end, "machine": _describe(job["describe"])})


_at = {1: 0, 2: 0}


def _say(stream, at, what):
    print(f"cloudrun:{stream}:{at} {json.dumps(what)}", flush=True)


def _run(argv, work, path, ends):
    """Run a command, say what it says; returns its exit status as shells have it, and why."""
    program = sys.executable if argv[0] == "{python}" else argv[0]
    paths = [path, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        process = subprocess.Popen(
            [program, *argv[1:]],
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
    except OSError as error:
        _pass_on(2, f"{program} cannot be started: {error.strerror}\n".encode())
        return 127, "exit"
    # Bounded: a job that says more than the log takes waits, as at any full pipe.
    said = queue.Queue(64)
    for stream, pipe in ((1, process.stdout), (2, process.stderr)):
        threading.Thread(target=_read, args=(stream, pipe, said), daemon=True).start()
    reason = "stopped"
    try:
        reason = _listen(process, said, ends)
    finally:
        _end(process)
    status = process.returncode
    return (128 - status if status < 0 else status), reason


def _read(stream, pipe, said):
    while data := os.read(pipe.fileno(), _PIECE):
        said.put((stream, data))
    said.put((stream, b""))


def _listen(process, said, ends):
    """Pass on what is said until the command is over, or the deadline has come."""
    open_streams = 2
    try:
        while open_streams:
            stream, data = said.get(timeout=ends - time.monotonic())
            open_streams -= not data
            _pass_on(stream, data)
        process.wait(ends - time.monotonic())
    except (queue.Empty, ValueError, subprocess.TimeoutExpired):
        return "deadline"
    return "exit"


def _pass_on(stream, data):
    if data:
        # Whatever bytes they are, they come back as they were.
        _say(stream, _at[stream], data.decode("utf-8", "surrogateescape"))
        _at[stream] += len(data)


def _end(process):
    """End what is left of the command and of all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass
    process.wait()


def _pack(folder, job):
    """Put the results into one file, where the service keeps such; its bytes, -1: too many."""
    if not os.path.isdir(folder):
        return 0
    home = job["home"] if os.path.isdir(job["home"]) else os.getcwd()
    path = os.path.join(home, _RESULTS)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(folder, ".")
    size = os.path.getsize(path)
    if size > job["most_results"]:
        os.remove(path)
        return -1
    return size


def _count_gpus():
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return 0
    try:
        done = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return done.stdout.count("GPU ")


def _describe(script):
    """What the machine is, in the words of describe.sh."""
    try:
        done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[:10000]


if __name__ == "__main__":
    launch(JOB, ARCHIVE)  # noqa: F821
