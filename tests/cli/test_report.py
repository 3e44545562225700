from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from cloudrun.cli.report import command
from cloudrun.errors import WrongUsage
from cloudrun.model.columns import width_of
from cloudrun.model.run import rfc3339
from cloudrun.reports import schema
from cloudrun.reports.store import Store, open_store
from tests.conftest import Cloudrun
from tests.doubles.reports import CPU, T4, document, report


@pytest.fixture
def store(home: Path) -> Store:
    store = open_store(str(home / "data" / "reports"))
    store.add(report(id="firstone", created="2026-11-24T07:00:00.000Z"))
    store.add(report(id="secondone", created="2026-11-24T09:00:00.000Z", outcome="failed"))
    return store


def test_list_shows_the_newest_first(cloudrun: Cloudrun, store: Store) -> None:
    done = cloudrun("report", "list")
    ids = [line.split()[0] for line in done.stdout.splitlines()]
    assert ids == ["REPORT", "secondone", "firstone"]
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_list_fits_the_terminal_whatever_the_names(
    cloudrun: Cloudrun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "某公司的显卡" * 8
    store.add(report(id="i" * 64, environment={**CPU, "cpu": name}))

    def listed(columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        return cloudrun("report", "list").stdout.splitlines()

    assert max(map(width_of, listed(80))) <= 80
    assert max(map(width_of, listed(60))) <= 60
    assert "i" * 64 in listed(250)[2]
    assert name in listed(250)[2]


def test_columns_narrow_what_is_shown_and_said(
    cloudrun: Cloudrun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    for arguments in ("report show", "launch --ttl 10"):
        done = cloudrun(*arguments.split())
        assert max(map(width_of, (done.stdout + done.stderr).splitlines())) <= 50
    monkeypatch.setenv("COLUMNS", "200")
    assert max(map(width_of, cloudrun("report", "show").stdout.splitlines())) <= 80


def test_list_as_json_has_the_runs(cloudrun: Cloudrun, store: Store) -> None:
    rows = json.loads(cloudrun("report", "list", "--json").stdout)
    assert [row["report"] for row in rows] == ["secondone", "firstone"]
    assert rows[0]["outcome"] == "failed"
    assert rows[0]["best_tflops"] == 0.2


def test_damaged_ones_are_named_and_the_others_listed(cloudrun: Cloudrun, store: Store) -> None:
    whole = next(store.place.location.rglob("*firstone.json"))
    whole.write_bytes(whole.read_bytes()[:200])
    (store.place.location / "future.json").write_text(
        json.dumps(document(schema="cloudrun.report/v9"))
    )
    (store.place.location / "holiday.jpg").write_bytes(b"\xff\xd8\xff")
    done = cloudrun("report", "list")
    assert done.returncode == 65
    assert "secondone" in done.stdout
    rows, below = done.stdout.splitlines()[:4], done.stdout.splitlines()[4:]
    assert sum("damaged" in row for row in rows) == 2
    assert [line.partition("/")[0] for line in below] == ["damaged: 2026", "damaged: future.json"]
    assert "1 more" in done.stderr
    done = cloudrun("report", "list", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 65
    assert sorted("error" in row for row in rows) == [False, True, True]


def test_a_damaged_one_shown_is_bad_data(cloudrun: Cloudrun, store: Store) -> None:
    whole = next(store.place.location.rglob("*firstone.json"))
    whole.write_bytes(whole.read_bytes()[:200])
    done = cloudrun("report", "show", "firstone")
    assert done.returncode == 65
    assert "damaged" in done.stderr


def test_a_hostile_report_is_harmless_and_listed(cloudrun: Cloudrun, store: Store) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e"
    store.add(report(id="evil", environment={**CPU, "cpu": evil, "torch": evil}))
    for arguments in (("list",), ("show", "evil")):
        done = cloudrun("report", *arguments)
        assert done.returncode == 0
        assert all(char.isprintable() or char == "\n" for char in done.stdout)
    assert "\x1b" not in cloudrun("report", "list", "--json").stdout


def test_show_takes_an_id_a_beginning_a_file_and_last(cloudrun: Cloudrun, store: Store) -> None:
    file = next(store.place.location.rglob("*firstone.json"))
    for name in ("firstone", "first", str(file)):
        assert "firstone" in cloudrun("report", "show", name).stdout
    assert "secondone" in cloudrun("report", "show").stdout


def test_show_as_json_is_the_report(cloudrun: Cloudrun, store: Store) -> None:
    done = cloudrun("report", "show", "first", "--json")
    assert schema.parse(done.stdout.encode(), "x").id == "firstone"


def test_the_store_option_its_variable_and_its_setting(
    cloudrun: Cloudrun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(str(tmp_path / "other")).add(report(id="elsewhere"))
    assert "elsewhere" in cloudrun("report", "list", "--store", str(tmp_path / "other")).stdout
    cloudrun("config", "set", "store", str(tmp_path / "other"))
    assert "elsewhere" in cloudrun("report", "list").stdout
    monkeypatch.setenv("CLOUDRUN_REPORT_LIST_STORE", str(tmp_path / "none"))
    done = cloudrun("report", "list")
    assert done.stdout == ""
    assert "no report" in done.stderr


def test_schema_is_json_schema(cloudrun: Cloudrun) -> None:
    assert json.loads(cloudrun("report", "schema").stdout) == json.loads(
        json.dumps(schema.json_schema())
    )


@pytest.fixture
def several(home: Path) -> Store:
    store = open_store(str(home / "data" / "reports"))
    now = datetime.now(UTC)
    for days, gpu in enumerate(("Tesla T4", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S", "Tesla T4")):
        store.add(
            report(
                id=f"of{days}",
                created=rfc3339(now - timedelta(days=days, minutes=1)),
                machine={"provider": "local" if days == 3 else "aws"},
                environment={**T4, "gpus": [{"name": gpu}]},
            )
        )
    by_hand = report(id="byhand", created=rfc3339(now), environment=T4)
    (store.place.location / "by-hand.json").write_bytes(by_hand.to_json())
    (store.place.location / "broken.json").write_text("{")
    return store


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ("--since 47h --limit 1", "of0"),
        ("--since 2d", "of0 of1 byhand"),
        ("--gpu t4", "of0 of3 byhand"),
        ("--gpu A100-80GB", "of1"),
        ("--gpu L4", ""),
        ("--provider aws --gpu T4", "of0"),
        ("--limit 2", "of0 of1"),
        ("--limit 0 --since 2020-01-31", "of0 of1 of2 of3 byhand"),
    ],
)
def test_list_can_be_narrowed(several: Store, arguments: str, ids: str) -> None:
    done = CliRunner().invoke(command, ["list", "--json", *arguments.split()])
    assert [row["report"] for row in json.loads(done.stdout)] == ids.split()


@pytest.mark.parametrize("when", ["yesterday", "2026-13-01", "99999d", "5"])
def test_what_is_no_time_is_refused(several: Store, when: str) -> None:
    with pytest.raises(WrongUsage, match="neither a day nor a duration"):
        CliRunner().invoke(command, ["list", "--since", when], catch_exceptions=False)


def test_a_long_list_says_that_there_is_more(cloudrun: Cloudrun, store: Store) -> None:
    for number in range(50):
        store.add(report(id=f"r{number:02d}", created=f"2026-12-24T09:00:{number:02d}Z"))
    done = cloudrun("report", "list")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        f"r{number:02d}" for number in reversed(range(50))
    ]
    assert "the newest 50" in done.stderr
    assert len(json.loads(cloudrun("report", "list", "--json").stdout)) == 52


def test_a_copy_is_called_a_duplicate(cloudrun: Cloudrun, store: Store) -> None:
    copy = store.place.location / "copy.json"
    copy.write_bytes((store.place.location / store.find("first").path).read_bytes())
    done = cloudrun("report", "list")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "duplicate: copy.json"
    rows = json.loads(cloudrun("report", "list", "--json").stdout)
    assert [row.get("duplicate_of") for row in rows] == [None, None, store.find("first").path]
    assert store.find("first").path != "copy.json"


def test_plot_draws_bars_for_any_terminal(cloudrun: Cloudrun, store: Store) -> None:
    drawn = cloudrun("report", "show", "firstone", "--plot")
    assert drawn.returncode == 0
    assert "matmul fp32 2048 cpu       " + "█" * 40 in drawn.stdout
    poor = cloudrun(
        "report", "show", "--plot", env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60"}
    )
    assert "#" * 26 in poor.stdout
    assert max(map(len, poor.stdout.splitlines())) == 60
    assert cloudrun("report", "show", "--plot", "--json").returncode == 2
