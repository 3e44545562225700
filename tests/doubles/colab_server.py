"""A Colab on the loopback, as far as its client calls it: machines are Jupyter servers.

Requests and answers are as google-colab-cli 0.7.5 makes and reads them (its client.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_FAULTS = {"412": 412, "400": 400, "503": 503}


@contextlib.contextmanager
def serving(folder: Path, python: Path) -> Iterator[str]:
    """Serve a Colab whose machines lie in a folder; gives its address.

    Args:
        folder: Where `machine.json` of each machine is, and `fault`.
        python: The Python that has jupyter_server.
    """
    handler = type("Handler", (_Handler,), {"folder": folder, "python": python})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        for machine in folder.glob("*/machine.json"):
            _end(machine)


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    python: Path

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/tun/m/assign":
            self._answer({"acc": "T4", "nbh": "x", "token": "xsrf", "variant": "GPU"})
        elif path.path == "/tun/m/assignments":
            there = [json.loads(each.read_text()) for each in self.folder.glob("*/machine.json")]
            self._answer({"assignments": [each["assignment"] for each in there]})
        elif path.path == "/tun/m/ccu-info":
            self._answer({"currentBalance": 0, "consumptionRateHourly": 0, "assignmentsCount": 0})
        elif self._fault() in ("stays", "teardown fails"):
            if self._fault() == "teardown fails":
                (self.folder / "fault").unlink()
            self._answer({}, 500)
        else:
            self._answer({"token": "xsrf"})

    def do_POST(self) -> None:
        path = urlsplit(self.path)
        if path.path.startswith("/tun/m/unassign/"):
            machine = self.folder / path.path.rpartition("/")[2] / "machine.json"
            if not machine.exists():
                self._answer({}, 404)
                return
            _end(machine)
            self._answer({})
        elif self._fault() == "slow":
            (self.folder / "asked").touch()
            time.sleep(30)
            self._answer({}, 503)
        elif self._fault() in _FAULTS:
            self._answer({}, _FAULTS[self._fault()])
        else:
            self._answer(self._assign(parse_qs(path.query)["accelerator"][0]))

    def _assign(self, gpu: str) -> dict[str, object]:
        endpoint = f"gpu-{gpu.lower()}-s-{uuid.uuid4().hex[:8]}"
        home = self.folder / endpoint
        (home / "content").mkdir(parents=True)
        jupyter = subprocess.Popen(
            [
                *(self.python, "-m", "jupyter_server", "--port=0", "--allow-root", "--no-browser"),
                *(f"--ServerApp.root_dir={home}", "--IdentityProvider.token="),
                *("--ServerApp.disable_check_xsrf=True", "--ServerApp.allow_origin=*"),
            ],
            env={**os.environ, "PATH": f"{self.folder / 'gpu'}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            encoding="utf-8",
        )
        assert jupyter.stderr is not None
        url = next(
            line.partition("http://")[2].split("/")[0]
            for line in jupyter.stderr
            if "http://127.0.0.1" in line or "http://localhost" in line
        )
        threading.Thread(target=jupyter.stderr.read, daemon=True).start()
        proxy = {"token": "t", "tokenExpiresInSeconds": 3600, "url": f"http://{url}"}
        assignment = {
            "accelerator": gpu,
            "endpoint": endpoint,
            "variant": 1,
            "machineShape": 0,
            "runtimeProxyInfo": proxy,
        }
        about = {"assignment": assignment, "process": jupyter.pid}
        (home / "machine.json").write_text(json.dumps(about))
        if self._fault() == "lost":
            _end(home / "machine.json")
        return assignment

    def _fault(self) -> str:
        path = self.folder / "fault"
        return path.read_text() if path.exists() else ""

    def _answer(self, value: object, status: int = 200) -> None:
        body = b")]}'\n" + json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _end(machine: Path) -> None:
    process = json.loads(machine.read_text())["process"]
    # Its kernels end when it does.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)
    machine.unlink()
    pipe = machine.parent.parent / "given back"
    if pipe.exists():
        pipe.write_text("it is\n")
