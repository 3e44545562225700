"""GitHub's "create a gist", on loopback, as docs.github.com/en/rest/gists/gists has it.

POST /gists with a JSON body; 201 and the gist, 401 for a wrong token ("Bad
credentials"), 404 for one without the scope, 422 for a body that makes no sense.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "a-token-that-is-right"  # noqa: S105 - of this double only
NO_SCOPE = "a-token-without-the-scope"
ID = "0123456789abcdef0123456789abcdef"


class GitHub:
    """What was asked, and what is answered instead of the usual: status, headers, body."""

    def __init__(self) -> None:
        self.url = ""
        self.gists: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.instead: tuple[int, dict[str, str], bytes] | None = None


@contextlib.contextmanager
def github() -> Iterator[GitHub]:
    """A GitHub on a free port of this machine."""
    state = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.path, dict(self.headers)))
            status, headers, answer = state.instead or _answer(state, self.path, self.headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()


def _answer(
    state: GitHub, path: str, headers: Any, body: bytes
) -> tuple[int, dict[str, str], bytes]:
    asked = json.loads(body)
    if path != "/gists" or headers["Authorization"] == f"Bearer {NO_SCOPE}":
        return 404, {}, b'{"message": "Not Found"}'
    if headers["Authorization"] != f"Bearer {TOKEN}":
        return 401, {}, b'{"message": "Bad credentials"}'
    if headers["Accept"] != "application/vnd.github+json" or not headers["User-Agent"]:
        return 403, {}, b'{"message": "Request forbidden by administrative rules."}'
    if set(asked) > {"description", "public", "files"} or not asked.get("files"):
        return 422, {}, b'{"message": "Validation Failed"}'
    state.gists.append(asked)
    made = {
        "id": ID,
        "html_url": f"https://gist.github.com/octocat/{ID}",
        "public": asked.get("public", False),
        "owner": {"login": "octocat"},
        "files": asked["files"],
    }
    return 201, {}, json.dumps(made).encode()
