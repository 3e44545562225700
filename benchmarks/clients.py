"""Runs in Colab and at Kaggle: what cloudrun adds to the time of the official clients.

    python benchmarks/clients.py [--rounds N]

Runs `cloudrun run -- true` with doubles of the clients (with REAL_CLIENTS, as in .ci/clients,
with the real ones), notes when each call of a client began and ended, and takes what of the
whole was no client's time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.doubles import clients

LIMIT_S = 2.0
# Stands in the client's place, and writes down when it ran.
_CLOCK = """
import json, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
began = time.time()
try:
    status = subprocess.call(sys.argv[2:])
finally:
    with open(sys.argv[1], "a") as times:
        times.write(json.dumps([began, time.time(), *sys.argv[3:]]) + "\\n")
sys.exit(status)
"""


def main() -> int:
    """Measure, print a table; the exit status is 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    broken = False
    print("| target | whole run, s | the client's calls | theirs, s | ours, s | promised |")
    print("|---|---|---|---|---|---|")
    for name in ("colab", "kaggle"):
        rows = [measure(name) for _ in range(rounds)]
        whole, calls, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
        ours = statistics.median(row[0] - row[2] for row in rows)
        broken = broken or ours > LIMIT_S
        print(f"| {name} | {whole:.2f} | {calls:.0f} | {theirs:.2f} | {ours:.2f} | {LIMIT_S} |")
    return int(broken)


def measure(name: str) -> tuple[float, int, float]:
    """One run: its seconds, how often the client was called, and for how many seconds."""
    kind = "real" if clients.REAL else "double"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder)
        with clients.installed(name, kind, home, patch):
            program = home / "clients" / name
            program.rename(home / name / "client")
            clock = [sys.executable, "-c", _CLOCK, str(home / "times"), str(home / name / "client")]
            words = " ".join(f"'{word}'" for word in clock)
            clients.program(program, f'exec {words} "$@"')
            (home / "work").mkdir()
            began = time.time()
            done = subprocess.run(
                [sys.executable, "-m", "cloudrun", "run", "--on", name, "--yes", "--", "true"],
                cwd=home / "work",
                env={**os.environ, "CLOUDRUN_HOME": str(home / "home")},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
            )
            whole = time.time() - began
            if done.returncode:
                sys.exit(done.stderr)
            lines = (home / "times").read_text().splitlines()
            return whole, len(lines), together([json.loads(line) for line in lines])


def together(calls: list[list[float]]) -> float:
    """The seconds in which at least one of the calls was going on."""
    seconds, until = 0.0, 0.0
    for began, ended, *_ in sorted(calls):
        seconds += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
