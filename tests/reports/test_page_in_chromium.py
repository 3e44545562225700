"""The page in a real browser: what it asks for, how it sorts, filters, speaks and prints."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloudrun.errors import BadData
from cloudrun.reports import page, serve
from cloudrun.reports.schema import Report
from cloudrun.reports.store import Entry, open_store
from tests.doubles import browser as browsers
from tests.doubles.browser import Browser, Page
from tests.doubles.reports import T4, measurement, report
from tests.reports.test_page import EVIL, hostile

# One browser does for all of them.
pytestmark = pytest.mark.xdist_group("browser")

VISIBLE = "[...document.querySelectorAll('#board tbody tr')]"
DEVICES = f"{VISIBLE}.map(row => row.cells[0].textContent)"
FIGURES = ("price", "spread", "history", "ledger", "curve", "roof")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if browsers.program() is None:
        pytest.skip("needs chromium")
    with browsers.browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def tab(browser: Browser) -> Page:
    tab = browser.page()
    tab.look_like(1280, 900)
    return tab


def gpu(name: str, speed: float, number: int = 0, price: float = 0.5, **fields: Any) -> Report:
    """A report of a machine with a GPU: large and small products there and on its CPU."""
    rows = [
        measurement(
            value=value, p5=value * 0.98, p95=value * 1.02, flops=2.0 * size**3,
            bytes=12.0 * size**2, params={"dtype": "fp32", "device": device, "m": size},
        )
        for device, size, value in (
            ("cuda", 8192, speed), ("cuda", 64, 0.01), ("cpu", 64, 0.02), ("cpu", 2048, 0.2),
        )
    ]  # fmt: skip
    rows.append(
        measurement(
            name="memory_triad", unit="GB/s", value=3000 / speed, flops=2e8, bytes=12e8,
            params={"dtype": "fp32", "device": "cuda"},
        )
    )  # fmt: skip
    return report(
        id=f"{name.lower().replace(' ', '')}{number}",
        created=f"2026-11-{number + 1:02}T08:00:00.000Z",
        environment={**T4, "gpus": [{"name": name}]},
        machine={"provider": "aws" if price else "colab", "price_usd_per_hour": price},
        measurements=rows,
        **fields,
    )


def some() -> list[Report | BadData]:
    return [
        gpu("Tesla T4", 5, price=0.0),
        gpu("NVIDIA L4", 20),
        gpu("NVIDIA H100", 50, price=7.0, outcome="failed"),
        BadData("It is damaged."),
        hostile(),
    ]


def written(folder: Path, reports: list[Report | BadData]) -> str:
    """The address of a page of these reports."""
    rows = [(Entry(f"{number}.json", 1), each) for number, each in enumerate(reports)]
    file = folder / "page.html"
    file.write_text("".join(page.render(page.gather(rows), "2026-11-24T08:12:51.204Z")), "utf-8")
    return file.as_uri()


def tab_to(tab: Page, what: str) -> None:
    """Press Tab until the focus is on what an expression with `at` says."""
    for _ in range(40):
        tab.press("Tab")
        if tab.see(f"(at => {what})(document.activeElement)"):
            return
    raise AssertionError(f"Tab never comes to: {what}")


def test_it_asks_for_nothing_and_no_script_of_it_fails(tab: Page, tmp_path: Path) -> None:
    address = written(tmp_path, some())
    tab.open(address)
    for switched in ("document.getElementById('language').click()", "open(REPORTS.at(-1))"):
        tab.see(switched)
    assert tab.requests == [address]
    assert tab.faults == []


def test_a_hostile_report_is_text_and_the_others_are_drawn(tab: Page, tmp_path: Path) -> None:
    tab.open(written(tmp_path, some()))
    tab.see("open(REPORTS.find(report => report.id === 'evil'))")
    assert "</script><script>document.title='owned'</script>" in tab.see(
        "document.getElementById('one').textContent"
    )
    assert tab.see("document.title") == "Reports of cloudrun"
    assert tab.see("document.querySelectorAll('img, [onerror]').length") == 0
    assert EVIL[:9] in tab.see(DEVICES)[0]
    tab.see("choose('measure', 'matmul\\nfp32\\nTFLOP/s')")
    assert "NaN" not in tab.see("document.querySelector('main').innerHTML")


def test_no_number_moves_all_others_into_one_point(tab: Page, tmp_path: Path) -> None:
    tab.open(written(tmp_path, [*some(), gpu("NVIDIA A2", 1e-14)]))
    tab.see("choose('measure', 'matmul\\nfp32\\nTFLOP/s')")
    marks = tab.see(
        "[...document.querySelectorAll('#price-chart > svg path')].map("
        "mark => [mark.textContent.slice(0, 9), mark.transform.baseVal[0].matrix.f])"
    )
    high = dict(marks)
    assert high["Tesla T4,"] - high["NVIDIA L4"] > 15
    assert high["NVIDIA L4"] - high["NVIDIA H1"] > 10


def test_it_sorts_by_keyboard(tab: Page, tmp_path: Path) -> None:
    tab.open(written(tmp_path, some()[:3]))
    sorts = "[...document.querySelectorAll('[aria-sort]')].map(at => [at.textContent, at.ariaSort])"
    assert tab.see(DEVICES) == ["NVIDIA H100", "NVIDIA L4", "Tesla T4"]
    assert tab.see(sorts) == [["Matrix product, TFLOP/s", "descending"]]
    tab_to(tab, "at.dataset.word === 'price'")
    tab.press("Enter")
    assert tab.see(DEVICES) == ["Tesla T4", "NVIDIA L4", "NVIDIA H100"]
    assert tab.see(sorts) == [["US$ an hour", "ascending"]]
    # The focus stays where it was, so that the next press turns it round.
    tab.press("Enter")
    assert tab.see(DEVICES) == ["NVIDIA H100", "NVIDIA L4", "Tesla T4"]


def test_it_filters_by_keyboard_and_the_charts_follow(tab: Page, tmp_path: Path) -> None:
    tab.open(written(tmp_path, some()[:3]))
    tab_to(tab, "at.id === 'search'")
    tab.press(*"l4", "Enter")
    assert tab.see(DEVICES) == ["NVIDIA L4"]
    assert tab.see("document.getElementById('found').value") == "1 of 3 reports"
    assert tab.see("document.querySelectorAll('#price-chart tbody tr').length") == 1
    tab.press(*" nothing")
    assert tab.see(DEVICES) == []
    assert tab.see("document.getElementById('charts').hidden")
    assert tab.faults == []
    # What is chosen stands in the address, so that a reload keeps it.
    tab.open(tab.see("location.href").replace("+nothing", ""))
    assert tab.see(DEVICES) == ["NVIDIA L4"]
    tab.see("choose('q', ''), 1")
    tab_to(tab, "at.id === 'outcome'")
    tab.press("f")
    tab.wait(f"{DEVICES}.join() === 'NVIDIA H100'")


def test_a_device_opens_its_report_by_keyboard(tab: Page, tmp_path: Path) -> None:
    remedy = {"name": "compile", "status": "fail", "detail": "No compiler.", "remedy": "Get g++."}
    tab.open(written(tmp_path, [gpu("Tesla T4", 5, 2), gpu("NVIDIA L4", 2, checks=[remedy])]))
    assert "No compiler." not in tab.see("document.getElementById('one').textContent")
    tab_to(tab, "at.textContent === 'NVIDIA L4'")
    tab.press("Enter")
    assert tab.see("document.activeElement.id") == "one-title"
    text = tab.see("document.getElementById('one').textContent")
    assert "compile: No compiler. Try: Get g++." in text


def test_a_report_names_who_vouches_for_it(tab: Page, tmp_path: Path) -> None:
    rows = [(Entry(f"{number}.json", 1), each) for number, each in enumerate(some()[:2])]
    who = {"0.json": ("alice@example.org", "<b>bob</b>")}
    file = tmp_path / "page.html"
    gathered = page.gather(rows, lambda path: who.get(path, ()))
    file.write_text("".join(page.render(gathered, "2026-11-24T08:12:51.204Z")), "utf-8")
    tab.open(file.as_uri())
    told = tab.see("REPORTS.map(report => { drawOne(report); return byId('one').textContent; })")
    assert sum("Signed byalice@example.org · <b>bob</b>" in each for each in told) == 1
    assert sum("Signed by" in each for each in told) == 1


def test_every_chart_has_its_table_and_a_name(tab: Page, tmp_path: Path) -> None:
    tab.open(written(tmp_path, some()[:3]))
    for name in FIGURES:
        figure = f"document.getElementById('{name}-chart')"
        assert tab.see(f"{figure}.querySelector('svg').getAttribute('role')") == "img", name
        assert tab.see(f"{figure}.querySelector('svg').getAttribute('aria-label').length > 5")
        assert tab.see(f"{figure}.querySelectorAll('details tbody tr').length") > 0, name
    # Every control has a name that a screen reader can say.
    assert (
        tab.see(
            "[...document.querySelectorAll('input, select')].filter(at => !at.labels.length).length"
        )
        == 0
    )
    curve = "[...document.querySelectorAll('#curve-chart tr')].map(row => row.textContent)"
    assert tab.see(curve) == [
        "Rows and columnscudacpu",
        "6452.4 µs26.2 µs",
        "204885.9 ms",
        "8192220 ms",
    ]


def test_history_marks_what_became_slower_and_nothing_else(tab: Page, tmp_path: Path) -> None:
    speeds = [20, 20.4, 19.8, 20.1, 19.5, 14, 20]
    tab.open(written(tmp_path, [gpu("NVIDIA L4", speed, n) for n, speed in enumerate(speeds)]))
    rows = tab.see(
        "[...document.querySelectorAll('#history-chart tbody tr')].map("
        "row => [row.cells[0].textContent.slice(8, 10), row.cells[4].textContent])"
    )
    assert [day for day, _ in rows] == ["07", "06", "05", "04", "03", "02", "01"]
    assert [day for day, said in rows if said] == ["06"]
    assert tab.see("document.querySelectorAll('#history-chart .slow').length") == 1


def test_it_speaks_the_readers_language(tab: Page, tmp_path: Path) -> None:
    tab.call("Emulation.setUserAgentOverride", userAgent="x", acceptLanguage="zh-CN")
    tab.open(written(tmp_path, some()[:3]))
    assert tab.see("document.querySelector('h1').textContent") == "cloudrun 报告"
    assert tab.see("document.documentElement.lang") == "zh-CN"
    assert tab.see(f"{VISIBLE}[0].cells[7].textContent") == "未通过"
    tab_to(tab, "at.id === 'language'")
    tab.press("Enter")
    assert tab.see("document.querySelector('h1').textContent") == "Reports of cloudrun"
    assert tab.see("[...document.querySelectorAll('[data-word]')].every(at => at.textContent)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_themes_and_on_a_phone(
    tab: Page, tmp_path: Path, scheme: str
) -> None:
    tab.look_like(390, 800, scheme)
    tab.open(written(tmp_path, some()))
    assert tab.see("document.documentElement.scrollWidth") == 390
    light = "(c => 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2])"
    channels = "({}).match(/[0-9.]+/g).map(part => (+part / 255) ** 2.2)"
    sheet = channels.format("getComputedStyle(document.querySelector('section')).backgroundColor")
    assert (tab.see(f"{light}({sheet})") > 0.5) == (scheme == "light")
    for selector in ("td", ".hint", ".open", "td[data-word=failed]", "td[data-word=passed]"):
        text = channels.format(f"getComputedStyle(document.querySelector('{selector}')).color")
        both = tab.see(f"[{light}({sheet}), {light}({text})]")
        # What the guidelines for accessible content ask of text (WCAG 2, AA).
        assert (max(both) + 0.05) / (min(both) + 0.05) >= 4.5, selector


def test_it_prints_with_all_its_tables_and_on_paper_wide(tab: Page, tmp_path: Path) -> None:
    tab.open(written(tmp_path, some()[:3]))
    tab.look_like(720, 1000, "dark", "print")
    tab.see("dispatchEvent(new Event('beforeprint')), 1")
    assert tab.see("document.documentElement.scrollWidth") == 720
    assert tab.see("[...document.querySelectorAll('details')].every(at => at.open)")
    # Drawn for the paper: a wide screen's charts would be shrunk, and their texts with them.
    boxes = "[...document.querySelectorAll('figure > svg')].map(at => at.viewBox.baseVal.width)"
    assert tab.see(boxes) == [640] * len(FIGURES)
    assert tab.see("getComputedStyle(document.getElementById('filters')).display") == "none"
    assert tab.see("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"


def test_without_javascript_the_board_is_there(tab: Page, tmp_path: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(written(tmp_path, some()))
    text = tab.see("document.body.innerText")
    assert "NVIDIA L4" in text
    assert "It is damaged." in text
    assert "need JavaScript" in text
    assert "Roofline" not in text


def test_served_it_shows_what_comes_in(tab: Page, home: Path) -> None:
    store = open_store(str(home / "reports"))
    with serve.server(store) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        tab.open(f"http://127.0.0.1:{listening.server_port}/")
        assert "no report yet" in tab.see("document.body.innerText")
        store.add(gpu("Tesla T4", 5))
        tab.wait(f"{DEVICES}.join() === 'Tesla T4'")
        assert tab.faults == []
        listening.shutdown()
    tab.wait("!document.getElementById('gone').hidden")
    assert tab.see(DEVICES) == ["Tesla T4"]


def test_more_rows_than_are_laid_out_at_first_are_all_there(tab: Page, tmp_path: Path) -> None:
    many = [report(id=f"r{number:03}", notes=[str(number)]) for number in range(505)]
    tab.open(written(tmp_path, [*many, gpu("Tesla T4", 0.1)]))
    tab.see("choose('best', '0'), 1")
    assert len(tab.see(DEVICES)) == 100
    tab.see("document.getElementById('more').click()")
    assert len(tab.see(DEVICES)) == 506
    # The slowest, which is the last that the file has.
    assert tab.see(DEVICES)[-1] == "Tesla T4"
    tab.see(f"{VISIBLE}.at(-1).querySelector('button').click()")
    assert "Tesla T4" in tab.see("document.getElementById('one').textContent")
