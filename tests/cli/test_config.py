from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cloudrun


def shown(cloudrun: Cloudrun) -> dict[str, tuple[object, str]]:
    rows = json.loads(cloudrun("config", "show", "--json").stdout)
    return {row["key"]: (row["value"], row["source"]) for row in rows}


def test_each_setting_tells_where_it_comes_from(
    cloudrun: Cloudrun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(cloudrun)["launch.profile"] == ("quick", "default")
    assert cloudrun("config", "set", "launch.profile", "full").returncode == 0
    assert shown(cloudrun)["launch.profile"] == ("full", str(home / "config.toml"))
    Path("cloudrun.toml").write_text('[launch]\nprofile = "standard"\n')
    assert shown(cloudrun)["launch.profile"] == ("standard", str(Path("cloudrun.toml").absolute()))
    monkeypatch.setenv("CLOUDRUN_LAUNCH_PROFILE", "quick")
    value, source = shown(cloudrun)["launch.profile"]
    assert (value, source) == ("quick", "environment (CLOUDRUN_LAUNCH_PROFILE)")


def test_what_is_shown_is_what_launch_uses(
    cloudrun: Cloudrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def profile(*arguments: str) -> str:
        plan = json.loads(cloudrun("launch", "--dry-run", "--json", *arguments).stdout)
        return str(plan["need"]["profile"])

    assert profile() == "quick"
    cloudrun("config", "set", "launch.profile", "full")
    assert profile() == "full"
    monkeypatch.setenv("CLOUDRUN_LAUNCH_PROFILE", "standard")
    assert profile() == "standard"
    assert profile("--profile", "quick") == "quick"


def test_setting_keeps_what_else_is_in_the_file(cloudrun: Cloudrun, home: Path) -> None:
    home.mkdir()
    file = home / "config.toml"
    file.write_text('# mine\n[launch]\nttl = "1h"  # long\n')
    cloudrun("config", "set", "launch.max_price", "0.75")
    cloudrun("config", "set", "store", "~/r")
    text = file.read_text()
    assert "# mine" in text
    assert 'ttl = "1h"  # long' in text
    assert "max_price = 0.75" in text
    assert 'store = "~/r"' in text
    assert shown(cloudrun)["store"] == ("~/r", str(file))
    assert [path.name for path in home.iterdir()] == ["config.toml"]


def test_the_first_setting_makes_a_file_that_explains_itself(
    cloudrun: Cloudrun, home: Path
) -> None:
    cloudrun("config", "set", "launch.ttl", "1h")
    text = (home / "config.toml").read_text()
    assert "# Settings of cloudrun" in text
    assert shown(cloudrun)["launch.ttl"][0] == "1h"


def test_a_wrong_value_changes_nothing(cloudrun: Cloudrun, home: Path) -> None:
    cloudrun("config", "set", "launch.ttl", "1h")
    before = (home / "config.toml").read_text()
    assert cloudrun("config", "set", "launch.ttl", "10").returncode == 78
    assert (home / "config.toml").read_text() == before


WRONG = [
    ("launch.gpu", "T44", "Did you mean T4?"),
    ("launch.on", "lokal", "Did you mean 'local'?"),
    ("store", "ftp://x", "such as ./reports"),
]


@pytest.mark.parametrize(("key", "value", "says"), WRONG)
def test_what_only_the_upper_layers_know_is_checked_when_it_is_set(
    cloudrun: Cloudrun, home: Path, key: str, value: str, says: str
) -> None:
    done = cloudrun("config", "set", key, value)
    assert done.returncode == 78
    assert says in " ".join(done.stderr.split())
    assert not home.exists()


@pytest.mark.parametrize(("key", "value", "says"), WRONG)
def test_a_value_that_this_version_cannot_use_is_refused_with_its_file(
    cloudrun: Cloudrun, key: str, value: str, says: str
) -> None:
    table, _, name = key.rpartition(".")
    file = Path("cloudrun.toml").absolute()
    file.write_text(f'{f"[{table}]" if table else ""}\n{name} = "{value}"\n')
    for command in (("launch", "--dry-run"), ("config",), ("report", "list")):
        done = cloudrun(*command)
        assert done.returncode == 78
        assert str(file) in "".join(done.stderr.split("\n"))
        assert says in " ".join(done.stderr.split())


def test_setting_a_key_below_what_is_no_table_is_no_bug(cloudrun: Cloudrun, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("launch = 3\n")
    done = cloudrun("config", "set", "launch.ttl", "1h")
    assert done.returncode == 78
    assert "[launch] on a line of its own" in " ".join(done.stderr.split())


def test_a_broken_file_can_still_be_found(cloudrun: Cloudrun, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("store = ")
    assert cloudrun("config").returncode == 78
    assert cloudrun("launch", "--dry-run").returncode == 78
    assert cloudrun("launch", "--help").returncode == 0
    assert cloudrun("config", "path").stdout.strip() == str(home / "config.toml")


def test_a_folder_that_cannot_be_written_is_said(cloudrun: Cloudrun, home: Path) -> None:
    home.write_text("a file where the folder should be")
    done = cloudrun("config", "set", "store", "x")
    assert done.returncode == 78
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["local", "auto", "aws"])
def test_a_host_cannot_have_a_name_that_means_something_else(cloudrun: Cloudrun, name: str) -> None:
    done = cloudrun("config", "set", f"hosts.{name}", "ssh://box")
    assert done.returncode == 78
    assert "means something else to --on" in " ".join(done.stderr.split())
