"""cloudrun's host layer without its command line.

    python with_cloudrun.py connect COUNT
    python with_cloudrun.py many COUNT
    python with_cloudrun.py push FOLDER THERE
    python with_cloudrun.py pull THERE FOLDER

The first two print a line of JSON, the seconds of each. THERE is a folder of the home.
"""

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloudrun import settings
from cloudrun.hosts.connection import Connection
from cloudrun.hosts.connection import connect as open_connection
from cloudrun.hosts.route import route

ALIAS = "bench"
MOST_BYTES = 2**31


def reach() -> Connection:
    """Connect as the command line does."""
    return open_connection(route(ALIAS), settings.places().state / "known_hosts")


def run_true() -> Connection:
    """Connect and run `true`; gives the connection."""
    connection = reach()
    done = connection.run_script("true")
    if done.status:
        raise SystemExit(f"true ended with status {done.status}")
    return connection


def connect(count: str) -> None:
    """One after the other. That a connection is closed is not timed."""
    seconds = []
    for _ in range(int(count)):
        began = time.perf_counter()
        connection = run_true()
        seconds.append(time.perf_counter() - began)
        connection.close()
    print(json.dumps(seconds))


def many(count: str) -> None:
    """All at once, a thread each; the first connection, alone, does not count."""
    run_true().close()
    began = time.perf_counter()
    with ThreadPoolExecutor(int(count)) as threads:
        connections = list(threads.map(lambda _: run_true(), range(int(count))))
    print(json.dumps([time.perf_counter() - began]))
    for connection in connections:
        connection.close()


def push(folder: str, there: str) -> None:
    """Bring a folder to the machine."""
    from cloudrun.hosts import transfer

    with reach() as connection:
        cache = settings.places().state / "digests" / there
        transfer.push(connection, Path(folder), f"~/{there}", cache=cache)


def pull(there: str, folder: str) -> None:
    """Bring a folder home."""
    from cloudrun.hosts import archive, transfer

    with reach() as connection:
        transfer.pull(
            connection,
            f"~/{there}",
            Path(folder),
            marker=f"~/{there}.pulled",
            limits=archive.Limits(bytes=MOST_BYTES, members=10_000),
        )


if __name__ == "__main__":
    work, *arguments = sys.argv[1:]
    works: dict[str, Callable[..., None]] = {
        "connect": connect,
        "many": many,
        "push": push,
        "pull": pull,
    }
    works[work](*arguments)
