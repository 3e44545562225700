"""What a job has said, out of logs that lie, repeat and forget."""

from __future__ import annotations

import itertools
import random

import pytest

from cloudrun.notebooks.records import Records

LOG = (
    b"[colab] A new version of Colab CLI is available: 0.8.0\n"
    b'cloudrun:0:0 {"gpus": 1}\n'
    b'cloudrun:1:0 "a bar: 10%\\r"\n'
    b'cloudrun:2:0 "\\udcff\\u00e9"\n'
    b'cloudrun:1:11 "100%\\n"\n'
    b'cloudrun:0:1 {"status": 3, "reason": "exit", "results": 0, "machine": "os Linux"}\n'
)
OUT, ERR = b"a bar: 10%\r100%\n", b"\xff\xc3\xa9"


def said(records: Records, *pieces: bytes) -> tuple[bytes, bytes]:
    """What each stream has said."""
    chunks = [chunk for piece in pieces for chunk in records.feed(piece)]
    both = [b"".join(c.data for c in chunks if c.stream == stream) for stream in (1, 2)]
    return both[0], both[1]


def test_bytes_come_back_as_they_were_however_the_log_is_cut() -> None:
    rng = random.Random(1)
    for _ in range(50):
        cuts = [0, *sorted(rng.randrange(len(LOG)) for _ in range(9)), len(LOG)]
        records = Records()
        pieces = [LOG[a:b] for a, b in itertools.pairwise(cuts)]
        assert said(records, *pieces) == (OUT, ERR)
        assert records.end is not None
        assert (records.end.status, records.lost) == (3, 0)
        assert "new version" in records.chatter


def test_a_log_that_begins_again_doubles_nothing() -> None:
    assert said(Records(), LOG[:150], b"\n", LOG) == (OUT, ERR)
    again = Records()
    again.go_on_at(5, 1)
    assert said(again, LOG) == (OUT[5:], ERR[1:])


def test_what_never_came_is_counted() -> None:
    records = Records()
    lines = LOG.splitlines(keepends=True)
    assert said(records, *lines[:2], *lines[3:]) == (b"100%\n", ERR)
    assert records.lost == 11


@pytest.mark.parametrize(
    "line",
    [
        b'cloudrun:1:0 "cut off',
        b"cloudrun:1:0 7",
        b"cloudrun:1:0 [" + b"[" * 60_000,
        b'cloudrun:1:0 "\\ud800"',
        b'cloudrun:1:-1 "x"',
        b'cloudrun:9:0 "x"',
        b'cloudrun:0:1 {"status": 999, "reason": "exit", "results": 0, "machine": ""}',
        b'cloudrun:0:1 {"status": 0, "reason": "why not", "results": 0, "machine": ""}',
        b'cloudrun:0:0 {"gpus": "many"}',
        b"x" * 200_000,
        b"\xff\xfe\x00",
    ],
    ids=lambda line: repr(line[:24]),
)
def test_a_line_that_makes_no_sense_is_no_word_of_the_jobs(line: bytes) -> None:
    records = Records()
    assert said(records, line, b"\n", LOG) == (OUT, ERR)
    assert records.end is not None
    assert records.end.status == 3
    assert len(records.chatter) < 2**15
