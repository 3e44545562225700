"""`cloudrun report compare`, as a process: what it prints, its status, what it leaves out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from cloudrun.model.columns import width_of
from cloudrun.reports.store import Store, open_store
from tests.conftest import Cloudrun
from tests.doubles.reports import T4, document, measurement, report

L4 = {**T4, "gpus": [{**T4["gpus"][0], "name": "NVIDIA L4"}]}


def rows(*values: float) -> list[dict[str, Any]]:
    params = ({"dtype": dtype, "m": 8, "n": 8, "k": 8, "device": "cuda"} for dtype in ("a", "b"))
    return [measurement(value=value, params=each) for value, each in zip(values, params)]  # noqa: B905


@pytest.fixture
def store(home: Path) -> Store:
    store = open_store(str(home / "data" / "reports"))
    for number in range(3):
        store.add(
            report(id=f"t{number}", environment=T4, measurements=rows(24.0 + number / 10, 8.0))
        )
        store.add(
            report(id=f"l{number}", environment=L4, measurements=rows(58.0 + number / 10, 7.0))
        )
    return store


def test_the_whole_store_by_gpu(cloudrun: Cloudrun, store: Store) -> None:
    done = cloudrun("report", "compare")
    assert done.returncode == 0
    assert "Tesla T4" in done.stdout
    assert "slower, 0.41x" in done.stdout
    assert done.stderr == ""
    assert max(map(width_of, done.stdout.splitlines())) <= 80


def test_json_is_a_list_of_rows(cloudrun: Cloudrun, store: Store) -> None:
    found = json.loads(cloudrun("report", "compare", "--by", "provider", "--json").stdout)
    assert {(row["group"], row["device"], row["runs"]) for row in found} == {
        ("local", "Tesla T4", 3),
        ("local", "NVIDIA L4", 3),
    }
    assert found[0]["params"] == {"dtype": "a", "k": 8, "m": 8, "n": 8}


def test_a_regression_ends_with_status_1_and_its_name(cloudrun: Cloudrun, store: Store) -> None:
    arguments = ("report", "compare", "l0", "--baseline", "t0", "--fail-on-regression")
    done = cloudrun(*arguments, "5%")
    assert done.returncode == 1
    assert "1 of 2 measurements are slower" in " ".join(done.stderr.split())
    assert "matmul b 8 of l0 is 0.875 times as fast" in " ".join(done.stderr.split())
    assert "faster" in done.stdout
    assert cloudrun(*arguments, "20").returncode == 0
    for wrong in ("-1", "nan", "100%", "much"):
        assert cloudrun(*arguments, wrong).returncode == 2
    # The rows are the one document on stdout.
    assert len(json.loads(cloudrun(*arguments, "5%", "--json").stdout)) == 4


def test_nothing_compared_is_no_good_news(cloudrun: Cloudrun, store: Store) -> None:
    other = report(id="other", environment=T4, measurements=rows(1.0), provenance={
        "cloudrun": "0.2", "workload_sha256": "f" * 64})  # fmt: skip
    store.add(other)
    done = cloudrun("report", "compare", "other", "--baseline", "t0", "--fail-on-regression", "5")
    assert done.returncode == 65
    assert "Nothing could be compared" in done.stderr
    assert "another version" in " ".join(done.stderr.split())


def test_files_ids_beginnings_and_last(cloudrun: Cloudrun, store: Store) -> None:
    Path("mine.json").write_text(
        json.dumps(document(id="mine", environment=T4, measurements=rows(30.0)))
    )
    found = json.loads(cloudrun("report", "compare", "t0", "mine.json", "last", "--json").stdout)
    assert {row["group"] for row in found} == {"t0", "mine", "t2"}
    assert {row["baseline"] for row in found} == {"t0"}
    found = json.loads(cloudrun("report", "compare", "--baseline", "mine.json", "--json").stdout)
    assert {row["baseline"] for row in found} == {"mine (baseline)"}
    done = cloudrun("report", "compare", "--baseline", "H100")
    assert done.returncode == 2
    assert "There is no report and no gpu 'H100'" in done.stderr


def test_damaged_foreign_future_and_double_ones_are_named(cloudrun: Cloudrun, store: Store) -> None:
    whole = next(store.place.location.rglob("*_t0.json"))
    (store.place.location / "copy.json").write_bytes(whole.read_bytes())
    (store.place.location / "future.json").write_text(
        json.dumps(document(schema="cloudrun.report/v9"))
    )
    text = json.dumps(document(id="large", environment=T4, measurements=rows(24.0)))
    for name, bad in (("huge", "1" + "0" * 400), ("negative", "-3"), ("nothing", "NaN")):
        (store.place.location / f"{name}.json").write_text(text.replace("24.0", bad))
    Path("broken.json").write_bytes(whole.read_bytes()[:99])
    done = cloudrun("report", "compare")
    said = " ".join(done.stderr.split())
    assert done.returncode == 65
    for name in ("future", "huge", "negative", "nothing"):
        assert f"{name}.json" in said
    assert "it is there twice, and counts once: t0" in said
    assert "Tesla T4 3" in " ".join(done.stdout.split())
    done = cloudrun("report", "compare", "t1", "broken.json", "l1")
    assert done.returncode == 65
    assert "broken.json is damaged" in " ".join(done.stderr.split())
    assert "faster, 2.41x" in done.stdout


def test_markdown_and_csv(cloudrun: Cloudrun, store: Store) -> None:
    lines = cloudrun("report", "compare", "--format", "md").stdout.splitlines()
    assert lines[0].startswith("| Measurement | Unit | gpu |")
    assert sum(line.startswith("|") for line in lines) == 6
    found = list(
        csv.DictReader(cloudrun("report", "compare", "--format", "csv").stdout.splitlines())
    )
    assert {row["group"] for row in found} == {"Tesla T4", "NVIDIA L4"}


def test_the_format_has_its_variable(
    cloudrun: Cloudrun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDRUN_REPORT_COMPARE_FORMAT", "md")
    assert cloudrun("report", "compare").stdout.startswith("| Measurement |")


def test_nothing_at_all(cloudrun: Cloudrun) -> None:
    done = cloudrun("report", "compare")
    assert (done.returncode, done.stdout) == (0, "")
    assert "cloudrun launch" in done.stderr
    assert json.loads(cloudrun("report", "compare", "--json").stdout) == []


def test_an_export_reads_back(cloudrun: Cloudrun, store: Store) -> None:
    (store.place.location / "broken.json").write_text("{")
    done = cloudrun("report", "export")
    assert done.returncode == 65
    assert len(json.loads(done.stdout)) == 12
    assert "broken.json" in done.stderr
    done = cloudrun("report", "export", "t0", "--format", "csv")
    assert done.returncode == 0
    assert [row["value"] for row in csv.DictReader(done.stdout.splitlines())] == ["24.0", "8.0"]
    assert cloudrun("report", "export", "t0", "--format", "md").stdout.startswith("| report |")
    assert "Did you mean 'csv'?" in cloudrun("report", "export", "--format", "cvs").stderr
