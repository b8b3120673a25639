"""A headless Chromium, driven through its DevTools protocol over a pipe, without a library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from requirements import missing

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
TIMEOUT = 60.0
"""Seconds to wait for a reply."""


def find_chromium() -> str:
    """Return the path of a Chromium; without one, skip the test, or fail it if it is required."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        missing("chromium", f"no {' or '.join(NAMES)} on the path: apt install chromium")
    return path


class Browser:
    """One page of an offline browser, with its requests, console messages and exceptions."""

    def __init__(self, replies: int, commands: int) -> None:
        self._replies, self._commands = replies, commands
        self._buffer, self._last_id = b"", 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Network.emulateNetworkConditions", offline=True, latency=0,
                  downloadThroughput=0, uploadThroughput=0)  # fmt: skip

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": parameters}
        if self.session is not None:
            message["sessionId"] = self.session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            reply = self._receive(TIMEOUT)
            assert reply is not None, f"no reply to {method}"
            if reply.get("id") == self._last_id:
                assert "error" not in reply, f"{method}: {reply['error']}"
                result: dict[str, Any] = reply["result"]
                return result

    def _receive(self, timeout: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + timeout
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._replies], [], [], left)[0]:
                return None
            chunk = os.read(self._replies, 1 << 20)
            assert chunk, "the browser exited"
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        self._record(message.get("method"), message.get("params", {}))
        return message

    def _record(self, event: str | None, parameters: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif event == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif event == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(parameters["entry"]))
        elif event == "Runtime.consoleAPICalled":
            self.errors.append(str(parameters))

    def settle(self, seconds: float = 0.3) -> None:
        """Give the page time to react, and record its events."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._receive(left)

    def open(self, path: Path, *, width: int = 1200, height: int = 900) -> None:
        self.resize(width, height)
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + TIMEOUT
        while self.evaluate("document.readyState") != "complete":
            assert time.monotonic() < deadline, "the page does not load"
        self.settle()

    def resize(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        self.settle()

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        reply = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in reply, reply["exceptionDetails"]
        return reply["result"].get("value")

    def click(self, selector: str) -> None:
        """Click the centre of an element with the mouse."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        self.drag(x, y, x, y)

    def drag(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Press the mouse button at one place and release it at another."""
        for kind, x, y in (
            ("mousePressed", x0, y0), ("mouseMoved", x1, y1), ("mouseReleased", x1, y1),
        ):  # fmt: skip
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def move(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def screenshot(self, path: Path) -> None:
        """Write the entire page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def print(self, path: Path) -> None:
        """Print the page to PDF."""
        printed = self.call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        path.write_bytes(base64.b64decode(printed["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run a browser with a fresh profile in ``folder``."""
    program = find_chromium()
    (child_input, commands), (replies, child_output) = os.pipe(), os.pipe()
    # the protocol uses file descriptors 3 and 4 of the browser
    redirect = f'exec "$@" 3<&{child_input} 4>&{child_output}'
    process = subprocess.Popen(
        ["bash", "-c", redirect, "bash", program, *FLAGS, f"--user-data-dir={folder / 'profile'}"],
        pass_fds=(child_input, child_output),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(child_input)
    os.close(child_output)
    try:
        page = Browser(replies, commands)
        yield page
        page.session = None
        page.call("Browser.close")
        process.wait(TIMEOUT)
    finally:
        process.kill()
        process.wait()
        os.close(replies)
        os.close(commands)
