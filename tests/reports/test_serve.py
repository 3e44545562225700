"""The served page: who is answered, and with what."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudrun.reports import serve
from cloudrun.reports.store import Store, open_store
from tests.doubles.reports import report

Ask = Callable[..., http.client.HTTPResponse]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "reports"))
    store.add(report(id="first"))
    return store


@pytest.fixture
def ask(store: Store) -> Iterator[Ask]:
    with serve.server(store) as listening:
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()

        def request(path: str, host: str = "127.0.0.1", way: str = "GET") -> object:
            connection = http.client.HTTPConnection("127.0.0.1", listening.server_port)
            named = f"{host}:{listening.server_port}" if host else ""
            connection.request(way, path, headers={"Host": named})
            return connection.getresponse()

        yield request  # type: ignore[misc]
        listening.shutdown()


def test_the_page_may_ask_its_own_server_only(ask: Ask) -> None:
    answer = ask("/")
    text = answer.read().decode()
    assert answer.status == 200
    assert "first" in text
    assert "connect-src 'self';" in text
    assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil", 421),
        ("", 421),
    ],
)
def test_only_who_asks_for_the_loopback_is_answered(ask: Ask, host: str, status: int) -> None:
    for path in ("/", "/version"):
        answer = ask(path, host)
        assert answer.status == status
        assert (b"first" in answer.read()) == (status == 200 and path == "/")


def test_it_is_read_only_and_has_one_page(ask: Ask) -> None:
    assert ask("/../../etc/passwd").status == 404
    assert ask("/", way="POST").status == 501


def test_the_version_changes_with_the_store_alone(ask: Ask, store: Store) -> None:
    before = ask("/version").read()
    assert ask("/version").read() == before
    assert f'data-live="{before.decode()}"' in ask("/").read().decode()
    store.add(report(id="second"))
    # What is large or far is not listed for each question.
    deadline = time.monotonic() + 30
    while ask("/version").read() == before:
        assert time.monotonic() < deadline
    assert "second" in ask("/").read().decode()


def test_the_page_is_made_once_for_all_who_ask(
    ask: Ask, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    gather = serve.page.gather
    monkeypatch.setattr(serve.page, "gather", lambda *all: made.append(1) or gather(*all))
    assert ask("/").read() == ask("/").read()
    assert len(made) == 1


def test_a_store_that_cannot_be_read_is_told_and_not_the_end(
    ask: Ask, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloudrun.errors import BadSettings

    def broken(_store: Store) -> None:
        raise BadSettings("The store cannot be read.", "Permission denied.")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "entries", broken)
        answer = ask("/")
        assert answer.status == 503
        assert answer.read() == b"The store cannot be read. Permission denied.\n"
    assert ask("/").status == 200


def test_it_listens_on_the_loopback_only(store: Store) -> None:
    with serve.server(store) as listening:
        assert listening.server_address[0] == "127.0.0.1"


def test_a_store_that_is_slow_to_list_is_not_listed_for_every_question(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[int] = []
    entries = Store.entries

    def slowly(store: Store) -> list[object]:
        listed.append(1)
        time.sleep(0.5)
        return list(entries(store))

    monkeypatch.setattr(Store, "entries", slowly)
    assert len({ask("/version").read() for _ in range(5)}) == 1
    assert len(listed) == 1
