"""A headless Chromium that tells what a page does: by the DevTools protocol through a pipe, with nothing to install."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_LOUD = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.requestWillBeSent")

# the browser reads from 3 and writes to 4
_LAUNCHER = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def chromium() -> str:
    """The program; the test is skipped where it is missing."""
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    return found


class Tab:
    """A page of a browser.

    Attributes:
        events: what it did that a page should not: messages, exceptions, requests.
    """

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._data = b""
        self._n = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._data:
            more = os.read(self._receive, 2**16)
            assert more, "the browser has ended"
            self._data += more
        message, _, self._data = self._data.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        if found.get("method") in _LOUD:
            self.events.append(found)
        return found

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method."""
        self._n += 1
        message = {"id": self._n, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._n:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is there."""
        self.call("Page.navigate", url=url)
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def show(self, width: int, *, dark: bool) -> None:
        """Make the window so wide, and prefer dark colors or light ones."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])


@contextmanager
def tab() -> Iterator[Tab]:
    """A tab of a browser that ends with the block."""
    program = chromium()
    to_browser, from_browser = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ]
        arguments += ["--hide-scrollbars", f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        ends = to_browser[0], from_browser[1]
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *map(str, ends), program, *arguments],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser[0])
        os.close(from_browser[1])
        try:
            yield Tab(to_browser[1], from_browser[0])
        finally:
            # without anybody at the other end of the pipe, it ends
            os.close(to_browser[1])
            os.close(from_browser[0])
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def main(page: str, folder: str) -> None:
    """Pictures of a page in all widths and colors, to look at."""
    with tab() as one:
        one.open(Path(page).absolute().as_uri())
        for width in (400, 900, 1400):
            for dark in (False, True):
                one.show(width, dark=dark)
                Path(folder, f"{width}-{'dark' if dark else 'light'}.png").write_bytes(one.picture())
        Path(folder, "page.pdf").write_bytes(one.printed())
        print(one.events)


if __name__ == "__main__":
    main(*sys.argv[1:])
