"""Plain paramiko: connect and run `true`, as its documentation shows it.

    python with_paramiko.py connect COUNT

Prints a line of JSON: the seconds of each.
"""

import json
import os
import sys
import time

import paramiko

PLACE = json.loads(os.environ["BENCH_PLACE"])


def connect() -> float:
    """Connect and run `true`; gives the seconds. That the connection is closed is not timed."""
    began = time.perf_counter()
    client = paramiko.SSHClient()
    client.load_system_host_keys(PLACE["known_hosts"])
    client.connect(PLACE["host"], PLACE["port"], PLACE["user"], key_filename=PLACE["key"])
    _, stdout, _ = client.exec_command("true")
    status = stdout.channel.recv_exit_status()
    seconds = time.perf_counter() - began
    client.close()
    if status:
        raise SystemExit(f"true ended with status {status}")
    return seconds


if __name__ == "__main__":
    print(json.dumps([connect() for _ in range(int(sys.argv[2]))]))
