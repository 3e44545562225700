"""A real Chromium, driven over a pipe by the DevTools protocol; it ends when the pipe closes."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LIMIT_S = 60
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def program() -> str | None:
    """Where Chromium is, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Page:
    """One page of the browser: what it asked for, what its scripts threw, and what it shows."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.requests: list[str] = []
        self.faults: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; returns its result."""
        return self._browser.call(method, params, self)

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """Take in one event."""
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.faults.append(params["entry"]["text"])

    def open(self, url: str) -> None:
        """Go to an address, and wait until the page is loaded and its script has run."""
        self.call("Page.navigate", url="about:blank")
        self.requests.clear()
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({url!r})")

    def see(self, script: str) -> Any:
        """The value of an expression in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, script: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + _LIMIT_S
        while not self.see(script):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        """Press keys, one after another: `Tab`, `Enter`, or a letter."""
        for key in keys:
            text = {"Enter": "\r", "Tab": ""}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, "Tab": 9, "ArrowDown": 40, " ": 32}.get(key, 0)
            about = {"key": key, "text": text, "windowsVirtualKeyCode": code}
            self.call("Input.dispatchKeyEvent", type="keyDown", **about)
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def look_like(self, width: int, height: int, scheme: str = "light", media: str = "") -> None:
        """Take the size, the colours and the medium (`print`) that a reader may have."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", media=media, features=[feature])

    def picture(self, file: Path) -> None:
        """Save what the whole page looks like, as PNG."""
        done = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(done["data"]))


class Browser:
    """The browser's end of the pipe."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._numbers, self._rest = itertools.count(1), b""
        self._pages: dict[str, Page] = {}

    def page(self) -> Page:
        """Open a new page."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        return page

    def call(self, method: str, params: dict[str, Any], page: Page | None = None) -> dict[str, Any]:
        """One command; the events that come before its answer go to their pages."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if page is not None:
            message["sessionId"] = page._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (said := self._next()).get("id") != number:
            if said.get("sessionId") in self._pages and "method" in said:
                self._pages[said["sessionId"]].hear(said["method"], said["params"])
        assert "error" not in said, (method, said)
        return dict(said["result"])

    def _next(self) -> dict[str, Any]:
        parts = [self._rest]
        while b"\0" not in parts[-1]:
            ready, _, _ = select.select([self._read], [], [], _LIMIT_S)
            assert ready, "the browser says nothing"
            parts.append(os.read(self._read, 2**20))
            assert parts[-1], "the browser has ended"
        whole, _, self._rest = b"".join(parts).partition(b"\0")
        return dict(json.loads(whole))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with a profile of its own in `folder`."""
    to_it, write = os.pipe()
    read, from_it = os.pipe()
    # Chromium reads from 3 and writes to 4, so the pipes are put there.
    move = f"os.dup2({to_it}, 3); os.dup2({from_it}, 4); os.execv(sys.argv[1], sys.argv[1:])"
    command = [str(program()), *_OPTIONS, f"--user-data-dir={folder}"]
    started = subprocess.Popen(
        [sys.executable, "-c", f"import os, sys; {move}", *command],
        pass_fds=(to_it, from_it),
        env={**os.environ, "HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_it)
    os.close(from_it)
    try:
        yield Browser(write, read)
    finally:
        os.close(write)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        os.close(read)
