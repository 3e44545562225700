"""`cloudrun report html`: the file, what is said of it, and the page that is served."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cloudrun.reports.store import Store, open_store
from tests.conftest import Cloudrun
from tests.doubles.reports import document, report


@pytest.fixture
def store(home: Path) -> Store:
    store = open_store(str(home / "data" / "reports"))
    store.add(report(id="firstone"))
    return store


def test_it_writes_a_page_and_prints_its_name(cloudrun: Cloudrun, store: Store) -> None:
    done = cloudrun("report", "html")
    assert (done.returncode, done.stdout) == (0, "cloudrun-reports.html\n")
    assert "1 report, " in done.stderr
    assert "firstone" in Path("cloudrun-reports.html").read_text("utf-8")


def test_a_page_of_ours_is_replaced_and_nothing_else_is(cloudrun: Cloudrun, store: Store) -> None:
    assert cloudrun("report", "html", "-o", "page.html").returncode == 0
    store.add(report(id="secondone"))
    assert cloudrun("report", "html", "-o", "page.html").returncode == 0
    assert "secondone" in Path("page.html").read_text("utf-8")
    Path("thesis.html").write_text("<!doctype html>\n<html>")
    for taken in ("thesis.html", ".", "/dev/null"):
        done = cloudrun("report", "html", "-o", taken)
        assert done.returncode == 2
        assert "is no page that cloudrun has made" in " ".join(done.stderr.split())
    assert Path("thesis.html").read_text() == "<!doctype html>\n<html>"


def test_what_cannot_be_written_is_told_and_leaves_nothing(
    cloudrun: Cloudrun, store: Store
) -> None:
    done = cloudrun("report", "html", "-o", "missing/page.html")
    assert done.returncode == 78
    assert "The page cannot be written to missing/page.html" in done.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disk_leaves_the_old_page_and_no_half(cloudrun: Cloudrun, store: Store) -> None:
    import resource

    assert cloudrun("report", "html", "-o", "page.html").returncode == 0
    old = Path("page.html").read_bytes()

    def small() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = cloudrun("report", "html", "-o", "page.html", preexec_fn=small)
    assert done.returncode == 78
    assert "cannot be written to page.html. File too large." in " ".join(done.stderr.split())
    assert [path.name for path in Path().iterdir()] == ["page.html"]
    assert Path("page.html").read_bytes() == old


def test_damaged_ones_are_named_and_the_others_shown(cloudrun: Cloudrun, store: Store) -> None:
    for name, text in {
        "future": json.dumps(document(schema="cloudrun.report/v9")),
        "nan": json.dumps(document(id="nan")).replace("30.0", "NaN"),
        "huge": json.dumps(document(id="huge")).replace("30.0", "1" + "0" * 400),
        "negative": json.dumps(document(id="negative")).replace("30.0", "-30.0"),
        "cut": json.dumps(document(id="cut"))[:300],
        "foreign": '{"name": "package", "version": "1.0"}',
        "alien\x1b[2J<script>": "[]",
        "copy": json.dumps(document(id="firstone")),
    }.items():
        (store.place.location / f"{name}.json").write_text(text)
    (store.place.location / "enormous.json").write_bytes(b"[" * (21 * 2**20))
    done = cloudrun("report", "html", "--json")
    made = json.loads(done.stdout)
    assert done.returncode == 65
    assert made["reports"] == 1
    assert len(made["left_out"]) == 9
    page = Path(made["file"]).read_text("utf-8")
    assert "firstone" in page
    for name in ("future", "nan", "huge", "negative", "cut", "foreign", "copy", "enormous"):
        assert f"{name}.json" in page
    assert "alien?[2J&lt;script&gt;.json" in page
    assert all(char.isprintable() or char == "\n" for char in cloudrun("report", "html").stderr)


def test_a_copy_alone_is_no_damage(cloudrun: Cloudrun, store: Store) -> None:
    (store.place.location / "copy.json").write_text(json.dumps(document(id="firstone")))
    done = cloudrun("report", "html")
    assert done.returncode == 0
    assert "Not shown: copy.json." in done.stderr


def test_an_empty_store_says_what_to_do(cloudrun: Cloudrun) -> None:
    done = cloudrun("report", "html")
    assert done.returncode == 0
    assert "Make one: cloudrun launch" in " ".join(done.stderr.split())


def test_what_contradicts_itself_is_refused(cloudrun: Cloudrun) -> None:
    for more in (["-o", "x.html"], ["--json"]):
        assert cloudrun("report", "html", "--serve", *more).returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_serving_ends_by_ctrl_c_and_that_is_no_failure(store: Store) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cloudrun", "report", "html", "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as started:
        assert started.stdout
        assert started.stderr
        address = started.stdout.readline().strip()
        with urllib.request.urlopen(address) as answer:  # noqa: S310 - the loopback's
            assert "firstone" in answer.read().decode()
        started.send_signal(signal.SIGINT)
        assert started.wait(30) == 0
        assert "The page is closed." in started.stderr.read()
