"""Reports in great number: listing and comparing 10,000, in a folder and in a bucket.

    python benchmarks/reports.py [--rounds N] [--most N]

A report is about 100 kB, with 36 measurements; they are spread over 300 days and 20 GPUs. The
bucket is a small double of S3 on this machine that takes 50 ms for each answer. "First" is without
an index, "again" with it: the median of the rounds. Memory is the most that the process held
(ru_maxrss). Not for Windows, which does not tell.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import logging
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import msgspec
import timing
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

sys.path.insert(0, str(Path(__file__).parent.parent))

from cloudrun.reports.names import name_of
from cloudrun.reports.schema import Report
from tests.doubles.reports import T4, measurement, report

ANSWER_S = 0.05
LIST_LIMIT_S, COMPARE_LIMIT_S = 1.0, 3.0
GPUS = 20
MEMORY_LIMIT_BYTES = 500e6
PAGE = 1000
# The system gives ru_maxrss in KiB, except macOS, which gives bytes.
MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Used(NamedTuple):
    """What a whole process took: seconds, and the most memory in bytes."""

    seconds: float
    memory: int


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="of what is done again [default: 5]")
    parser.add_argument("--most", type=int, default=10_000, help="reports [default: 10000]")
    options = parser.parse_args()
    counts = [count for count in (100, 1000, 10_000) if count <= options.most]
    found = {count: measure(count, options.rounds) for count in counts}
    works = list(found[counts[-1]])
    timing.print_table(
        ("WORK", *(f"{count} REPORTS" for count in counts), "LIMIT"),
        [(work, *(shown(found[count][work]) for count in counts), limit(work)) for work in works],
    )
    most = found[counts[-1]]
    over = [work for work, limit_s in LIMITS_S.items() if most[work].seconds > limit_s]
    over += [work for work in works if most[work].memory > MEMORY_LIMIT_BYTES]
    return timing.verdict(over)


LIMITS_S = {
    "folder: list, again": LIST_LIMIT_S,
    "folder: list all, again": LIST_LIMIT_S,
    "folder: compare by GPU, again": COMPARE_LIMIT_S,
    "bucket: list, again": LIST_LIMIT_S,
}
WORKS = {
    "list": ["list"],
    "list all": ["list", "--limit", "0"],
    "compare by GPU": ["compare"],
}


def limit(work: str) -> str:
    """What a work may take, in words."""
    seconds = LIMITS_S.get(work)
    return f"{seconds:g} s, {MEMORY_LIMIT_BYTES / 1e6:.0f} MB" if seconds else ""


def shown(used: Used) -> str:
    """Seconds and decimal megabytes."""
    return f"{used.seconds:.2f} s {used.memory / 1e6:4.0f} MB"


def measure(count: int, rounds: int) -> dict[str, Used]:
    """All works with a store of so many reports."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = fill(folder / "reports", count)
        env = timing.environment(folder)
        found = listed("folder", str(folder / "reports"), env, rounds)
        with bucket(names, (folder / "reports" / names[0]).read_bytes()) as url:
            aws = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
            return found | listed("bucket", "s3://bucket/team", {**env, **aws}, rounds)


def listed(what: str, url: str, env: Mapping[str, str], rounds: int) -> dict[str, Used]:
    """List the newest, and all, and compare; first without an index, then with it."""
    found = {}
    for words, options in WORKS.items():
        command = [timing.cloudrun(), "report", *options, "--store", url]
        shutil.rmtree(Path(env["CLOUDRUN_HOME"], "cache"), ignore_errors=True)
        found[f"{what}: {words}, first"] = run(command, env)
        again = [run(command, env) for _ in range(rounds)]
        seconds = statistics.median(used.seconds for used in again)
        found[f"{what}: {words}, again"] = Used(seconds, max(used.memory for used in again))
    return found


def run(command: list[str], env: Mapping[str, str]) -> Used:
    """Run a command to its end."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # Not `process.wait`: this one tells what the process used.
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = status
    if status:
        raise SystemExit(f"'{' '.join(command)}' failed")
    return Used(seconds, used.ru_maxrss * MAXRSS_UNIT)


def fill(folder: Path, count: int) -> list[str]:
    """Write so many reports; returns their names in a store, in order."""
    dice = random.Random(7)  # noqa: S311 - it is no secret
    samples = [dice.gauss(50, 1) for _ in range(90)]
    params = {"dtype": "fp16", "m": 8192, "n": 8192, "device": "cuda"}
    rows = [
        measurement(samples=samples, n=90, peak=65.0, params={**params, "k": number})
        for number in range(36)
    ]
    whole = msgspec.to_builtins(report(environment=T4, measurements=rows))
    first = datetime(2026, 1, 1, tzinfo=UTC)
    names = []
    for number in range(count):
        created = (first + timedelta(days=300 * number / count)).isoformat()
        for row in whole["measurements"]:
            row["value"] = row["median"] = round(50 * dice.gauss(1 + number % GPUS / 10, 0.01), 4)
        whole["environment"]["gpus"][0]["name"] = f"NVIDIA {number % GPUS}"
        made = msgspec.convert({**whole, "id": f"r{number:06d}", "created": created}, Report)
        names.append(name_of(made))
        path = folder / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made.to_json())
    return names


@contextlib.contextmanager
def bucket(names: list[str], content: bytes) -> Iterator[str]:
    """A bucket that holds these below `team/`, all with this content but for their ids."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    keys = sorted(f"team/{name}" for name in names)
    first_id = json.loads(content)["id"].encode()

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        time.sleep(ANSWER_S)
        request = Request(environ)
        if "list-type" in request.args:
            answer = Response(page(keys, len(content), request.args), 200)
        else:
            own_id = request.path.rpartition("_")[2].removesuffix(".json").encode()
            answer = Response(
                content.replace(first_id, own_id), 200, {"ETag": '"x"', "Last-Modified": LONG_AGO}
            )
        return answer(environ, start)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


LONG_AGO = "Tue, 24 Nov 2026 08:00:00 GMT"


def page(keys: list[str], size: int, query: Mapping[str, str]) -> str:
    """A page of a list, as S3 gives it: a thousand keys or folders, and where to go on."""
    prefix = query.get("prefix", "")
    at = bisect.bisect_right(keys, query.get("continuation-token", prefix[:-1]))
    folders: dict[str, None] = {}
    contents: list[str] = []
    while at < len(keys) and keys[at] < f"{prefix}\U0010ffff":
        if len(contents) + len(folders) == PAGE:
            break
        inner = keys[at].removeprefix(prefix)
        if "delimiter" in query and "/" in inner:
            folders[below := prefix + inner.partition("/")[0] + "/"] = None
            at = bisect.bisect_left(keys, f"{below}\U0010ffff")
            continue
        contents.append(
            f"<Contents><Key>{escape(keys[at])}</Key><Size>{size}</Size><ETag>&quot;x&quot;</ETag>"
            "<LastModified>2026-11-24T08:00:00.000Z</LastModified></Contents>"
        )
        at += 1
    more = at < len(keys) and keys[at].startswith(prefix)
    token = f"<NextContinuationToken>{escape(keys[at - 1])}</NextContinuationToken>" if more else ""
    prefixes = "".join(
        f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders
    )
    return (
        f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        f"{''.join(contents)}{prefixes}</ListBucketResult>"
    )


if __name__ == "__main__":
    sys.exit(main())
