"""Hard times for the command line: each of these was once a traceback, a lie or a loss."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.reports import schema
from cloudrun.reports.store import Store, open_store
from tests.conftest import Cloudrun
from tests.doubles.reports import report

PYTHON = sys.executable


@pytest.fixture
def store(home: Path) -> Store:
    store = open_store(str(home / "data" / "reports"))
    store.add(report(id="firstone"))
    return store


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command.replace("cloudrun", f"{PYTHON} -m cloudrun")],
        capture_output=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_bug(store: Store, streams: str) -> None:
    assert shell(f"cloudrun report list {streams}").returncode == 0


def test_a_full_output_is_said_and_is_no_bug(store: Store) -> None:
    done = shell("cloudrun report show >/dev/full")
    assert done.returncode == 78
    assert "No space left on device" in done.stderr


@pytest.mark.xdist_group("torch")
@pytest.mark.parametrize("screen", [
    "2>/dev/full", pytest.param("2>&1 >/dev/null | head -n 2", marks=pytest.mark.thorough),
])  # fmt: skip
def test_a_broken_screen_does_not_break_the_run(cloudrun: Cloudrun, screen: str) -> None:
    shell(f"cloudrun launch --workload smoke -v {screen}")
    done = cloudrun("report", "show", "--json")
    assert schema.parse(done.stdout.encode(), "x").outcome == "passed"
    assert json.loads(cloudrun("ps", "--json").stdout) == []


def test_nohup_is_respected() -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "from cloudrun import settings; from cloudrun.cli.app import main;"
        f"real = settings.places; settings.places = lambda: os.kill(os.getpid(), {signal.SIGHUP})"
        " or real(); sys.argv = ['cloudrun', 'config', 'path']; main()"
    )
    assert subprocess.run([PYTHON, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_odd_things_in_a_store_hide_nothing(cloudrun: Cloudrun, store: Store) -> None:
    (store.place.location / "loop").symlink_to(store.place.location)
    (store.place.location / "dangling.json").symlink_to(store.place.location / "nowhere")
    (store.place.location / "with\nnewline \x1b[2J").write_text("x")
    (store.place.location / "README.txt").write_text("x")
    (store.place.location / "folder.json").mkdir()
    os.mkfifo(store.place.location / "pipe.json")
    (store.place.location / os.fsdecode(b"\xff\xfe.txt")).write_text("x")
    done = cloudrun("report", "list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2


def test_a_report_from_a_friend_is_listed_and_shown(cloudrun: Cloudrun, store: Store) -> None:
    (store.place.location / "friend.json").write_bytes(report(id="friendly").to_json())
    assert "friendly" in cloudrun("report", "list").stdout
    assert "friendly" in cloudrun("report", "show", "friendly").stdout


def test_what_has_no_end_is_no_report(cloudrun: Cloudrun, store: Store) -> None:
    os.mkfifo("pipe.json")
    for name in ("/dev/zero", "pipe.json"):
        assert cloudrun("report", "show", name, timeout=30).returncode == 65


def test_settings_cannot_steer_the_terminal(cloudrun: Cloudrun) -> None:
    Path("cloudrun.toml").write_text('store = "/tmp/\\u001b]0;owned\\u0007x"\n')
    assert "\x1b" not in cloudrun("report", "list").stderr


def test_json_cannot_steer_the_terminal_and_says_the_same(cloudrun: Cloudrun, store: Store) -> None:
    store.add(report(id="evil", notes=["\u202eleft\u009b31m 显卡 \U0001f600"]))
    text = cloudrun("report", "show", "evil", "--json").stdout
    assert all(char.isprintable() or char == "\n" for char in text)
    assert json.loads(text)["notes"] == ["\u202eleft\u009b31m 显卡 \U0001f600"]


def test_the_time_of_a_report_is_shown_in_utc(cloudrun: Cloudrun, store: Store) -> None:
    store.add(report(id="india", created="2026-11-25T10:00:00+05:30"))
    assert "2026-11-25 04:30" in cloudrun("report", "list").stdout
    assert "2026-11-25T04:30Z" in cloudrun("report", "show", "india").stdout


def test_a_report_of_a_day_that_never_was_is_damaged(cloudrun: Cloudrun, store: Store) -> None:
    text = report().to_json().replace(b"2026-11-24T08:12:51", b"2026-02-31T08:12:51")
    (store.place.location / "never.json").write_bytes(text)
    assert cloudrun("report", "list").returncode == 65


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("launch --dry-run --store s3://x", 2),
        ("launch --dry-run --store file://elsewhere/x", 2),
        ("launch --dry-run --max-price nan", 2),
        ("launch --dry-run --ttl ²", 2),
        ("gpus --budget nan", 2),
        ("report list --store ~nosuchuser/x", 0),
        (f"report list --store {'x' * 300}", 78),
        ("ps --log-file /nope/x", 78),
    ],
)
def test_clumsy_words_are_no_bug(cloudrun: Cloudrun, arguments: str, status: int) -> None:
    done = cloudrun(*arguments.split())
    assert done.returncode == status
    assert "Traceback" not in done.stderr


def test_a_file_url_is_decoded(home: Path) -> None:
    assert open_store("file:///a/b%20c").place.location == Path("/a/b c")
    assert open_store("file://localhost/a").place.location == Path("/a")


def test_a_settings_file_of_notepads_is_read(cloudrun: Cloudrun, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_bytes(b'\xef\xbb\xbf[launch]\nprofile = "full"\n')
    plan = json.loads(cloudrun("launch", "--dry-run", "--json").stdout)
    assert plan["need"]["profile"] == "full"


def test_a_full_disk_leaves_the_settings_as_they_were(cloudrun: Cloudrun, home: Path) -> None:
    cloudrun("config", "set", "launch.ttl", "1h")
    before = (home / "config.toml").read_bytes()
    # No file may grow: to a program that is as a disk without room.
    done = shell("ulimit -f 0; cloudrun config set launch.ttl 2h")
    assert done.returncode == 78
    assert "cannot be written" in done.stderr
    assert [(path.name, path.read_bytes()) for path in home.iterdir()] == [("config.toml", before)]


def test_a_linked_settings_file_stays_a_link(cloudrun: Cloudrun, home: Path) -> None:
    home.mkdir()
    Path("dotfiles.toml").write_text("")
    (home / "config.toml").symlink_to(Path("dotfiles.toml").absolute())
    assert cloudrun("config", "set", "launch.ttl", "1h").returncode == 0
    assert (home / "config.toml").is_symlink()
    assert "1h" in Path("dotfiles.toml").read_text()


def test_what_is_no_utf_8_is_told(cloudrun: Cloudrun) -> None:
    done = cloudrun("run", "--", "printf", b"a\xffb")  # type: ignore[arg-type]
    assert done.returncode == 2
    assert r"no text in UTF-8: 'a\xffb'" in " ".join(done.stderr.split())
    assert json.loads(cloudrun("ps", "--json").stdout) == []


def test_a_foreign_variable_does_not_print_the_version(
    cloudrun: Cloudrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDRUN_VERSION", "0.1")
    assert json.loads(cloudrun("ps", "--json").stdout) == []


@pytest.mark.xdist_group("torch")
def test_a_launch_into_another_store_says_how_to_see_it(cloudrun: Cloudrun, tmp_path: Path) -> None:
    done = cloudrun("launch", "--ttl", "4s", "--store", str(tmp_path / "other store"))
    assert done.returncode == 75
    said = " ".join(done.stderr.split())
    command = said.partition("cloudrun report show ")[2]
    shown = shell(f"cloudrun report show {command}")
    assert shown.returncode == 0, shown.stderr


@pytest.mark.xdist_group("torch")
def test_doctor_does_not_pass_a_gpu_that_torch_cannot_use(
    cloudrun: Cloudrun, tmp_path: Path
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'Tesla T4, 580.126.09, 7.5, 15360'\n")
    smi.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = cloudrun("doctor", "--json", env={**os.environ, "PATH": path})
    device = next(row for row in json.loads(done.stdout) if row["name"] == "device")
    assert (done.returncode, device["status"]) == (1, "fail")
    assert "--force-reinstall" in device["remedy"]
