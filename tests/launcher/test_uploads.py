from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from cloudrun.errors import BadData
from cloudrun.launcher import uploads
from cloudrun.reports.store import Store, open_store
from tests.doubles import buckets

END = b"status=3 reason=exit started=1 ended=2 out=10 err=2 oom=0 free_kib=9999\n"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    with buckets.s3(name) as double:
        for variable, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(variable, value)
        yield open_store(f"s3://{name}/x")


def test_what_was_read_of_the_machine_does_not_come_again_from_the_store(store: Store) -> None:
    # It comes in several pieces.
    out = bytes(range(256)) * 2**14
    for name, data in (("out.txt", out), ("err.txt", b"ab"), ("end.txt", END)):
        store.place.put(f"runs/arun/{name}", data)
    stored = uploads.stored(store, "arun")
    assert stored is not None
    job = stored.resume("arun", 3 * 2**20 + 5, 2)
    said = [(chunk.stream, chunk.data) for chunk in job.read(0.0)]
    assert {stream for stream, _ in said} == {1}
    assert b"".join(data for _, data in said) == out[3 * 2**20 + 5 :]
    assert list(job.read(0.0)) == []
    assert (job.end().status, job.end().reason) == (3, "exit")


def test_nothing_stands_for_a_machine_before_all_is_stored(store: Store) -> None:
    store.place.put("runs/arun/out.txt", b"said")
    assert uploads.stored(store, "arun") is None


def test_an_end_that_makes_no_sense_is_bad_data(store: Store) -> None:
    store.place.put("runs/arun/end.txt", b"status=\x1b[2J")
    with pytest.raises(BadData, match="damaged"):
        uploads.stored(store, "arun")
