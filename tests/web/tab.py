"""A tab of Chromium that shows the page, and everything it complained about.

It is driven as a person would: keys, wheel, pointer. What the page has drawn is asked of
`window.zerocopy` (docs/page.md), and of the pixels of a screenshot.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.blackbox.chromium import Browser

WIDTH, HEIGHT = 1200, 760
IDLE = "window.zerocopy.idle()"

# Resolves once the expression is true; the driver's own deadline ends it otherwise.
UNTIL = """
new Promise((resolve) => {
  const look = () => {
    let found;
    try { found = (%s); } catch { found = false; }
    if (found) resolve(found); else setTimeout(look, 20);
  };
  look();
})
"""

KEYS = {
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35,
    "Enter": 13, "Escape": 27, "Tab": 9, " ": 32,
}  # fmt: skip
SHIFT = 8


class Tab:
    """One page of a browser, `width` times `height` CSS pixels."""

    def __init__(self, browser: Browser, width: int = WIDTH, height: int = HEIGHT) -> None:
        browser.begin()
        self.browser = browser
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        self._context = context
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Run one command of the DevTools protocol in this tab."""
        return self.browser.call(method, self._session, **params)

    def resize(self, width: int, height: int, *, is_phone: bool = False) -> None:
        """Another window, or a phone."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=is_phone, maxTouchPoints=5)

    def forget(self) -> None:
        """As a new tab, but with the files that the browser has kept: much quicker."""
        self.browser.begin()
        self.call("Page.navigate", url="about:blank")
        self.until("document.readyState === 'complete' && location.href === 'about:blank'")
        self.call("Page.resetNavigationHistory")
        self.resize(WIDTH, HEIGHT)
        self.prefer("light")
        self.browser.begin()

    def download_to(self, folder: str) -> None:
        """Where files lie once they are whole."""
        self.browser.call(
            "Browser.setDownloadBehavior",
            behavior="allow",
            downloadPath=folder,
            browserContextId=self._context,
        )

    def prefer(self, scheme: str) -> None:
        """What the system prefers: light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, url: str) -> None:
        """Go to the page and wait until it is there; not for what it then loads."""
        self.browser.begin()
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && window.zerocopy")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression; a promise is awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, condition: str) -> Any:
        """Wait until an expression is true; its value."""
        try:
            return self.evaluate(UNTIL % condition)
        except AssertionError as error:
            raise AssertionError(f"never came: {condition}; {self.complaints()}") from error

    def idle(self) -> None:
        """Wait until all that is in view has come and is drawn."""
        self.until("window.zerocopy.chart.series")
        self.evaluate(IDLE)

    def open_chart(self, url: str) -> None:
        """The same, until something is drawn, the last second too, which a live stream brings."""
        self.open(url)
        self.until("window.zerocopy.panes().some((pane) => pane.x.length)")
        self.until("(({ tail }) => !tail || tail.length)(window.zerocopy.chart.loader)")
        self.idle()

    def view(self) -> tuple[float, float]:
        """What is in view, in unix seconds."""
        start, end = self.evaluate("Object.values(window.zerocopy.chart.view)")
        return start, end

    def panes(self) -> list[dict[str, Any]]:
        """What the panes draw."""
        found: list[dict[str, Any]] = self.evaluate("window.zerocopy.panes()")
        return found

    def text(self, selector: str) -> str:
        """The text of an element, once it is there."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        found: str = self.evaluate(f"document.querySelector({json.dumps(selector)}).textContent")
        return found

    # ---- hands

    def key(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        code = KEYS.get(key, ord(key[0].upper()))
        down: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        if text:
            down["text"] = text
        self.call("Input.dispatchKeyEvent", type="keyDown", **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **down)

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where an element is, once it is there."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        box = self.evaluate(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        return box[0], box[1]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """One event of the mouse."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def wheel(self, x: float, y: float, delta: float, *, modifiers: int = 0) -> None:
        """Turn the wheel there."""
        self.mouse("mouseWheel", x, y, deltaX=0, deltaY=delta, modifiers=modifiers)

    def drag(self, x: float, y: float, to_x: float, *, modifiers: int = 0) -> None:
        """Drag with the left button, in some steps."""
        self.mouse("mousePressed", x, y, button="left", clickCount=1, modifiers=modifiers)
        for step in range(1, 6):
            at = x + (to_x - x) * step / 5
            self.mouse("mouseMoved", at, y, button="left", buttons=1, modifiers=modifiers)
        self.mouse("mouseReleased", to_x, y, button="left", clickCount=1, modifiers=modifiers)

    def pinch(self, x: float, y: float, apart: float, to_apart: float) -> None:
        """Two fingers on a line, moved apart or together."""
        for step in range(6):
            half = (apart + (to_apart - apart) * step / 5) / 2
            points = [{"x": x - half, "y": y, "id": 0}, {"x": x + half, "y": y, "id": 1}]
            kind = "touchMove" if step else "touchStart"
            self.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def screenshot(self) -> bytes:
        """A PNG of what is seen."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    # ---- complaints

    def complaints(self, *, server_left: bool = False) -> list[str]:
        """Errors of the console, exceptions, and violations of the policy, since `begin`.

        `server_left`: the server was away, so failed requests are no fault of the page.
        """
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self._session:
                continue
            method, params = event["method"], event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(json.dumps(params["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning"}:
                found.append(json.dumps(params["args"]))
            elif method == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
                entry = params["entry"]
                if not (server_left and entry["source"] in {"network", "javascript"}):
                    found.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
            elif method == "Audits.issueAdded":
                code = params["issue"]["code"]
                if code == "ContentSecurityPolicyIssue":
                    found.append(json.dumps(params["issue"]))
        return found

    def transferred(self) -> dict[str, float]:
        """Bytes that came for each URL, heads included."""
        urls, sizes = {}, {}
        for event in self.browser.events:
            if event.get("sessionId") != self._session:
                continue
            params = event.get("params", {})
            if event["method"] == "Network.requestWillBeSent":
                urls[params["requestId"]] = params["request"]["url"]
            elif event["method"] == "Network.loadingFinished" and params["requestId"] in urls:
                sizes[urls[params["requestId"]]] = params["encodedDataLength"]
        return sizes

    def close(self) -> None:
        """Close it, with its history and its storage."""
        self.browser.call("Target.disposeBrowserContext", browserContextId=self._context)
