from __future__ import annotations

import csv
import json
import math
import random
import re
from collections.abc import Iterable
from typing import Any

import pytest

from cloudrun.errors import BadData, WrongUsage
from cloudrun.model.columns import width_of
from cloudrun.reports import compare_text
from cloudrun.reports.compare import Comparison, Row, compare, regressions
from cloudrun.reports.schema import Report
from tests.doubles.reports import CPU, T4, measurement, report

EVIL = "\x1b]0;owned\x07\u202e|<script>alert(1)</script>![x](http://evil)`@team"


def gpu(name: str) -> dict[str, Any]:
    return {**T4, "gpus": [{**T4["gpus"][0], "name": name}]}


def on_gpu(value: float, noise: float = 0.001, **fields: Any) -> dict[str, Any]:
    """A measurement on a GPU, its samples within `noise` of its value, in no order."""
    params = {"dtype": "fp16", "m": 8192, "n": 8192, "k": 8192, "device": "cuda"}
    rng = random.Random(repr(value))
    samples = [value * (1 + noise * rng.uniform(-1, 1)) for _ in range(40)]
    return measurement(value=value, **{"params": params, "samples": samples, **fields})


def made(id_: str, value: float, environment: Any = T4, **fields: Any) -> Report:
    return report(
        **{"id": id_, "environment": environment, "measurements": [on_gpu(value)], **fields}
    )


def compared(reports: Iterable[Report], by: str = "gpu", baseline: Report | str = "") -> Comparison:
    reports = list(reports)
    known = {each.id: each for each in [*reports, *([baseline] if baseline else [])]
             if isinstance(each, Report)}  # fmt: skip
    return compare(reports, by, known.__getitem__, baseline)


def only(found: Comparison, group: str) -> Row:
    (row,) = [row for row in found.rows if row.group == group]
    return row


T4S = [made(f"t{number}", value) for number, value in enumerate((24.0, 24.1, 24.3))]
L4S = [
    made(f"l{number}", value, gpu("L4")) for number, value in enumerate((58.0, 58.2, 58.9, 58.1))
]


def test_groups_are_compared_with_the_largest_one_the_fastest_first() -> None:
    found = compared(T4S + L4S)
    assert [row.group for row in found.rows] == ["L4", "Tesla T4"]
    fast, slow = found.rows
    assert (fast.verdict, fast.runs, fast.times) == ("baseline", 4, None)
    assert (slow.verdict, slow.runs, slow.value) == ("slower", 3, 24.1)
    assert slow.times == pytest.approx(24.1 / 58.15, rel=1e-4)
    assert slow.times_low is not None
    assert slow.times_high is not None
    assert slow.times_low < slow.times < slow.times_high < 0.5
    assert slow.reports == ("t0", "t1", "t2")


def test_runs_that_differ_more_than_their_groups_cannot_be_told_apart() -> None:
    wide = [made(f"w{number}", value, gpu("W")) for number, value in enumerate((20.0, 30.0, 25.0))]
    row = only(compared(T4S + wide, baseline="Tesla T4"), "W")
    assert (row.verdict, row.why) == ("cannot tell", "chance makes such differences")


@pytest.mark.parametrize(
    ("value", "verdict"), [(25.0, "cannot tell"), (25.5, "faster"), (22.5, "slower")]
)
def test_between_single_runs_under_five_percent_is_nothing(value: float, verdict: str) -> None:
    found = compared([made("a", 24.0), made("b", value)], "report", "a")
    assert only(found, "b").verdict == verdict


def test_equal_machines_with_one_run_each_are_seldom_called_different() -> None:
    rng = random.Random(4)

    def run(id_: str) -> Report:
        return made(id_, 24 * math.exp(rng.gauss(0, 0.015)))

    told = [only(compared([run("a"), run("b")], "report", "a"), "b").verdict for _ in range(200)]
    assert sum(verdict != "cannot tell" for verdict in told) < 12


def test_one_run_is_judged_by_how_much_the_others_differ() -> None:
    assert only(
        compared([*T4S, made("new", 24.4)], "gpu", made("new", 24.4)), "Tesla T4"
    ).verdict == ("cannot tell")
    assert only(compared(T4S, "gpu", made("new", 30.0)), "Tesla T4").verdict == "slower"


def test_without_samples_nothing_is_said_of_certainty() -> None:
    bare = on_gpu(60.0, samples=[])
    found = compared([made("a", 24.0), made("b", 60.0, measurements=[bare])], "report", "a")
    row = only(found, "b")
    assert (row.verdict, row.why, row.low) == ("cannot tell", "too few samples", None)

    def gone(_: str) -> Report:
        raise BadData("It has gone.")

    assert compare([made("a", 1.0), made("b", 2.0)], "report", gone).rows[0].low is None


def test_only_the_same_version_of_the_measurements_is_compared() -> None:
    other = {"cloudrun": "0.2.0", "workload_sha256": "f" * 64}
    found = compared([*T4S, *L4S, made("newer", 99.0, provenance=other)])
    assert max(row.value for row in found.rows) < 99
    (left,) = found.left_out
    assert left.names == ("newer",)
    assert "another version" in left.why
    newest = [made("newest", 99.0, provenance=other, created="2027-01-01T00:00:00Z")]
    assert {row.value for row in compared([*T4S, *newest]).rows} == {24.1}
    # The baseline's version counts, however many others there are.
    found = compared([*T4S, made("newer", 99.0, provenance=other)], "report",
                     made("base", 98.0, provenance=other))  # fmt: skip
    assert {row.group for row in found.rows} == {"newer", "base (baseline)"}


def test_the_same_work_is_the_same_whatever_buffer_and_device_it_had() -> None:
    def copy(id_: str, environment: Any, **params: Any) -> Report:
        row = on_gpu(200.0, name="memory_copy", unit="GB/s", params={"dtype": "fp32", **params})
        return report(id=id_, environment=environment, measurements=[row])

    reports = [copy("a", T4, buffer_bytes=10**9, device="cuda"),
               copy("b", CPU, buffer_bytes=10**8, device="cpu")]  # fmt: skip
    assert [row.measurement for row in compared(reports).rows] == ["memory copy fp32"] * 2
    # A GPU machine's processor is not its GPU.
    on_cpu = copy("c", T4, buffer_bytes=10**9, device="cpu")
    assert compared([reports[0], on_cpu], "report", "a").rows == []
    machines = [copy("d", CPU, buffer_bytes=10**9, device="cpu"), on_cpu]
    rows = compared(machines, "instance_type").rows
    assert [(row.measurement, row.runs) for row in rows] == [
        ("memory copy fp32", 1),
        ("memory copy fp32 on its cpu", 1),
    ]


def test_by_torch_no_gpu_is_taken_for_another() -> None:
    def run(id_: str, torch: str, name: str, value: float) -> Report:
        return made(id_, value, {**gpu(name), "torch": torch})

    reports = [
        run("a", "2.12", "T4", 24.0),
        run("b", "2.12", "T4", 24.0),
        run("c", "2.13", "T4", 24.2),
        run("d", "2.13", "H100", 700.0),
        run("e", "2.13", "H100", 701.0),
    ]
    found = compared(reports, "torch", "2.12")
    assert {(row.device, row.group, row.value) for row in found.rows} == {
        ("T4", "2.12", 24.0),
        ("T4", "2.13", 24.2),
    }
    assert [left.names for left in found.left_out] == [("matmul fp16 8192 on H100",)]


def test_what_else_differs_is_named() -> None:
    newer = {**gpu("L4"), "torch": "2.14.0", "driver": None}
    row = only(compared([*T4S, made("l", 58.0, newer)]), "L4")
    told = {name: (each.here, each.baseline) for name, each in row.differences.items()}
    assert told == {
        "torch": (("2.14.0",), ("2.13.0",)),
        "driver": (("none",), ("580.126.09",)),
    }


def test_a_report_counts_once() -> None:
    twice = made("t0", 24.0, measurements=[on_gpu(24.0), on_gpu(99.0)])
    found = compared([twice, twice, *L4S])
    assert only(found, "Tesla T4").value == 24.0
    assert only(found, "Tesla T4").runs == 1
    assert [(left.names, "twice" in left.why) for left in found.left_out] == [(("t0",), True)]


def test_reports_without_measurements_are_named() -> None:
    zero = made("zero", 0.0, measurements=[on_gpu(0.0, samples=[])])
    found = compared([*T4S, *L4S, report(id="own", measurements=[]), zero])
    assert [left.names for left in found.left_out] == [("own", "zero")]
    assert compared([report(id="own", measurements=[])]).rows == []
    assert compared([]) == ([], [])


def test_money_is_by_the_frozen_price_and_none_where_nothing_is_paid() -> None:
    def rented(id_: str, value: float, price: float, provider: str = "aws") -> Report:
        machine = {"provider": provider, "price_usd_per_hour": price}
        return made(id_, value, gpu(id_[0]), machine=machine)

    paid = [rented("a1", 20.0, 0.5), rented("a2", 21.0, 1.0)]
    free = [rented("b1", 9.0, 0.0), rented("c1", 9.0, 9.0, "rehearsal"), rented("d1", 9.0, 5e-324)]
    found = compared([*paid, *free])
    assert (only(found, "a").per_usd_hour, only(found, "a").usd_per_hour) == (30.5, 0.75)
    for name in "bcd":
        assert (only(found, name).per_usd_hour, only(found, name).usd_per_hour) == (None, None)


def test_of_seconds_fewer_are_better_and_of_the_unknown_nothing_is_said() -> None:
    def timed(id_: str, value: float, unit: str) -> Report:
        return made(id_, value, measurements=[on_gpu(value, unit=unit)])

    found = compared([timed("a", 2.0, "ms"), timed("b", 1.0, "ms")], "report", "a")
    assert [row.group for row in found.rows] == ["b", "a"]
    assert (found.rows[0].verdict, found.rows[0].times) == ("faster", 2.0)
    found = compared([timed("a", 2.0, "smiles"), timed("b", 1.0, "smiles")], "report", "a")
    assert only(found, "b").verdict == "cannot tell"


def test_what_was_unsteady_throttled_or_failed_is_flagged() -> None:
    state = {"throttled_by": ["heat", "power limit"]}
    bad = made("bad", 20.0, measurements=[on_gpu(20.0, gpu=state, stable=False)], outcome="failed")
    row = only(compared([*T4S, bad, *L4S]), "Tesla T4")
    assert (row.unstable, row.throttled, row.not_passed) == (1, 1, 1)
    assert row.throttled_by == ("heat", "power limit")
    text = "\n".join(compare_text.terminal(compared([*T4S, bad, *L4S]), lambda text, _: text, 80))
    assert "1 of 4 not steady; 1 of 4 held back by heat, power limit; 1 of 4" in text


def test_the_baseline_is_a_label_a_part_of_it_or_a_report() -> None:
    assert compared(T4S + L4S, baseline="Tesla T4").rows[0].baseline == "Tesla T4"
    assert compared(T4S + L4S, baseline="t4").rows[0].baseline == "Tesla T4"
    own = compared([*T4S, *L4S, made("s", 90.0, gpu("L40S"))], baseline="L4")
    assert own.rows[0].baseline == "L4"
    own = compared(T4S + L4S, baseline=L4S[0])
    assert own.rows[0].baseline == "l0 (baseline)"
    assert only(own, "L4").runs == 3
    assert not own.left_out
    with pytest.raises(WrongUsage, match="any of 2 groups.*L4, Tesla T4"):
        compared(T4S + L4S, baseline="4")
    with pytest.raises(WrongUsage, match="no report and no gpu 'H100'"):
        compared(T4S + L4S, baseline="H100")


def test_regressions_are_sure_and_large() -> None:
    slower = [made(f"n{number}", value) for number, value in enumerate((22.0, 22.1, 22.2))]
    rows = compared([*T4S, *(each for each in slower)], "report", "t0").rows
    assert {row.group for row in regressions(rows, 5)} == {"n0", "n1", "n2"}
    assert regressions(rows, 10) == []
    assert regressions(compared(T4S, "report", "t0").rows, 0.0) == []


def hostile() -> Comparison:
    evil = {**gpu(EVIL), "torch": EVIL, "driver": "=cmd()"}
    state = {"throttled_by": [EVIL] * 16}
    rows = [on_gpu(9.9, name=EVIL, unit=f"{EVIL}/s", gpu=state, params={EVIL: EVIL})]
    return compared([made("a", 1.0, evil, measurements=rows), made("b", 1.0, measurements=rows)])


@pytest.mark.parametrize("width", [40, 80])
def test_a_hostile_report_is_harmless_on_a_terminal(width: int) -> None:
    lines = list(compare_text.terminal(hostile(), lambda text, _: text, width))
    assert all(line.isprintable() for line in lines)
    assert width == 40 or max(map(width_of, lines)) <= width
    assert any("owned" in line for line in lines)


def test_a_hostile_report_is_harmless_in_markdown() -> None:
    lines = list(compare_text.markdown(hostile()))
    rows = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {12}
    text = "".join(lines)
    assert "owned" in text
    outside = re.sub(r"`[^`]*`", "", text)
    for bad in ("<script", "![", "](", "@", "`"):
        assert bad not in outside
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_spreadsheet_computes_nothing_and_reads_back() -> None:
    lines = list(compare_text.spreadsheet(hostile()))
    (first, second) = list(csv.DictReader(lines))
    assert float(first["value"]) == 9.9
    assert json.loads(first["params"])
    assert not any(cell.startswith(tuple("=+-@")) for cell in [*first.values(), *second.values()])


def test_the_terminal_says_what_can_be_believed() -> None:
    text = " ".join(
        " ".join(compare_text.terminal(compared(T4S + L4S), lambda text, _: text, 80)).split()
    )
    assert "Tesla T4 3 24.1 ±" in text
    assert "slower, 0.41x ±" in text
    assert "x: times as fast as L4." in text
    assert "Groups of one run" not in text
    single = compared([made("a", 24.0), made("b", 24.1)], "report", "a")
    text = " ".join(" ".join(compare_text.terminal(single, lambda text, _: text, 80)).split())
    assert "Groups of one run" in text
    assert "under 5%, and one run each (1)" in text
    alone = " ".join(compare_text.terminal(compared(T4S), lambda text, _: text, 80))
    assert "There is no other gpu to compare it with." in alone
