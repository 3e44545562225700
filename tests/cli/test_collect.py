"""`cloudrun collect`, as a process: what it says, its status, its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import Cloudrun
from tests.doubles.reports import document


def test_found_and_skipped_are_told(cloudrun: Cloudrun) -> None:
    Path("a.json").write_text(json.dumps(document(id="a1")))
    Path("b.json").write_text(json.dumps(document(id="b2", schema="cloudrun.report/v9")))
    done = cloudrun("collect", "a.json", "b.json")
    assert done.returncode == 65
    assert "a1" in done.stdout
    assert "stored" in done.stdout
    said = " ".join(done.stderr.split())
    assert "Skipped: The report b.json has the schema 'cloudrun.report/v9'." in said
    assert "1 stored, 0 in the store already, 1 skipped." in said
    assert "a1" in cloudrun("report", "list").stdout
    again = cloudrun("collect", "a.json")
    assert again.returncode == 0
    assert "0 stored, 1 in the store already, 0 skipped." in " ".join(again.stderr.split())


def test_json_is_a_list_of_rows(cloudrun: Cloudrun, tmp_path: Path) -> None:
    Path("in").mkdir()
    Path("in/a.json").write_text(json.dumps(document(id="a1")))
    Path("in/b.json").write_text("{}")
    done = cloudrun("collect", "in", "--json", "--store", str(tmp_path / "other"))
    # The source holds a report; that something else lies beside it is no error.
    assert done.returncode == 0
    stored, skipped = json.loads(done.stdout)
    assert (stored["source"], stored["status"], stored["report"]) == ("in", "stored", "a1")
    assert stored["run"] == {"id": document()["run"]["id"]}
    assert (tmp_path / "other" / stored["path"]).is_file()
    assert skipped["status"] == "skipped"
    assert set(skipped) >= {"source", "document", "what", "why", "try"}


def test_what_is_fed_in(cloudrun: Cloudrun) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cloudrun", "collect", "-"],
        input=f"hello\nCLOUDRUN_REPORT:{json.dumps(document(id='a1'))}\n",
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0
    assert "standard input" in done.stdout
    assert "a1" in cloudrun("report", "list").stdout


def test_what_steers_a_terminal_is_not_printed(cloudrun: Cloudrun) -> None:
    evil = "evil\x1b[2J\u202e.json"
    Path(evil).write_text(json.dumps(document(id="a1", environment=None)))
    Path(f"b{evil}").write_text("{}")
    for arguments in ((), ("--json",)):
        done = cloudrun("collect", evil, f"b{evil}", *arguments)
        assert done.returncode == 65
        assert "\x1b" not in done.stdout + done.stderr
        assert "\u202e" not in done.stdout + done.stderr


def test_no_source_is_a_mistake(cloudrun: Cloudrun) -> None:
    done = cloudrun("collect")
    assert done.returncode == 2
    assert "SOURCE" in done.stderr
