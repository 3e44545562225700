"""parallel-ssh: one script there and its result back; or `true` on many hosts at once.

    python with_parallel_ssh.py script SCRIPT FOLDER RESULT
    python with_parallel_ssh.py many COUNT

FOLDER is the machine's, RESULT ours. `many` prints a line of JSON, the seconds.
It checks no host keys; that is its default.
"""

import json
import os
import sys
import time

from pssh.clients import ParallelSSHClient, SSHClient

PLACE = json.loads(os.environ["BENCH_PLACE"])
WHERE = {"user": PLACE["user"], "port": PLACE["port"], "pkey": PLACE["key"]}


def script(file: str, folder: str, result: str) -> None:
    """Do it by scp, which its documentation calls the quicker way."""
    client = SSHClient(PLACE["host"], **WHERE)
    client.scp_send(file, f"{folder}/script.py")
    output = client.run_command(f"cd {folder} && python3 script.py")
    client.wait_finished(output)
    if output.exit_code:
        raise SystemExit(f"the script ended with status {output.exit_code}")
    client.scp_recv(f"{folder}/results/out.bin", result)


def many(count: str) -> None:
    """All at once; the first connection, alone, does not count."""
    run_true(1)
    began = time.perf_counter()
    run_true(int(count))
    print(json.dumps([time.perf_counter() - began]))


def run_true(count: int) -> None:
    """Connect that many times and run `true` on each connection."""
    client = ParallelSSHClient([PLACE["host"]] * count, **WHERE)
    output = client.run_command("true")
    client.join(output)
    if any(host.exit_code for host in output):
        raise SystemExit("true failed")


if __name__ == "__main__":
    work, *arguments = sys.argv[1:]
    {"script": script, "many": many}[work](*arguments)
