"""A real browser: a page of another origin reads columns over HTTP/2, with CORS, as typed arrays.

It also downloads 50 MB, whole and resumed. Chromium runs headless and is driven by the DevTools
protocol over a pipe: the page's script is awaited, not waited for, and the browser itself tells by
which protocol each answer came.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from array import array
from typing import TYPE_CHECKING, Any

import pytest

from tests.blackbox.chromium import CHROMIUM, Browser, page_origin, run_page
from tests.naive import naive_symbols
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import DAY, DAY_S, DAY_START_S, marks, put, u32
from tests.ticks import make_ticks, ticks_body, ticks_target
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS_PER_DAY = 20_000
FETCHES = 20
STEP_S = 10_000

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

CODED = """
(async (targets) => ({answers: await Promise.all(targets.map(async (target) => {
  const response = await fetch(target, {cache: "no-store"});
  const content = await response.arrayBuffer();
  const hash = await crypto.subtle.digest("SHA-256", content);
  return {
    status: response.status, coding: response.headers.get("Content-Encoding"),
    length: Number(response.headers.get("Content-Length")), nbytes: content.byteLength,
    digest: Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join(""),
  };
}))}))
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


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
    with ForkedServer(root, USE_TLS="true") as running:
        yield running


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where the page comes from."""
    with page_origin() as served:
        yield served


def large_columns() -> dict[str, bytes]:
    """A day of many ticks a second, each price another."""
    times = (u32(DAY_START_S + second) * TICKS_A_SECOND for second in range(DAY_S))
    return {"time": b"".join(times), "price": marks(TICKS_A_SECOND * DAY_S)}


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


def test_page_of_ours_comes_in_zstd_and_reads_zstd(
    root: str, server: RunningServer, browser: Browser
) -> None:
    """Its own files, a description, text, and columns where it asks: as if they were not coded."""
    base = f"https://localhost:{server.port}"
    text, columns = f"{ticks_target()}&format=csv", f"{ticks_target()}&compress=zstd"
    targets = ["/openapi.json", text, columns, ticks_target()]
    found = run_page(browser, base, CODED, targets)["answers"]
    assert [each["status"] for each in found] == [200] * 4
    assert [each["coding"] for each in found] == ["zstd", "zstd", "zstd", None]
    assert all(each["length"] < each["nbytes"] for each in found[:3])
    assert found[2]["digest"] == found[3]["digest"] == hashlib.sha256(ticks_body(root)).hexdigest()
    assets = [
        event["params"]["response"]
        for event in browser.events
        if event.get("method") == "Network.responseReceived"
        and "/ui/" in event["params"]["response"]["url"]
    ]
    assert assets
    coded = [asset["headers"].get("content-encoding") for asset in assets]
    assert coded.count("zstd") > len(assets) / 2
