"""A Kaggle on the loopback, as far as its client calls it.

Requests and answers are as kagglesdk 0.1.38 makes and reads them (kernels_api_service.py).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.doubles import kaggle_service as service

_KERNELS = "/api/v1/kernels.KernelsApiService/"
_LOGS = "/api/v1/kernels/logs/stream/"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve the Kaggle of a folder; gives its address."""
    handler = type("Handler", (_Handler,), {"service": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    # In chunks, so that what is said is heard at once.
    protocol_version = "HTTP/1.1"
    service: Path

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        name = self.path.removeprefix(_KERNELS)
        if service.fault(self.service) == "logged out":
            self._answer({"code": 401, "message": "Unauthenticated"}, 401)
            return
        if name == "SaveKernel":
            self._answer(self._save(asked))
        elif name == "GetAcceleratorQuotaStatistics":
            used = "108000s" if service.fault(self.service) == "used up" else "5400s"
            quota = {"timeUsed": used, "totalTimeAllowed": "108000s"}
            self._answer({"quotaRefreshTime": "2026-11-28T00:00:00Z", "gpuQuota": quota})
        elif name == "ListKernels":
            found = [{"ref": f"{service.USER}/{each}"} for each in service.names(self.service)]
            self._answer({"kernels": found})
        else:
            self._of_kernel(name, f"{asked['userName']}/{asked['kernelSlug']}")

    def _save(self, asked: dict[str, Any]) -> dict[str, Any]:
        limit = str(asked["sessionTimeoutSeconds"])
        assert asked["machineShape"] == "NvidiaTeslaT4"
        assert asked["isPrivate"] is True
        ref = asked["slug"]
        refused = service.push(self.service, ref, asked["newTitle"], asked["text"], limit)
        if refused:
            return {"error": refused}
        return {"ref": ref, "url": f"https://www.kaggle.com/code/{ref}", "versionNumber": 1}

    def _of_kernel(self, name: str, ref: str) -> None:
        folder = service.kernel(self.service, ref)
        if not folder.exists():
            status = 404 if name == "DeleteKernel" else 403
            self._answer({"code": status, "message": "Permission 'kernels.get' was denied"}, status)
        elif name == "GetKernelSessionStatus":
            state = service.state_of(folder)
            failed = "Your notebook tried to allocate more memory than is available."
            self._answer({"status": state, "failureMessage": failed if state == "ERROR" else None})
        elif name == "DeleteKernel":
            service.delete(folder)
            self._answer({})
        else:
            is_over = service.state_of(folder) == "COMPLETE"
            files = sorted((folder / "working").iterdir()) if is_over else []
            base = f"http://{self.headers['Host']}/files/{folder.name}"
            listed = [{"url": f"{base}/{each.name}", "fileName": each.name} for each in files]
            self._answer({"files": listed, "log": "[]"})

    def do_GET(self) -> None:
        if self.path.startswith("/files/"):
            name, _, file = unquote(self.path.removeprefix("/files/")).partition("/")
            self._send((self.service / "kernels" / name / "working" / file).read_bytes(), "x/y")
            return
        folder = service.kernel(self.service, self.path.removeprefix(_LOGS).partition("?")[0])
        if service.state_of(folder) in ("COMPLETE", "ERROR"):
            # Over: the log as one document, and no stream.
            self._send(f"[{','.join(service.lines(folder))}]".encode(), "application/json")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        seen = 0
        while True:
            is_over = service.state_of(folder) in ("COMPLETE", "ERROR")
            for line in service.lines(folder)[seen:]:
                self._chunk(f"data: {line}\n")
                seen += 1
                if service.fault(self.service) == "drops" and seen == 3:
                    (self.service / "fault").unlink()
                    # As a load balancer cuts it: without the last word.
                    self.close_connection = True
                    return
            if is_over:
                self._chunk("data: END_OF_LOG\n\n")
                self.wfile.write(b"0\r\n\r\n")
                return
            time.sleep(0.02)

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _answer(self, value: object, status: int = 200) -> None:
        self._send(json.dumps(value).encode(), "application/json", status)

    def _send(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass
