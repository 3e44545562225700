"""Every option of launch, from the command line, the environment and the settings, in a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cloudrun

# Option, its value as people write it, where it shows in the plan, and what stands there.
OPTIONS = [
    ("on", "local", ("need", "targets"), ["local"]),
    ("workload", "smoke", ("need", "workload"), "smoke"),
    ("profile", "full", ("need", "profile"), "full"),
    ("ttl", "1h30m", ("need", "ttl_s"), 5400),
    ("max-price", "0.75", ("need", "max_price_usd"), 0.75),
    ("max-cost", "2.5", ("need", "max_cost_usd"), 2.5),
]


def at(document: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def plan(cloudrun: Cloudrun, *arguments: str) -> Any:
    done = cloudrun("launch", "--dry-run", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("option", "text", "path", "value"), OPTIONS)
def test_an_option_its_variable_and_its_setting_mean_the_same(
    cloudrun: Cloudrun,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    text: str,
    path: tuple[str, ...],
    value: object,
) -> None:
    default = at(plan(cloudrun), path)
    assert default != value
    assert at(plan(cloudrun, f"--{option}", text), path) == value
    name = option.replace("-", "_")
    monkeypatch.setenv(f"CLOUDRUN_LAUNCH_{name.upper()}", text)
    assert at(plan(cloudrun), path) == value
    monkeypatch.delenv(f"CLOUDRUN_LAUNCH_{name.upper()}")
    quoted = text if option.startswith("max") else f'"{text}"'
    Path("cloudrun.toml").write_text(f"[launch]\n{name} = {quoted}\n")
    assert at(plan(cloudrun), path) == value


def test_a_gpu_that_is_not_here_is_refused_from_everywhere(
    cloudrun: Cloudrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDRUN_LAUNCH_GPU", "H100:8")
    done = cloudrun("launch", "--dry-run")
    assert done.returncode == 69
    assert "H100:8" in done.stderr


def test_json_by_variable_holds_for_errors_too(
    cloudrun: Cloudrun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDRUN_LAUNCH_JSON", "1")
    for wrong in (("--ttl", "10"), ("--bogus",), ("an argument too many",)):
        done = cloudrun("launch", *wrong)
        assert json.loads(done.stdout)["error"]["exit_status"] == done.returncode == 2
    Path("cloudrun.toml").write_text('stroe = "x"')
    assert json.loads(cloudrun("launch").stdout)["error"]["exit_status"] == 78
    monkeypatch.setenv("CLOUDRUN_LAUNCH_JSON", "0")
    assert cloudrun("launch", "--bogus").stdout == ""


def test_a_plan_tells_offers_time_and_money(cloudrun: Cloudrun) -> None:
    document = plan(cloudrun)
    assert document["offers"][0]["provider"] == "local"
    assert document["seconds"] == pytest.approx(sum(row["seconds"] for row in document["forecast"]))
    assert document["usd"] == 0
    text = cloudrun("launch", "--dry-run").stdout
    assert "free" in text
    assert "at most 30 min" in text


def test_a_dry_run_creates_nothing(cloudrun: Cloudrun, home: Path) -> None:
    plan(cloudrun)
    assert not home.exists()
