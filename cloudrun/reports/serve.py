"""Show a store's page to this machine's browser, anew whenever a report comes in.

Only the loopback is listened on. A page from elsewhere in the same browser could
still get there by a name of its own that leads to 127.0.0.1; so only requests that
ask for the loopback by its usual names are answered.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cloudrun.errors import CloudrunError
from cloudrun.model.run import now
from cloudrun.reports import page, vouching
from cloudrun.reports.names import Entry
from cloudrun.reports.signers import Signer
from cloudrun.reports.store import Store

_SLOWEST_S = 30
_REST = 20
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def server(store: Store, known: Sequence[Signer] = ()) -> ThreadingHTTPServer:
    """What serves the store's page, on a free port of the loopback; `known` may vouch for it."""
    return ThreadingHTTPServer(("127.0.0.1", 0), _handler(_Current(store, known)))


class _Current:
    """The page as the store is now; made anew when it has changed."""

    def __init__(self, store: Store, known: Sequence[Signer]) -> None:
        self._store, self._known, self._lock = store, known, threading.Lock()
        self._version, self._again, self._shown, self._page = "", 0.0, "", b""

    def version(self) -> str:
        """What changes with the store. Every open page asks for it, so not each is listed for."""
        with self._lock:
            if time.monotonic() >= self._again:
                self._look()
            return self._version

    def page(self) -> bytes:
        """The page. Several browsers wait for one making of it."""
        with self._lock:
            entries = self._look()
            if self._shown != self._version:
                who = vouching.who_by_path(self._store.place, self._known)
                gathered = page.gather(self._store.slim(entries), who)
                pieces = page.render(gathered, now(), self._version)
                self._page, self._shown = "".join(pieces).encode(), self._version
            return self._page

    def _look(self) -> list[Entry]:
        """List the store; then not again for twenty times as long as that has taken."""
        begun = time.monotonic()
        entries = list(self._store.entries())
        self._version = _version(entries)
        self._again = time.monotonic() + _REST * (time.monotonic() - begun)
        return entries


def _version(entries: list[Entry]) -> str:
    listing = "\n".join(f"{entry.path} {entry.size}" for entry in entries)
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _handler(current: _Current) -> type[BaseHTTPRequestHandler]:
    """What answers a request."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _SLOWEST_S
        server_version, sys_version = "cloudrun", ""

        def handle(self) -> None:
            # A reader who has gone away misses nothing.
            with contextlib.suppress(ConnectionError, TimeoutError):
                super().handle()

        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
                self._answer(HTTPStatus.MISDIRECTED_REQUEST, b"This is another machine's name.\n")
                return
            try:
                if self.path == "/":
                    self._answer(HTTPStatus.OK, current.page(), "text/html")
                elif self.path == "/version":
                    self._answer(HTTPStatus.OK, current.version().encode())
                else:
                    self._answer(HTTPStatus.NOT_FOUND, b"There is one page only: /\n")
            except CloudrunError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n".encode())

        def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain") -> None:
            headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": len(body)}
            self.send_response(status)
            for name, value in {**headers, **_HEADERS}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing: the terminal is the user's."""

    return Handler
