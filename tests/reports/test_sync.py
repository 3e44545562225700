from __future__ import annotations

import itertools
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudrun.errors import HostUnreachable, WrongUsage
from cloudrun.hosts import userkeys
from cloudrun.hosts.base import NOBODY
from cloudrun.providers import keys
from cloudrun.reports import bucket_access, signing, vouching
from cloudrun.reports.names import name_of
from cloudrun.reports.store import Store, open_store
from cloudrun.reports.sync import Row, copy, copy_signatures, missing
from tests.conftest import Cloudrun
from tests.doubles import buckets
from tests.doubles.reports import document, report


@pytest.fixture
def source(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "source"))
    for number in range(12):
        store.add(report(id=f"of{number}", created=f"2026-{number + 1:02d}-24T07:00:00.000Z"))
    return store


@pytest.fixture
def target(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "target"))


def sync(source: Store, target: Store) -> list[Row]:
    entries, _ = missing(source, target)
    return list(copy(source, target, entries))


def put(store: Store, path: str, data: bytes) -> None:
    (store.place.location / path).write_bytes(data)


def statuses(rows: list[Row]) -> Counter[str]:
    return Counter(row.status for row in rows)


def test_what_is_missing_is_copied_to_a_bucket_and_home_again_byte_for_byte(
    source: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a later version of the same schema may write it.
    later = json.dumps({**document(id="later"), "unheard": "of"}).encode()
    put(source, "by-hand.json", later)
    with buckets.s3("a-bucket-to-sync") as double:
        for name, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(name, value)
        bucket = open_store("s3://a-bucket-to-sync/x")
        assert statuses(sync(source, bucket)) == {"copied": 13}
        assert missing(source, bucket) == ([], 13)
        assert statuses(sync(bucket, target)) == {"copied": 13}
    for entry in target.entries():
        origin = "by-hand.json" if entry.id == "later" else entry.path
        assert target.place.get(entry.path) == source.place.get(origin)
    assert target.find("later").path == name_of(target.read(target.find("later")))
    assert missing(source, target) == ([], 13)


def test_what_is_damaged_foreign_or_hostile_is_skipped_and_the_rest_is_copied(
    source: Store, target: Store
) -> None:
    whole = source.find("of3").path
    put(source, whole, source.place.get(whole)[:300])
    put(source, "future.json", json.dumps(document(schema="cloudrun.report/v9")).encode())
    put(source, "copy.json", source.place.get(source.find("of4").path))
    liar = source.find("of5").path
    (source.place.location / liar).rename(source.place.location / liar.replace("local", "aws"))
    rows = sync(source, target)
    assert statuses(rows) == {"copied": 11, "skipped": 2, "known": 1}
    assert {row.path for row in rows if row.problem} == {whole, "future.json"}
    # The name tells what is in it, whatever it was called.
    assert target.find("of5").provider == "local"
    assert len(list(target.entries())) == 11


def test_a_sync_that_is_cut_off_goes_on_the_next_time(
    source: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_access, "_MOST_RETRIES", 0)
    with buckets.s3("a-bucket-cut-off") as double:
        for name, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(name, value)
        bucket = open_store("s3://a-bucket-cut-off")
        puts = itertools.count()
        double.fault = lambda request: (
            "cut" if request.method == "PUT" and next(puts) >= 5 else None
        )
        with pytest.raises(HostUnreachable):
            sync(source, bucket)
        double.fault = lambda _request: None
        there = {bucket.read(entry).id for entry in bucket.entries()}
        assert len(there) >= 5
        # Some that were under way may have come through since.
        assert statuses(sync(source, bucket))["copied"] <= 12 - len(there)
        assert len(list(bucket.entries())) == 12


def test_two_syncs_at_once_copy_each_report_once(source: Store, target: Store) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: sync(source, target), range(2)))
    assert sum(statuses(rows)["copied"] for rows in both) == 12
    assert len(list(target.entries())) == 12


def test_a_source_that_is_not_there_is_told(target: Store, tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no folder"):
        missing(open_store(str(tmp_path / "mistyped")), target)


def test_the_command_says_what_it_did(cloudrun: Cloudrun, source: Store, target: Store) -> None:
    put(source, "broken.json", b"{\x1b")
    done = cloudrun("report", "sync", source.url, target.url)
    assert done.returncode == 65
    assert "12 copied, 0 there already." in done.stderr
    assert "Skipped: The report broken.json is damaged" in done.stderr
    (source.place.location / "broken.json").unlink()
    done = cloudrun("report", "sync", source.url, target.url, "--json")
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert "0 copied, 12 there already." in done.stderr


def test_good_signatures_go_along_to_a_bucket_and_home_again(
    source: Store, target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, _ = userkeys.load(keys.make(tmp_path).file, NOBODY)
    assert own is not None
    put(source, "by-hand.json", report(id="byhand").to_json())
    for entry in [source.find("of3"), source.find("byhand")]:
        vouching.add(source.place, entry.path, source.place.get(entry.path), own)
    bad = source.find("of5").path
    put(source, f"{bad}.sig", signing.sign(b"something else", own))
    with buckets.s3("signed") as double:
        for name, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(name, value)
        bucket = open_store("s3://signed/x")
        sync(source, bucket)
        assert [copy_signatures(source, bucket) for _ in range(2)] == [2, 0]
        assert len(list(bucket.entries())) == 13
        sync(bucket, target)
        assert copy_signatures(bucket, target) == 2
        (signed,) = vouching.beside(bucket.place, "2026/04/24/").values()
        (voucher,) = vouching.check(
            bucket.place, bucket.place.get(bucket.find("of3").path), signed, []
        )
        assert voucher.problem is None
    found = vouching.beside(target.place, below=True)
    assert set(found) == {target.find("of3").path, target.find("byhand").path}
    for path, signatures in found.items():
        (voucher,) = vouching.check(target.place, target.place.get(path), signatures, [])
        assert voucher.problem is None
