"""The examples of docs/live.md in a real browser: EventSource and WebSocket, over a reload too."""

from __future__ import annotations

import os
import re
import signal
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.blackbox.chromium import CHROMIUM, Browser, page_origin, run_page
from tests.faults.client import poll
from tests.server import ForkedServer, RunningServer
from tests.storage.trees import DAY, DAY_START_S, append, path_of, put, u32
from zerocopy.core.cursor import Cursor
from zerocopy.core.layout import day_of
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

PAGE = Path(__file__).parents[2] / "docs" / "live.md"
SERIES = Series("coinbase", "BTC-USD", "MD")
FIRST = [1.5, 2.5, 3.5]
LATER = [4.5, 5.5]

SCRIPT = """
((base, socketBase, cursor, count) => new Promise((resolve) => {
  const told = [];
  const console = {
    warn: (...words) => resolve({told, words}),
    log: (...words) => {
      told.push(words);
      if (told.flatMap((each) => each[2]).length >= count) resolve({told, words: []});
    },
  };
  %s
}))
"""


def example(constructor: str) -> str:
    """The script of the page that makes such an object, from a cursor and of this server."""
    blocks = re.findall(r"```js\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    block: str
    [block] = [block for block in blocks if f"new {constructor}(" in block]
    block = block.replace('"wss://data.example.com/api', 'socketBase + "/api')
    block = block.replace('"/api', 'base + "/api').replace("socketBase + base + ", "socketBase + ")
    return SCRIPT % block.replace('price";', 'price&from=" + cursor;')


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of one server."""
    return str(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def server(root: str) -> Iterator[RunningServer]:
    """The server that the page asks."""
    with ForkedServer(root, USE_TLS="true") as running:
        yield running


@pytest.fixture
def series(root: str) -> Series:
    """Three records, as the examples name them; what another test has appended is gone."""
    columns = {"time": u32(*[DAY_START_S] * len(FIRST)), "price": array("f", FIRST).tobytes()}
    put(root, columns, DAY, SERIES)
    return SERIES


def run(server: RunningServer, browser: Browser, constructor: str, count: int) -> dict[str, Any]:
    """What the example tells until it has so many records."""
    with page_origin() as origin:
        bases = (f"{scheme}://127.0.0.1:{server.tls_port}" for scheme in ("https", "wss"))
        cursor = str(Cursor(day_of(DAY_START_S), 0))
        return run_page(browser, origin, example(constructor), *bases, cursor, count)


def test_event_source_goes_on_after_a_reload(
    server: RunningServer, browser: Browser, root: str, series: Series
) -> None:
    """The browser reconnects by itself, with the id of the last event: each record once."""
    before = server.metric("zerocopy_live_records_total")

    def reload_then_append() -> None:
        first = before + len(FIRST)
        poll(lambda: server.metric("zerocopy_live_records_total") >= first, "the first", 20)
        os.kill(server.pid, signal.SIGHUP)
        poll(lambda: server.event("reloaded") is not None, "the reload", 20)
        append(path_of(root, "price", DAY, series), array("f", LATER).tobytes())
        append(path_of(root, "time", DAY, series), u32(*[DAY_START_S] * len(LATER)))

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(reload_then_append)
        found = run(server, browser, "EventSource", len(FIRST + LATER))
        writing.result()
    assert found["words"] == []
    assert [value for _, _, values in found["told"] for value in values] == FIRST + LATER
    assert found["told"][-1][0].endswith(".5")


@pytest.mark.usefixtures("series")
def test_web_socket_gets_typed_arrays(server: RunningServer, browser: Browser) -> None:
    """First the cursor alone, then the records that lie behind it."""
    found = run(server, browser, "WebSocket", len(FIRST))
    opening, records = found["told"]
    assert opening[0].endswith(".0")
    assert opening[1:] == [0, []]
    assert records[0].endswith(".3")
    assert records[1:] == [len(FIRST), FIRST]
