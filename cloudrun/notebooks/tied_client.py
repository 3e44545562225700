"""Runs a notebook service's client; without whoever started it, the client is interrupted.

    python tied_client.py LAST CLIENT [ARGUMENTS]

Our stdin is a pipe: it closes when the starter wants it, or is killed. The client is then
interrupted, as by Ctrl-C: to be terminated would let its machine at the service live on.
LAST, a list in JSON, is one more command that is run after that. Run as a file, in a
session of its own; it imports nothing of cloudrun's.

What the client says is passed on from here: a client that writes to a pipe which nobody
reads any more fails at its first word, before it has given its machine back.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import IO

# The client tells the service, and tries again when that does not answer.
_GRACE_S = 40.0
# What the client may have started can hold its streams open.
_LAST_WORDS_S = 5.0
_CHUNK = 2**16


def main() -> int:
    """Run the client; returns its exit status as shells have it."""
    # Who starts us in the background of a script lets us ignore interrupts, and the client too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    last, client = json.loads(sys.argv[1]), sys.argv[2:]
    process = subprocess.Popen(  # noqa: S603 - no shell
        client, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    alone = threading.Event()
    end = threading.Thread(target=_interrupt, args=(process, alone), daemon=True)
    end.start()
    passing = [
        threading.Thread(target=_pass_on, args=(pipe, ours), daemon=True)
        for pipe, ours in ((process.stdout, 1), (process.stderr, 2))
    ]
    for thread in passing:
        thread.start()
    status = process.wait()
    if alone.is_set():
        end.join()
        nothing = subprocess.DEVNULL
        subprocess.run(last, stdin=nothing, stdout=nothing, stderr=nothing, timeout=_GRACE_S)  # noqa: S603
    for thread in passing:
        thread.join(_LAST_WORDS_S)
    return 128 - status if status < 0 else status


def _pass_on(pipe: IO[bytes], ours: int) -> None:
    while data := os.read(pipe.fileno(), _CHUNK):
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(ours, data) :]


def _interrupt(process: subprocess.Popen[bytes], alone: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    alone.set()
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    sys.exit(main())
