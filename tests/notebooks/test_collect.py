"""Sources of reports: files, folders, zip files, standard input; and what does no harm."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cloudrun.catalog.gpus import find
from cloudrun.notebooks import collect as module
from cloudrun.notebooks.collect import Row, collect
from cloudrun.reports.store import Store, open_store
from tests.doubles import buckets
from tests.doubles.reports import T4, document, measurement, report


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def put(path: Path, **fields: Any) -> str:
    """Write a report; returns the path as a user would type it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(**fields)))
    return str(path)


def told(rows: list[Row]) -> list[tuple[str, str]]:
    return [
        (row.status, row.report.id if row.report else str(row.problem)) for row in rows
    ]  # fmt: skip


def packed(path: Path, entries: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return str(path)


def one(**fields: Any) -> bytes:
    return json.dumps(document(**fields)).encode()


def test_each_report_is_stored_once(tmp_path: Path, store: Store) -> None:
    first = put(tmp_path / "in" / "a.json", id="a1")
    put(tmp_path / "in" / "b" / "again.json", id="a1")
    put(tmp_path / "in" / "b" / "c.json", id="c3")
    rows = list(collect([first, str(tmp_path / "in")], store))
    assert told(rows) == [("stored", "a1"), ("known", "a1"), ("known", "a1"), ("stored", "c3")]
    assert told(list(collect([first], store))) == [("known", "a1")]
    assert sorted(entry.id for entry in store.entries()) == ["a1", "c3"]
    assert rows[0].path == rows[1].path
    assert store.read(next(store.entries())).id in ("a1", "c3")


def test_a_report_that_lies_in_the_store_under_another_name(tmp_path: Path, store: Store) -> None:
    put(store.place.location / "by-hand.json", id="a1")
    (store.place.location / "damaged.json").write_text("{")
    assert told(list(collect([put(tmp_path / "a.json", id="a1")], store))) == [("known", "a1")]


def test_a_folder_is_searched_but_for_hidden_ones_and_links(tmp_path: Path, store: Store) -> None:
    root = tmp_path / "in"
    put(root / "a.JSON", id="a1")
    put(root / ".ipynb_checkpoints" / "b.json", id="b2")
    put(root / "picture.png", id="c3")
    put(tmp_path / "outside" / "d.json", id="d4")
    (root / "link.json").symlink_to(tmp_path / "outside" / "d.json")
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.json")
    rows = list(collect([str(root)], store))
    assert told(rows)[0] == ("stored", "a1")
    assert {row.document.rpartition("/")[2]: row.status for row in rows[1:]} == {
        "link.json": "skipped",
        "pipe.json": "skipped",
    }


def test_a_link_that_the_user_names_is_followed(tmp_path: Path, store: Store) -> None:
    put(tmp_path / "a.json", id="a1")
    (tmp_path / "link.json").symlink_to(tmp_path / "a.json")
    assert told(list(collect([str(tmp_path / "link.json")], store))) == [("stored", "a1")]


@pytest.mark.parametrize(
    ("source", "says"),
    [("missing.json", "No such file"), ("https://x.org/a.ipynb", "Download it first")],
)
def test_what_is_not_there(store: Store, source: str, says: str) -> None:
    ((status, why),) = told(list(collect([source], store)))
    assert status == "skipped"
    assert says in why


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_file(tmp_path: Path, store: Store, kind: int) -> None:
    source = packed(
        tmp_path / "x.zip",
        {"a.json": one(id="a1"), "b/../../c.json": one(id="c3"), "x.png": b"x", "/d.json": b"{"},
        kind,
    )
    rows = told(list(collect([source], store)))
    assert rows[:2] == [("stored", "a1"), ("stored", "c3")]
    assert rows[2][0] == "skipped"
    assert len(rows) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "work", "x.zip"]


def test_zip_files_that_are_none_or_odd(tmp_path: Path, store: Store) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.json", one())
    good = packed(tmp_path / "good.zip", {"in.zip": inner.getvalue(), "a.json": one(id="a1")})
    assert [status for status, _ in told(list(collect([good], store)))] == ["skipped", "stored"]
    odd = packed(tmp_path / "odd.zip", {"b.json": one(id="b2")}, zipfile.ZIP_LZMA)
    assert "uncommon" in told(list(collect([odd], store)))[0][1]
    data = bytearray(Path(packed(tmp_path / "e.zip", {"b.json": one(id="b2")})).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "e.zip").write_bytes(data)
    assert "encrypted" in told(list(collect([str(tmp_path / "e.zip")], store)))[0][1]
    for cut in (10, len(data) // 2, len(data) - 5):
        (tmp_path / "cut.zip").write_bytes(data[:cut])
        ((status, _),) = told(list(collect([str(tmp_path / "cut.zip")], store)))
        assert status == "skipped"


def test_a_zip_file_with_a_broken_entry(tmp_path: Path, store: Store) -> None:
    source = Path(packed(tmp_path / "x.zip", {"a.json": one(id="a1"), "b.json": one(id="b2")}))
    data = bytearray(source.read_bytes())
    data[60] ^= 0xFF
    source.write_bytes(data)
    rows = told(list(collect([str(source)], store)))
    assert rows[1] == ("stored", "b2")
    assert rows[0][0] == "skipped"


def test_zip_bombs_end_at_the_limit(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2**20)
    monkeypatch.setattr("cloudrun.notebooks.read.MOST_BYTES", 2**20)
    monkeypatch.setattr(module, "_MOST_UNPACKED_BYTES", 3 * 2**20)
    bomb = b" " * (20 * 2**20)
    source = packed(tmp_path / "x.zip", {f"{number}.json": bomb for number in range(9)})
    rows = told(list(collect([source], store)))
    assert "larger than 1 MiB" in rows[0][1]
    assert "unpacks to more than" in rows[-1][1]
    assert len(rows) == 4


def test_a_directory_of_a_zip_file_that_is_far_too_large(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(packed(tmp_path / "x.zip", {f"{n}.json": b"{}" for n in range(50)}))
    monkeypatch.setattr(module, "_MOST_DIRECTORY_BYTES", 1000)
    assert "far too large" in told(list(collect([str(source)], store)))[0][1]
    # The same, told by the larger kind of record that goes before the usual one.
    data = source.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<LL", data[end + 12 : end + 20])
    larger = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 50, 50, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    small = data[end : end + 12] + struct.pack("<L", 10) + data[end + 16 :]
    source.write_bytes(data[:end] + larger + locator + small)
    assert len(zipfile.ZipFile(source).namelist()) == 50
    assert "far too large" in told(list(collect([str(source)], store)))[0][1]


def test_a_folder_without_end(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_FILES", 3)
    for number in range(5):
        put(tmp_path / "in" / f"{number}.json", id=f"id{number}")
    rows = told(list(collect([str(tmp_path / "in")], store)))
    assert [status for status, _ in rows] == ["stored"] * 3 + ["skipped"]
    assert "more than 3 files" in rows[-1][1]


def test_a_notebooks_report_gets_its_peaks_here(tmp_path: Path, store: Store) -> None:
    params = {"dtype": "fp16", "m": 8192, "n": 8192, "k": 8192, "device": "cuda"}
    row = measurement(params=params, value=40.0)
    machine = {"provider": "colab"}
    source = put(tmp_path / "a.json", id="a1", machine=machine, environment=T4, measurements=[row])
    (stored,) = collect([source], store)
    assert stored.report is not None
    (measured,) = stored.report.measurements
    peak = find("T4")[0].fp16_tflops
    assert peak is not None
    assert measured.peak == peak
    assert measured.peak_fraction == pytest.approx(40 / peak, abs=1e-4)
    assert stored.report.outcome == "passed"
    kept = store.read(next(store.entries()))
    assert kept == stored.report


def test_a_number_above_what_physics_allows_fails_a_notebooks_run(
    tmp_path: Path, store: Store
) -> None:
    params = {"dtype": "fp16", "m": 8192, "n": 8192, "k": 8192, "device": "cuda"}
    rows = [measurement(params=params, value=4000.0)]
    source = put(
        tmp_path / "a.json",
        machine={"provider": "kaggle"},
        environment=T4,
        measurements=rows,
        checks=[],
    )
    (stored,) = collect([source], store)
    assert stored.report is not None
    assert stored.report.outcome == "failed"
    assert stored.report.checks[-1].status == "fail"


def test_the_report_of_a_launch_is_stored_as_it_is(tmp_path: Path, store: Store) -> None:
    params = {"dtype": "fp16", "m": 8192, "n": 8192, "k": 8192, "device": "cuda"}
    rows = [measurement(params=params, value=40.0)]
    source = put(
        tmp_path / "a.json", machine={"provider": "aws"}, environment=T4, measurements=rows
    )
    (stored,) = collect([source], store)
    assert stored.report is not None
    assert stored.report.measurements[0].peak is None


def test_the_reports_of_a_bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with buckets.s3("a-bucket-to-collect") as double:
        for name, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(name, value)
        theirs = open_store("s3://a-bucket-to-collect/of/a/team")
        theirs.add(report(id="theirs"))
        theirs.place.put("2026/11/24/broken.json", b"{")
        rows = list(collect([theirs.url], store))
    assert [row.status for row in rows] == ["stored", "skipped"]
    assert rows[0].document.startswith("s3://a-bucket-to-collect/of/a/team/2026/11/24/")
    assert store.read(store.find("theirs")) == report(id="theirs")
