"""A headless Chromium that is spoken to through two pipes, in the DevTools protocol: no driver, no package, no port.

with Chromium() as browser:
    browser.open("file:///...")
    browser.run("document.title")
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9, "Enter": 13, " ": 32}


class Chromium:
    def __init__(self, width: int = 1280, height: int = 900):
        found = next((path for name in NAMES if (path := shutil.which(name))), None)
        if found is None:
            pytest.skip("Chromium is not installed; with it the explorer's page is tested as people use it: apt-get install chromium")
        self.folder = Path(tempfile.mkdtemp(prefix="minivae-chromium-"))
        self.events: list[dict[str, Any]] = []
        self.buffer, self.number = b"", 0
        theirs, ours = os.pipe(), os.pipe()  # to it, from it
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (theirs[0], ours[1])]
        self.writer, self.reader = theirs[1], ours[0]
        command = [
            *("bash", "-c", f'exec "$0" "$@" 3<&{high[0]} 4>&{high[1]}', found, "--headless=new", "--remote-debugging-pipe"),
            *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", "--hide-scrollbars", "--force-color-profile=srgb", f"--user-data-dir={self.folder}"),
            *(f"--window-size={width},{height}", "about:blank"),
        ]
        self.process = subprocess.Popen(
            command, pass_fds=high, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for fd in (*high, theirs[0], ours[1]):
            os.close(fd)
        target = self.call("Target.createTarget", session=False, url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", session=False, targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self) -> "Chromium":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            self.call("Browser.close", session=False, timeout=5)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.writer)
        os.close(self.reader)
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, method: str, session: bool = True, timeout: float = 60, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters} | ({"sessionId": self.session} if session else {})
        os.write(self.writer, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            answer = self.receive(end - time.monotonic())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            if "method" in answer:
                self.events.append(answer)

    def receive(self, timeout: float) -> dict[str, Any]:
        end = time.monotonic() + timeout
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.reader], [], [], max(end - time.monotonic(), 0))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self.reader, 1 << 20)
            if not part:
                raise OSError("Chromium has ended")
            self.buffer += part
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    # what tests do with a page

    def open(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && document.documentElement.dataset.ready === 'yes'")

    def run(self, expression: str) -> Any:
        """The value of an expression in the page, awaited if it is a promise."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True)
        if "exceptionDetails" in found:
            details = found["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return found["result"].get("value")

    def until(self, expression: str, timeout: float = 30) -> Any:
        end = time.monotonic() + timeout
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"it did not come true: {expression}; {self.complaints()}"
            time.sleep(0.03)
        return value

    def settle(self) -> None:
        """Two frames later."""
        self.run("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")

    def complaints(self) -> list[str]:
        """What the console says of errors, exceptions and refused connections."""
        found = []
        for event in self.events:
            what = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(what["exceptionDetails"].get("exception", {}).get("description", what["exceptionDetails"]["text"]))
            elif event["method"] == "Log.entryAdded" and what["entry"]["level"] == "error":
                found.append(what["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning"):
                found.append(str(what["args"]))
        return found

    def requests(self) -> list[str]:
        """The addresses that were asked for, since the page was opened."""
        return [event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"]

    def resize(self, width: int, height: int, mobile: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def dark(self, on: bool) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def place(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """Where a part of an element is in the window, scrolled into it."""
        return tuple(
            self.run(
                f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
                f" const b = e.getBoundingClientRect(); return [b.left + {across} * b.width, b.top + {down} * b.height]; }})()"
            )
        )

    def mouse(self, kind: str, x: float, y: float) -> None:
        held = {"mousePressed": 1, "mouseReleased": 0, "mouseMoved": 1}[kind]
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=held, clickCount=1)

    def drag(self, selector: str, *places: tuple[float, float]) -> None:
        """The mouse pressed at the first place of an element (fractions of its size), moved to the others, released."""
        points = [self.place(selector, *place) for place in places]
        self.mouse("mousePressed", *points[0])
        for x, y in points[1:]:
            self.mouse("mouseMoved", x, y)
        self.mouse("mouseReleased", *points[-1])
        self.settle()

    def click(self, selector: str) -> None:
        self.drag(selector, (0.5, 0.5))

    def touch(self, selector: str, *places: tuple[float, float]) -> None:
        points = [self.place(selector, *place) for place in places]
        for i, (x, y) in enumerate(points):
            self.call("Input.dispatchTouchEvent", type="touchMove" if i else "touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.settle()

    def key(self, name: str, shift: bool = False) -> None:
        more = {"text": name} if name == " " else {}
        common = {
            "key": name,
            "code": "Space" if name == " " else name,
            "windowsVirtualKeyCode": KEYS[name],
            "modifiers": 8 if shift else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)
        self.settle()

    def downloads(self, folder: Path) -> None:
        self.call("Browser.setDownloadBehavior", session=False, behavior="allow", downloadPath=str(folder))

    def screenshot(self, path: Path, full: bool = True) -> Path:
        self.settle()
        size = self.run("[innerWidth, document.documentElement.scrollHeight]")
        area = {"clip": {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}} if full else {}
        data = self.call("Page.captureScreenshot", captureBeyondViewport=full, **area)["data"]
        path.write_bytes(base64.b64decode(data))
        return path
