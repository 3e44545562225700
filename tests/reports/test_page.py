"""The page as a file: what it holds, what is left out of it, how large it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import Any

import pytest

from cloudrun.errors import BadData
from cloudrun.reports import page
from cloudrun.reports.schema import Report
from cloudrun.reports.store import Entry
from tests.doubles.reports import CPU, T4, measurement, report

# Ends a script, a tag, an attribute and a comment; steers a terminal; reverses a line.
EVIL = (
    "</script><script>document.title='owned'</script><!--\"'><img src=x onerror=alert(1)>"
    "\x1b[2J\u202e"
)


def page_of(*reports: Report | BadData) -> str:
    rows = [(Entry(f"{number}.json", 1), each) for number, each in enumerate(reports)]
    return "".join(page.render(page.gather(rows), "2026-11-24T08:12:51.204Z"))


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.rows.append([])

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip("\n")


def t4(**fields: Any) -> Report:
    rows = [
        measurement(value=45.0, params={"dtype": "fp16", "device": "cuda", "m": 8192}, peak=65.0),
        measurement(
            name="training", unit="tokens/s", value=50_000.0, params={"device": "cuda"},
            flops=None, bytes=None,
        ),
        measurement(value=900.0, params={"dtype": "fp32", "device": "cpu", "m": 2048}),
    ]  # fmt: skip
    machine = {"provider": "aws", "instance_type": "g4dn.xlarge", "price_usd_per_hour": 0.5}
    return report(environment=T4, measurements=rows, machine=machine, **fields)


def test_the_board_is_in_the_page_itself_the_fastest_device_first() -> None:
    rows = Tags(page_of(report(id="slow"), t4(id="fast"))).rows
    fast, slow = rows[1:3]
    assert fast[:9] == [
        "Tesla T4", "45 fp16", "", "50,000", "$0.50", "360", "aws g4dn.xlarge", "passed", "$0.00",
    ]  # fmt: skip
    assert slow[0] == "Test CPU"
    assert slow[4] == "free"


def test_data_and_board_are_in_the_same_order() -> None:
    data = data_of(page_of(report(id="slow"), t4(id="fast"), report(id="slowtoo")))
    assert [row[0] for row in data["reports"]] == ["fast", "slow", "slowtoo"]


def test_what_reports_share_is_written_once() -> None:
    data = data_of(page_of(*(t4(id=f"n{number}") for number in range(5))))
    names = ("environments", "machines", "runs", "kinds")
    assert [len(data[name]) for name in names] == [1, 1, 1, 3]
    fp16 = data["kinds"][data["reports"][0][10][0][0]]
    assert fp16[:5] == ["matmul", "cuda", "fp16", 8192, "TFLOP/s"]
    assert fp16[7] == 65


def test_damaged_ones_and_copies_are_named_and_the_others_shown() -> None:
    damaged = BadData("It has the schema 'cloudrun.report/v9'.", "", "Update <b>yours</b>.")
    rows = Tags(page_of(report(id="one"), damaged, report(id="one"), report(id="two"))).rows
    assert [row[0] for row in rows[1:3]] == ["Test CPU"] * 2
    assert rows[5] == ["1.json", "It has the schema 'cloudrun.report/v9'. Update <b>yours</b>."]
    assert rows[6] == ["2.json", "The same report is there already, as 0.json."]


def test_only_so_many_files_that_are_left_out_are_named() -> None:
    text = page_of(*(BadData("Damaged.") for _ in range(1000)))
    assert "and 800 more" in text
    assert text.count("Damaged.") == 200


def hostile() -> Report:
    """A valid report, with all that a text or a number may be."""
    name = EVIL[:200]
    # Faster than anything, so that it is the first of the board and stretches each scale.
    fastest = measurement(value=1e18, params={"dtype": "fp32", "device": name, "m": 2048})
    row = measurement(
        name=name, unit=name, note=EVIL, params={"device": EVIL, "dtype": EVIL, "m": -(10**400)},
        value=1e18, p5=0.0, p95=1e18, flops=1e18, bytes=1e-300,
    )  # fmt: skip
    environment = {**T4, "device": name, "os": name, "torch": name, "gpus": [{"name": name}]}
    return report(
        id="evil",
        environment=environment,
        machine={"provider": name, "instance_type": name, "zone": name, "price_usd_per_hour": 1e18},
        checks=[{"name": name, "status": "fail", "detail": EVIL, "remedy": EVIL}],
        measurements=[fastest] + [row] * 9_999,
        notes=[EVIL] * 100,
        outcome="failed",
    )


def test_no_text_of_a_report_becomes_part_of_the_page() -> None:
    harmless, evil = Tags(page_of(t4())), Tags(page_of(hostile()))

    def kinds(tags: Tags) -> set[str]:
        return {tag for tag, _ in tags.tags}

    assert kinds(evil) <= kinds(harmless)
    assert [tag for tag, _ in evil.tags].count("script") == 3
    assert not any(name.startswith("on") for _, attrs in evil.tags for name in attrs)
    text = page_of(hostile())
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_an_enormous_report_takes_no_more_room_than_some_others() -> None:
    assert len(page_of(hostile())) - len(page_of()) < 50_000


def test_the_policy_names_the_very_script_and_style_and_lets_nothing_else_in() -> None:
    import base64
    import hashlib

    text = page_of(report())
    policy = next(
        attrs["content"]
        for tag, attrs in Tags(text).tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    parts = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    for name, found in (
        ("script-src", re.findall(r"<script>(.*?)</script>", text, re.DOTALL)),
        ("style-src", re.findall(r"<style>(.*?)</style>", text, re.DOTALL)),
    ):
        (body,) = found
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert parts[name] == f"'sha256-{digest}'"
    assert parts["default-src"] == parts["connect-src"] == "'none'"
    for _, attrs in Tags(text).tags:
        for name in {"src", "href", "srcset", "action", "data"} & set(attrs):
            assert str(attrs[name]).startswith(("#", "data:"))


def test_every_word_has_two_languages_and_a_user() -> None:
    words = json.loads(page._text("page_words.json"))
    used = page._text("page.html") + page._script() + json.dumps(data_of(page_of()))
    for key, both in words.items():
        assert len(both) == 2
        assert all(both), key
        known = {"compute", "matmul", "matmul_burst", "convolution", "memory_triad"}
        assert re.search(rf"\b{key}\b", used) or key in known, f"{key} is used nowhere"
    named = re.findall(r'data-word="(\w+)"', page._text("page.html"))
    named += re.findall(r'(?:word|sentence)\("(\w+)"', page._script())
    for keys in re.findall(r"words\(([^)]*)\)", page._script()):
        named += re.findall(r'"(\w+)"', keys)
    assert set(named) <= set(words)
    # A placeholder that one language lacks would be shown as it is, or lost.
    for english, chinese in words.values():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese))


def busy(number: int) -> Report:
    """A report as a GPU's quick profile leaves it: 22 measurements, 17 checks, 8 phases."""
    rows = [
        measurement(
            value=1 + number / 7, p5=0.9 + number / 7, p95=1.1 + number / 7, n=500,
            params={"dtype": "fp32", "device": ("cuda", "cpu")[kind % 2], "m": 64 << kind % 11},
        )
        for kind in range(22)
    ]  # fmt: skip
    phases = ("plan", "provision", "connect", "prepare", "push", "run", "collect", "end")
    timing = {"started": "2026-11-24T08:12:52.000Z", "predicted_seconds": 30.0}
    return report(
        id=f"r{number:011}",
        environment=T4,
        measurements=rows,
        checks=[{"name": f"check {check}", "status": "pass"} for check in range(17)],
        timeline=[
            {**timing, "phase": phase, "seconds": number / 3, "usd": number / 777}
            for phase in phases
        ],
    )


def test_a_thousand_reports_are_below_two_megabytes() -> None:
    assert len(page_of(*map(busy, range(1000))).encode()) < 2e6


@pytest.mark.thorough
def test_many_reports_need_little_memory() -> None:
    import tracemalloc

    def reports() -> Iterable[tuple[Entry, Report | BadData]]:
        for number in range(3000):
            yield Entry(f"{number}.json", 1), busy(number)

    tracemalloc.start()
    gathered = page.gather(reports())
    for _ in page.render(gathered, "2026-11-24T08:12:51.204Z"):
        pass
    assert len(gathered.rows) == 3000
    assert tracemalloc.get_traced_memory()[1] < 15e6


def test_a_report_without_a_device_is_shown() -> None:
    rows = Tags(page_of(report(environment=None, measurements=[], checks=[]))).rows
    assert rows[1][0] == "no device"
    assert CPU["cpu"] not in str(rows)
