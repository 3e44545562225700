from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cloudrun.cli.gpus import command
from cloudrun.errors import Unavailable, WrongUsage


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def ran(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def as_json(*arguments: str) -> list[dict[str, Any]]:
    found = json.loads(ran(*arguments, "--json"))
    assert isinstance(found, list)
    return found


def row_of(name: str, text: str) -> str:
    (row,) = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return row


def test_the_overview_shows_what_can_be_rented_cheapest_first() -> None:
    text = ran()
    assert row_of("T4", text).split() == [
        "T4",
        "16",
        "320",
        "65",
        "0.53",
        "1",
        "aws",
        "g4dn.xlarge",
    ]
    assert "8  aws p5en.48xlarge" in row_of("H200 SXM", text)
    assert "121?" in row_of("L4", text)
    assert "RTX 4090" not in text
    prices = [gpu["cheapest"]["usd_per_hour"] for gpu in as_json()]
    assert prices == sorted(prices)


def test_the_overview_is_honest_about_prices_and_wheels() -> None:
    text = ran()
    assert "a hint" in text
    assert all(day in text for day in ("2026-07-20", "2026-06-18", "2026-08-03"))
    assert "no torch" in row_of("T4G", text)
    assert "no torch" not in row_of("T4", text)
    assert "no wheel for: T4G." in text


def test_the_overview_fits_80_columns() -> None:
    assert max(map(len, ran().splitlines())) <= 80


@pytest.mark.parametrize("name", ["T4", "A10", "H100", "MI300X", "P4"])
def test_the_tables_of_one_gpu_fit_80_columns(name: str) -> None:
    lines = ran(name).splitlines()
    assert max(len(line) for line in lines if "pip install" not in line) <= 80


def test_filters() -> None:
    found = as_json("--min-memory", "80", "--budget", "4")
    assert {gpu["name"] for gpu in found} == {"A100 80GB PCIe", "RTX PRO 6000 Server"}
    assert [gpu["name"] for gpu in as_json("A100", "--min-memory", "80")] == [
        "A100 80GB PCIe",
        "A100 80GB SXM4",
    ]


def test_the_budget_counts_whole_gpus_only() -> None:
    assert "L4" not in {gpu["name"] for gpu in as_json("--budget", "0.6")}


def test_one_gpu_shows_its_facts_and_where_it_is_rented() -> None:
    text = ran("t4")
    assert "fp16 65 TFLOP/s, dense" in text
    assert "compute capability 7.5" in text
    assert "python -m pip install torch" in text
    assert "emulated" in text
    assert "Standard_NC4as_T4_v3" in text
    assert "2026-06-18" in text
    assert "undated" in text  # the note of Google's N1 machines


def test_every_variant_is_shown_and_the_name_needs_no_quotes() -> None:
    text = ran("rtx", "pro", "6000")
    assert "RTX PRO 6000 Server\n" in text
    assert "RTX PRO 6000 Workstation\n" in text
    assert "1/8" in text
    assert "by no cloud" in text


def test_the_install_line_is_that_of_the_gpu_and_is_not_broken() -> None:
    line = (
        'python -m pip install "torch==2.14.*" --index-url https://download.pytorch.org/whl/cu126'
    )
    assert line in ran("P100")
    assert "pip install" not in ran("K80")
    assert "pip install" not in ran("MI300X")


def test_json_has_the_facts_the_machines_and_numbers_as_numbers() -> None:
    (a10,) = as_json("A10")
    assert a10["bf16_tflops"] == 125
    assert a10["device_names"] == ["NVIDIA A10"]
    assert a10["cheapest"]["gpu_count"] == 1
    assert a10["instances"][0]["gpu_count"] == pytest.approx(1 / 6)
    assert a10["instances"][0]["price_as_of"] == "2026-06-18"
    assert as_json("4090")[0]["cheapest"] is None


def test_nothing_fits_names_the_nearest() -> None:
    error = run("--min-memory", "100", "--budget", "1").exception
    assert isinstance(error, Unavailable)
    assert "at least 100 GB" in error.why
    assert "at most 1 USD" in error.why
    assert "MI300X" in error.try_this
    error = run("--min-memory", "999").exception
    assert isinstance(error, Unavailable)
    assert "B300: 288 GB" in error.try_this
    error = run("RTX 4090", "--budget", "5").exception
    assert isinstance(error, Unavailable)
    assert "not rented" in error.try_this


def test_an_unknown_name_is_wrong_usage() -> None:
    error = run("T44").exception
    assert isinstance(error, WrongUsage)
    assert "Did you mean T4?" in error.try_this


@pytest.mark.parametrize("arguments", [("--budget", "-1"), ("--min-memory", "lots")])
def test_bad_numbers_are_wrong_usage(arguments: tuple[str, str]) -> None:
    assert run(*arguments).exit_code == 2
