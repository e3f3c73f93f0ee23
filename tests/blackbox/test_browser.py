"""A real browser: a page of another origin reads columns over HTTP/2, with CORS, as typed arrays.

It also downloads 50 MB, whole and resumed. Chromium runs headless and is driven by the DevTools
protocol over a pipe: the page's script is awaited, not waited for, and the browser itself tells by
which protocol each answer came.
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
from array import array
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate

from tests.certificate import certificate_files
from tests.naive import naive_symbols
from tests.server import RunningServer
from tests.storage.trees import DAY, DAY_S, DAY_START_S, marks, put, u32
from tests.ticks import make_ticks, ticks_body, ticks_target
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS_PER_DAY = 20_000
FETCHES = 20
STEP_S = 10_000
TIMEOUT_S = 40.0
CHROMIUM = shutil.which("chromium")

RANGES = [
    (DAY_START_S + index * STEP_S, DAY_START_S + (index + 3) * STEP_S) for index in range(FETCHES)
]
"""Ranges that overlap and cross midnights; each is a request of its own."""

SCRIPT = """
(async (base, targets) => {
  const init = {headers: {"X-Test": "1"}};
  const read = async (target) => {
    const response = await fetch(base + target, init);
    const buffer = await response.arrayBuffer();
    const bytes = new Uint8Array(buffer);
    const end = bytes.indexOf(10) + 1;
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
    let at = end;
    const columns = header.columns.map((column) => {
      const part = buffer.slice(at, at += column.data_length);
      const values = column.name === "time" ? new Uint32Array(part) : new Float32Array(part);
      let sum = 0;
      for (const value of values) sum += value;
      return {name: column.name, count: values.length, said: column.num_records, sum};
    });
    return {
      status: response.status, type: response.type, etag: response.headers.get("ETag"),
      length: Number(response.headers.get("Content-Length")), nbytes: buffer.byteLength,
      hidden: response.headers.get("Server"), rest: buffer.byteLength - at, columns,
    };
  };
  const symbols = fetch(base + "/api/symbols", init).then((response) => response.json());
  const problem = fetch(base + "/api/data", init).then((response) => response.json());
  return {
    data: await Promise.all(targets.map(read)), symbols: await symbols, problem: await problem,
    origin: location.origin,
  };
})
"""

LARGE = Series("coinbase", "LARGE", "MD")
TICKS_A_SECOND = 73
LARGE_BYTES = 2 * 4 * TICKS_A_SECOND * DAY_S
"""Of both columns: 50.5 MB."""

DOWNLOADS = """
(async (base, target, enough) => {
  const url = base + target;
  const digest = async (bytes) => {
    const hash = await crypto.subtle.digest("SHA-256", bytes);
    return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
  };
  const ask = (init) => fetch(url, {cache: "no-store", ...init});
  const whole = await ask({});
  const all = await whole.arrayBuffer();
  const breaking = new AbortController();
  const begun = await ask({signal: breaking.signal});
  const reader = begun.body.getReader();
  const joined = new Uint8Array(all.byteLength);
  let received = 0;
  while (received < enough) {
    const {value} = await reader.read();
    joined.set(value, received);
    received += value.length;
  }
  breaking.abort();
  const fields = {Range: `bytes=${received}-`, "If-Range": begun.headers.get("ETag")};
  const rest = await ask({headers: fields});
  joined.set(new Uint8Array(await rest.arrayBuffer()), received);
  return {
    whole: {status: whole.status, digest: await digest(all)},
    resumed: {status: rest.status, digest: await digest(joined)},
    received, told: rest.headers.get("Content-Range"),
  };
})
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


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
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
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
                "--disable-sync", "--disable-breakpad", "--no-proxy-server",
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


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three days of a tick every four seconds, and one of `LARGE`."""
    path = tmp_path_factory.mktemp("browser")
    make_ticks(str(path), RECORDS_PER_DAY)
    put(str(path), large_columns(), DAY, LARGE)
    yield str(path)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(root: str) -> Iterator[RunningServer]:
    """The server that the page asks."""
    with RunningServer(root, USE_TLS="true") as running:
        yield running


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page comes from."""
    with page_origin() as served:
        yield served


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of all tests; it leaves no process behind."""
    profile = str(tmp_path_factory.mktemp("profile"))
    running = Browser(profile)
    try:
        yield running
    finally:
        running.close()
    deadline_s = time.monotonic() + 10
    while (left := processes_with(profile)) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not left


def large_columns() -> dict[str, bytes]:
    """A day of many ticks a second, each price another."""
    times = (u32(DAY_START_S + second) * TICKS_A_SECOND for second in range(DAY_S))
    return {"time": b"".join(times), "price": marks(TICKS_A_SECOND * DAY_S)}


def run_page(browser: Browser, origin: str, script: str, *arguments: object) -> dict[str, Any]:
    """What the script finds on a page of `origin`; network events are in `browser.events`."""
    browser.begin()
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
    session = attached["sessionId"]
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
    assert "exceptionDetails" not in result, result
    verdict: dict[str, Any] = result["result"]["value"]
    browser.call("Target.closeTarget", targetId=target)
    return verdict


def expected_columns(body: bytes) -> list[dict[str, Any]]:
    """Counts and sums of the oracle's columns; all sums are exact in a double."""
    line, _, data = body.partition(b"\n")
    columns, at = [], 0
    for column in json.loads(line)["columns"]:
        values = array("I" if column["name"] == "time" else "f")
        values.frombytes(data[at : at + column["data_length"]])
        at += column["data_length"]
        count = len(values)
        total = math.fsum(values)
        columns.append({"name": column["name"], "count": count, "said": count, "sum": total})
    return columns


def test_page_of_another_origin_reads_columns(
    root: str, server: RunningServer, origin: str, browser: Browser
) -> None:
    """Twenty fetches at once, each with a preflight: exact, readable fields, h2, one connection."""
    targets = [ticks_target(start_s, end_s) for start_s, end_s in RANGES]
    base = f"https://localhost:{server.port}"
    verdict = run_page(browser, origin, SCRIPT, base, targets)
    answered = sum(
        server.metric(f'zerocopy_requests_total{{status="{status}"}}') for status in (200, 204)
    )
    assert verdict["origin"] == origin
    assert verdict["symbols"] == naive_symbols(root)
    assert verdict["problem"]["status"] == 400
    for (start_s, end_s), found in zip(RANGES, verdict["data"], strict=True):
        body = ticks_body(root, start_s, end_s)
        assert found["columns"] == expected_columns(body)
        assert (found["status"], found["type"], found["rest"]) == (200, "cors", 0)
        assert found["length"] == found["nbytes"] == len(body)
        assert found["etag"].startswith(('"', 'W/"'))
        assert found["hidden"] is None  # what is not exposed stays hidden: CORS was at work
    responses = [
        event["params"]["response"]
        for event in browser.events
        if event.get("method") == "Network.responseReceived"
    ]
    ours = [(r["protocol"], r["connectionId"]) for r in responses if r["url"].startswith(base)]
    assert len(ours) >= 2 * (FETCHES + 2)
    assert {protocol for protocol, _ in ours} == {"h2"}
    assert len({connection for _, connection in ours}) == 1  # HTTP/1.1 would take six
    assert answered >= 2 * (FETCHES + 1)  # each had a preflight of its own


def test_page_downloads_large_bodies(server: RunningServer, origin: str, browser: Browser) -> None:
    """50 MB whole, and resumed by Range and If-Range where a download broke off: equal hashes."""
    columns = large_columns()
    header = {
        "columns": [
            {
                "name": name,
                "record_size": 4,
                "num_records": len(content) // 4,
                "data_length": len(content),
                "dtype": dtype,
            }
            for (name, content), dtype in zip(columns.items(), ("<u4", "<f4"), strict=True)
        ]
    }
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    digest = hashlib.sha256(b"".join([line, *columns.values()])).hexdigest()
    size = len(line) + LARGE_BYTES
    target = ticks_target().replace("symbol=X", f"symbol={LARGE.symbol}")
    base = f"https://localhost:{server.port}"
    found = run_page(browser, origin, DOWNLOADS, base, target, size // 3)
    assert found["whole"] == {"status": 200, "digest": digest}
    assert found["resumed"] == {"status": 206, "digest": digest}
    assert size // 3 <= found["received"] < size
    assert found["told"] == f"bytes {found['received']}-{size - 1}/{size}"
    assert {
        event["params"]["response"]["protocol"]
        for event in browser.events
        if event.get("method") == "Network.responseReceived"
        and event["params"]["response"]["url"].startswith(base)
    } == {"h2"}
    assert not [event for event in server.events() if event["level"] == "error"]
