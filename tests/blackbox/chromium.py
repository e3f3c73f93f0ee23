"""Chromium, headless, and a page of another origin for it.

It is driven by the DevTools protocol over a pipe: a page's script is awaited, not waited for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import select
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from tests.certificate import certificate_files

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 40.0
CHROMIUM = shutil.which("chromium")

WITHOUT = ("Translate", "OptimizationHints", "SpareRendererForSitePerProcess", "BackForwardCache")
"""Features that are off: a process in reserve and pages kept for the way back cost a sixth."""


class _Page(BaseHTTPRequestHandler):
    """An empty page, so that the script has an origin that is not the server's."""

    def do_GET(self) -> None:
        """The same page for every path."""
        content = b"<!doctype html><title>page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@contextmanager
def page_origin() -> Iterator[str]:
    """The origin of a page, served for as long as the block runs."""
    with serving(_Page) as origin:
        yield origin


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The origin of what `handler` serves for as long as the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def spki_of(certificate_path: str) -> str:
    """The hash by which Chromium is told to trust one key, and nothing else."""
    with open(certificate_path, "rb") as file:
        key = load_pem_x509_certificate(file.read()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(der).digest()).decode()


class Browser:
    """Chromium and its DevTools pipe; messages are JSON, each ended by NUL."""

    def __init__(self, profile: str) -> None:
        assert CHROMIUM is not None
        self.events: list[dict[str, Any]] = []
        self._received = b""
        self._count = 0
        self._deadline_s = math.inf
        command_read, self._write = os.pipe()
        self._read, reply_write = os.pipe()
        # The shell makes them descriptors 3 and 4, where Chromium wants them.
        redirect = f'exec "$@" 3<&{command_read} 4>&{reply_write}'
        self.log = open(os.path.join(profile, "log"), "wb")  # noqa: SIM115 - closed in close()
        self.process = subprocess.Popen(
            [
                "bash", "-c", redirect, "bash", CHROMIUM, "--headless=new", "--no-sandbox",
                "--no-zygote", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--disable-breakpad", "--no-proxy-server", "--in-process-gpu",
                "--disable-extensions", f"--disable-features={','.join(WITHOUT)}",
                # One process for all pages: a sixth of the processor time.
                "--disable-site-isolation-trials", "--renderer-process-limit=1",
                # A tab that is not in front keeps its timers and its frames.
                "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
                "--disable-backgrounding-occluded-windows",
                "--remote-debugging-pipe", f"--user-data-dir={profile}",
                f"--ignore-certificate-errors-spki-list={spki_of(certificate_files()[0])}",
                "about:blank",
            ],
            pass_fds=(command_read, reply_write),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "HOME": profile},
            start_new_session=True,
        )  # fmt: skip
        os.close(command_read)
        os.close(reply_write)

    def begin(self) -> None:
        """Forget what happened; from now on there is `TIMEOUT_S`."""
        self.events.clear()
        self._deadline_s = time.monotonic() + TIMEOUT_S

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Run one command and wait for its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (reply := self._next()).get("id") != self._count:
            self.events.append(reply)
        assert "error" not in reply, reply
        result: dict[str, Any] = reply["result"]
        return result

    def leave(self, target: str) -> None:
        """Close a page, also behind a test that waited in vain; what happened is kept."""
        self._deadline_s = time.monotonic() + TIMEOUT_S
        self.call("Target.closeTarget", targetId=target)

    def wait_for(self, method: str) -> None:
        """Read until an event has come."""
        while all(event.get("method") != method for event in self.events):
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            left_s = self._deadline_s - time.monotonic()
            assert select.select([self._read], [], [], max(0, left_s))[0], "no answer in time"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser ended"
            self._received += data
        message, _, self._received = self._received.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed

    def close(self) -> None:
        """End it by its own command, and whatever is left of its process group by force."""
        with suppress(OSError, subprocess.TimeoutExpired):
            os.write(self._write, b'{"id":0,"method":"Browser.close"}\0')
            self.process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for fd in (self._read, self._write):
            os.close(fd)
        self.log.close()


def processes_with(argument: str) -> list[str]:
    """Process ids whose command line holds `argument`; those that ended on the way do not count."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if argument.encode() in file.read():
                    found.append(pid)
        except OSError:
            continue
    return found


@contextmanager
def chromium(profile: str) -> Iterator[Browser]:
    """A browser, for as long as the block runs; it leaves no process behind."""
    running = Browser(profile)
    try:
        yield running
    finally:
        running.close()
    deadline_s = time.monotonic() + 10
    while (left := processes_with(profile)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not left


def run_page(browser: Browser, origin: str, script: str, *arguments: object) -> dict[str, Any]:
    """What the script finds on a page of `origin`; network events are in `browser.events`."""
    browser.begin()
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
    session = attached["sessionId"]
    try:
        browser.call("Page.enable", session)
        browser.call("Network.enable", session)
        browser.call("Page.navigate", session, url=origin + "/")
        browser.wait_for("Page.loadEventFired")
        result = browser.call(
            "Runtime.evaluate",
            session,
            expression=f"{script}({', '.join(map(json.dumps, arguments))})",
            awaitPromise=True,
            returnByValue=True,
        )
    finally:
        browser.leave(target)
    assert "exceptionDetails" not in result, result
    verdict: dict[str, Any] = result["result"]["value"]
    return verdict
