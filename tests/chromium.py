"""A headless Chromium under remote control, by its debugging pipe: no package needed beside the browser itself.

    python -m tests.chromium PAGE.html PICTURE.png [--at ID] [--width 1200] [--height 720] [--dark]

saves what a window of that size shows of a page, from the element ID on.
"""

import argparse
import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any, Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 120  # seconds
KEYS = {  # the browser wants both: name and Windows code
    "Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


@cache
def find_chromium() -> str | None:
    """Path of an installed Chromium or Chrome that starts."""
    for program in filter(None, map(shutil.which, NAMES)):
        if subprocess.run([program, "--version"], capture_output=True, timeout=60).returncode == 0:
            return program
    return None


class Chromium:
    """One page in a browser; a context manager.

    errors    what the page's script threw or wrote to the console, and requests that left the page
    """

    def __init__(self, program: str, profile: Path) -> None:
        self.errors: list[str] = []
        self._command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
            "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        self._number = 0
        self._rest = b""

    def __enter__(self) -> Self:
        read_here, self._write = os.pipe()
        self._read, write_here = os.pipe()
        # the browser reads descriptor 3 and writes descriptor 4
        descriptors = f'exec "$@" 3<&{read_here} 4>&{write_here}'
        self._process = subprocess.Popen(
            ["bash", "-c", descriptors, "bash", *self._command],
            pass_fds=(read_here, write_here),
            stderr=subprocess.DEVNULL,
        )
        os.close(read_here)
        os.close(write_here)
        target = self._call("Target.getTargets")["targetInfos"][0]["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._call("Browser.close")
        os.close(self._write)
        os.close(self._read)
        try:
            self._process.wait(timeout=PATIENCE)
        finally:
            self._process.kill()

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False, touch: bool = False) -> None:
        """Show a file in a window of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.wait_for("document.readyState + location.protocol == 'completefile:'")

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression on the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Return when a JavaScript condition holds; AssertionError if it does not come to."""
        for _ in range(600):
            if self.evaluate(condition):
                return
            time.sleep(0.05)
        raise AssertionError(f"never so: {condition}")

    def press(self, *keys: str) -> None:
        """Type keys, as a keyboard does."""
        for key in keys:
            named = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
            text = {"text": "\r"} if key == "Enter" else {}
            self.call("Input.dispatchKeyEvent", type="keyDown", **named, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    def screenshot(self, path: Path) -> None:
        """Save what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the DevTools protocol on the page."""
        return self._call(method, sessionId=self._session, **parameters)

    def _call(self, method: str, sessionId: str | None = None, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if sessionId:
            message["sessionId"] = sessionId
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], PATIENCE)[0]:
                raise TimeoutError(f"the browser has said nothing for {PATIENCE} s")
            chunk = os.read(self._read, 1 << 20)
            if not chunk:
                raise ConnectionError("the browser has ended")
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"]["text"])
        elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif event["method"] == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("data:", "file:", "about:")):
                self.errors.append(f"request to {url}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--at", metavar="ID")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args()
    program = find_chromium()
    if program is None:
        parser.error("no Chromium is installed")
    with tempfile.TemporaryDirectory() as profile, Chromium(program, Path(profile)) as browser:
        browser.open(args.page, width=args.width, height=args.height, dark=args.dark)
        if args.at:
            browser.evaluate(f"document.getElementById({args.at!r}).scrollIntoView()")
        browser.screenshot(args.picture)


if __name__ == "__main__":
    main()
