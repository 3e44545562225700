"""Runs a command here that ends when whoever started it is gone: its stdin closes.

    python tied.py COMMAND [ARGUMENTS]

A pipe closes even when the starter is killed with SIGKILL, on every system. Run
as a file, in a session of its own; it imports nothing of cloudrun's.
"""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import subprocess
import sys
import threading

# Whatever the command starts has it in its environment, in whichever session.
MARK = "CLOUDRUN_JOB"
# As long as a job on another machine gets to obey.
_GRACE_S = 10.0


def main() -> int:
    """Run the command; returns its exit status as shells have it."""
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603 - no shell
    alone = threading.Event()
    end = threading.Thread(target=_end_with_starter, args=(process, alone), daemon=True)
    end.start()
    status = process.wait()
    if alone.is_set():
        # It has died of that; what it started is still to be ended.
        end.join()
    return 128 - status if status < 0 else status


def _end_with_starter(process: subprocess.Popen[bytes], alone: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    alone.set()
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
    for pid in bearing(os.environ.get(MARK, "")):
        signal_one(pid, signal.SIGKILL)
    if hasattr(os, "killpg"):
        # What the command left running goes too, and we with it.
        os.killpg(os.getpgid(0), signal.SIGKILL)


def bearing(mark: str) -> list[int]:
    """The processes with this mark in their environment, but for this one; Linux tells."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in glob.glob("/proc/[0-9]*/environ") if mark else ():
        # Others' may not be read, and some end meanwhile.
        with contextlib.suppress(OSError), open(path, "rb") as environment:
            if wanted in environment.read().split(b"\0"):
                found.append(int(path.split("/")[2]))
    return [pid for pid in found if pid != os.getpid()]


def signal_one(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
