"""A real Chromium, driven through chromedriver: W3C WebDriver is JSON over HTTP, so urllib is enough."""

import base64
import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's reference (W3C WebDriver, "Elements")."""

_AXE_RULES: Final = (
    "wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice",
)  # fmt: skip
"""The sets of rules: WCAG 2.2, levels A and AA."""

TAB: Final = "\ue004"
ENTER: Final = "\ue007"
"""Keys (W3C WebDriver, "Keyboard actions")."""

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """One browser window, with a new profile in `directory`."""

    def __init__(self, chromedriver: str, chromium: str, directory: Path) -> None:
        directory.mkdir()
        self._log = directory / "log"
        self._session = ""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [chromedriver, "--port=0"],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin", "HOME": str(directory), "LANG": "C.UTF-8"},
            )
        try:
            self._address = f"http://127.0.0.1:{self._wait_for_port()}"
            options = {"binary": chromium, "args": [*_FLAGS, f"--user-data-dir={directory / 'profile'}"]}
            capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
            session = self._send("POST", "/session", {"capabilities": capabilities})
            self._session = f"/session/{session['sessionId']}"
        except BaseException:
            self.close()
            raise

    def open(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self._command("url", {"url": url})

    @property
    def url(self) -> str:
        """The current URL."""
        return str(self._send("GET", f"{self._session}/url"))

    @property
    def title(self) -> str:
        return str(self._send("GET", f"{self._session}/title"))

    @property
    def text(self) -> str:
        """The visible text of the page."""
        return str(self.run("return document.body.innerText"))

    def run(self, script: str) -> Any:
        """Run a function body as the debugger does, whatever the page's policy, and return its value."""
        return self._command("execute/sync", {"script": script, "args": []})

    def check_accessibility(self, axe: str) -> list[str]:
        """Return the violations of accessibility rules that axe-core finds, each with an element.

        Args:
            axe: The text of axe-core.
        """
        self.run(axe)
        script = f"""
            const done = arguments[arguments.length - 1];
            axe.run(document, {{runOnly: {json.dumps(_AXE_RULES)}, resultTypes: ["violations"]}}).then(
                result => done(result.violations.map(
                    rule => `${{rule.id}}: ${{rule.nodes[0].html}} ${{rule.nodes[0].failureSummary}}`)),
                error => done([String(error)]));
        """
        found: list[str] = self._command("execute/async", {"script": script, "args": []})
        return found

    def press(self, *keys: str) -> None:
        """Press and release keys one after the other, as a user would."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._command("actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def allow_scripts(self, *, allowed: bool) -> None:
        """Let pages that are opened from now on run scripts, or not."""
        self._debug("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def click(self, selector: str) -> None:
        """Click on the one element that a CSS selector finds, as a user would."""
        self._command(f"element/{self._find(selector)}/click", {})

    def show_as(self, width: int, height: int, scheme: str = "light", *, phone: bool = False) -> None:
        """Set the window's size in CSS pixels and the preferred colour scheme."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._debug("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._debug("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self, file: Path) -> None:
        """Save the visible part of the page as PNG."""
        file.write_bytes(base64.b64decode(self._send("GET", f"{self._session}/screenshot")))

    def screenshot_of(self, selector: str, file: Path) -> None:
        """Save the one element that a CSS selector finds as PNG."""
        shot = self._send("GET", f"{self._session}/element/{self._find(selector)}/screenshot")
        file.write_bytes(base64.b64decode(shot))

    def close(self) -> None:
        """Stop the browser with all its processes."""
        try:
            if self._session:
                self._send("DELETE", self._session)
        finally:
            self._process.terminate()
            self._process.wait(20)

    def _find(self, selector: str) -> str:
        found = self._command("elements", {"using": "css selector", "value": selector})
        assert len(found) == 1, f"{selector} finds {len(found)}"
        return str(found[0][_ELEMENT])

    def _debug(self, command: str, parameters: dict[str, Any]) -> None:
        self._command("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _command(self, name: str, body: dict[str, Any]) -> Any:
        return self._send("POST", f"{self._session}/{name}", body)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.read().decode()}") from error

    def _wait_for_port(self, seconds: float = 20) -> int:
        end = time.monotonic() + seconds
        while not (match := re.search(r"started successfully on port (\d+)", self._log.read_text("utf-8"))):
            assert self._process.poll() is None, self._log.read_text("utf-8")
            assert time.monotonic() < end, self._log.read_text("utf-8")
            time.sleep(0.01)
        return int(match.group(1))
