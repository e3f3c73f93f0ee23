"""The page in Chromium: what it draws, how it moves, what it takes along."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import polars as pl
import pytest

from tests.blackbox.chromium import CHROMIUM, Browser, chromium
from tests.naive_bars import length_of
from tests.server import RunningServer
from tests.storage.trees import start_of
from tests.web.market import (
    DAYS,
    LIVE,
    MISSING,
    Recorder,
    drawn,
    expected,
    make_market,
    within,
)
from tests.web.tab import HEIGHT, SHIFT, WIDTH, Tab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.naive_bars import Tick

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

TRANSFERRED_MAX = 350_000
HALF = 315
"""A turn of the wheel that halves or doubles the span."""

BTC_VIEW = "#/coinbase/BTC-USD/MD"

LABELS = """
window.draws = [];
const { clearRect, fillText } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.clearRect = function (...where) {
  window.draws.push({ height: this.canvas.height, labels: [] });
  return clearRect.call(this, ...where);
};
CanvasRenderingContext2D.prototype.fillText = function (text, ...where) {
  window.draws.at(-1)?.labels.push(text);
  return fillText.call(this, text, ...where);
};
"""
"""Keeps the texts of each drawing, and the height of its canvas."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The markets."""
    path = tmp_path_factory.mktemp("page")
    yield str(path)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def ticks(root: str) -> list[Tick]:
    """Every record of BTC-USD."""
    return make_market(root)


@pytest.fixture(scope="module")
def recorder(root: str) -> Recorder:
    """What appends to LIVE."""
    return Recorder(root)


@pytest.fixture(scope="module")
def server(root: str, ticks: list[Tick], recorder: Recorder) -> Iterator[RunningServer]:
    """The server of the page."""
    assert ticks
    assert recorder.ticks
    with RunningServer(root) as running:
        yield running


@pytest.fixture(scope="module")
def base(server: RunningServer) -> str:
    """Where the page is."""
    return f"http://127.0.0.1:{server.port}/"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of all tests."""
    with chromium(str(tmp_path_factory.mktemp("profile"))) as running:
        yield running


@pytest.fixture(scope="module")
def only_tab(browser: Browser) -> Tab:
    """One tab for all tests: another costs a second of processor time."""
    return Tab(browser)


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    """The tab, as new; the page in it must not have complained about anything."""
    only_tab.forget()
    yield only_tab
    complaints = only_tab.complaints()
    only_tab.evaluate("sessionStorage.clear()")
    assert complaints == []


def assert_draws(tab: Tab, ticks: list[Tick]) -> None:
    """Candles and volume are those of a naive reading of every record."""
    start_s, end_s = tab.view()
    candles, volume = tab.panes()[:2]
    for pane, columns in ((candles, "price:ohlc"), (volume, "volume:sum")):
        seconds = length_of(pane["interval"])
        wanted = expected(ticks, columns, pane["interval"], start_s, end_s)
        assert within(drawn(pane), start_s, end_s, seconds) == wanted
        assert wanted


def await_live(tab: Tab, ticks: list[Tick]) -> None:
    """Wait until the live stream has brought every record that tiles leave to it, and no other."""
    times = [tick.time for tick in ticks]
    tab.until(
        "((times) => { const tail = window.zerocopy.chart.loader?.tail; return tail && "
        f"tail.length === times.filter((time) => time >= tail.edge).length }})({times})"
    )
    tab.idle()


def test_first_visit_finds_a_symbol_and_draws_its_values(
    browser: Browser, base: str, ticks: list[Tick]
) -> None:
    """By the search field alone; below 350 KB, and nothing from another origin."""
    tab = Tab(browser)
    tab.open_chart(base)
    assert tab.evaluate("document.querySelectorAll('#symbols [role=option]').length") == 3
    tab.key("/")
    tab.write("btcusd")
    tab.key("Enter")
    tab.until("window.zerocopy.state().symbol === 'BTC-USD'")
    tab.until("window.zerocopy.panes()[0].x.length")
    tab.key("0")
    tab.idle()
    assert tab.text("#title") == "BTC-USD"
    assert_draws(tab, ticks)
    transferred = tab.transferred()
    assert sum(transferred.values()) < TRANSFERRED_MAX
    assert {f"http://{urlsplit(url).netloc}/" for url in transferred} == {base}
    assert tab.complaints() == []
    tab.close()


PIXEL = """
(() => {
  const pane = window.zerocopy.chart.panes[0];
  const value = (kind, index) => pane.data.columns.get(`price.${kind}`)[index];
  const [from, to] = pane.range();
  let best = from;
  for (let index = from + 1; index < to - 1; index++) {
    const size = (at) => Math.abs(value("close", at) - value("open", at)) || 0;
    if (size(index) > size(best)) best = index;
  }
  const canvas = pane.element.querySelector("canvas");
  const [box, over] = [canvas.getBoundingClientRect(), pane.over.getBoundingClientRect()];
  const scale = canvas.width / box.width;
  const x = (pane.xOf(pane.data.x[best]) + over.left - box.left) * scale;
  const column = canvas.getContext("2d").getImageData(Math.round(x), 0, 1, canvas.height).data;
  const at = (height) => {
    const y = Math.round((pane.yOf(height) + over.top - box.top) * scale);
    return [...column.slice(4 * y, 4 * y + 4)];
  };
  const [open, close, high] = ["open", "close", "high"].map((kind) => value(kind, best));
  const above = at(high + (high - close) * 3 + 5);
  return { body: at((open + close) / 2), above, isUp: close >= open };
})()
"""


def test_pixels_are_where_the_values_are(tab: Tab, base: str) -> None:
    """The body of the largest candle has the colour of its direction, the place above it none."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-30T06:00Z&to=2025-01-30T18:00Z")
    found = tab.evaluate(PIXEL)
    up, down = [0x12, 0x8A, 0x78, 255], [0xCF, 0x4A, 0x45, 255]
    assert found["body"] == (up if found["isUp"] else down)
    assert found["above"][3] == 0  # nothing was drawn there


def test_crosshair_tells_exact_values_in_either_zone(
    tab: Tab, base: str, ticks: list[Tick]
) -> None:
    """The legend has the bar under the pointer, the foot its time: UTC, or that of the machine."""
    tab.call("Emulation.setTimezoneOverride", timezoneId="America/New_York")
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-30T06:00Z&to=2025-01-30T18:00Z")
    x, y = tab.middle(".pane .plot")
    tab.mouse("mouseMoved", x, y)
    tab.until("document.querySelector('#pointed').textContent")
    told = tab.text("#pointed")
    begin_s = datetime.fromisoformat(told.replace(" UTC", "+00:00")).timestamp()
    interval = tab.panes()[0]["interval"]
    [row] = expected(ticks, "price:ohlc", interval, begin_s, begin_s + length_of(interval))
    _, close, high, low, open_ = row
    values = zip("OHLC", (open_, high, low, close), strict=True)
    assert tab.text(".legend") == "".join(f"{letter} {value:.8g}" for letter, value in values)
    tab.key("u")
    tab.until("document.querySelector('#pointed').textContent.endsWith('local')")
    local = datetime.fromisoformat(tab.text("#pointed").replace(" local", "-05:00"))
    assert local.timestamp() == begin_s
    tab.idle()


def test_ten_levels_in_and_out_again_is_the_same_picture(
    tab: Tab, base: str, ticks: list[Tick]
) -> None:
    """From days to single records and back, by the wheel: values are right at each level."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-26T18:00Z&to=2025-02-01T06:00Z")
    view = tab.view()
    before = in_view(tab, view)
    x, y = tab.middle(".pane .plot")
    modes = []
    for _ in range(10):
        tab.wheel(x, y, -HALF)
        tab.idle()
        pane = tab.panes()[0]
        modes.append(pane["interval"] or pane["mode"])
        if pane["mode"] == "bars":
            assert_draws(tab, ticks)
    assert modes[-1] == "ticks"
    assert len(set(modes)) >= 3
    start_s, end_s = tab.view()
    assert end_s - start_s == pytest.approx((view[1] - view[0]) / 1024, rel=0.01)
    single = [(tick.time, tick.values["price"]) for tick in ticks if start_s <= tick.time < end_s]
    assert within(drawn(tab.panes()[0]), start_s, end_s, 0) == single
    for _ in range(10):
        tab.wheel(x, y, HALF)
        tab.idle()
    assert tab.view() == pytest.approx(view, abs=1)
    assert in_view(tab, view) == before


def in_view(tab: Tab, view: tuple[float, float]) -> list[tuple[object, ...]]:
    """What the panes draw between these seconds: beside them lies what was loaded ahead."""
    return [
        (pane["kind"], pane["columns"], pane["interval"],
         within(drawn(pane), *view, length_of(pane["interval"])))
        for pane in tab.panes()
    ]  # fmt: skip


def test_missing_day_is_marked_and_no_line_crosses_it(tab: Tab, base: str) -> None:
    """The gap is known, and a line has a hole there."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-28T00:00Z&to=2025-01-31T00:00Z&panes=line:price")
    begin_s = start_of(MISSING)
    assert tab.evaluate("window.zerocopy.chart.loader.gaps") == [[begin_s, begin_s + 86_400]]
    pane = tab.panes()[0]
    holes = [x for x, value in zip(pane["x"], pane["values"]["price.close"], strict=True)
             if value is None]  # fmt: skip
    assert holes == [begin_s]


def test_pan_finds_its_neighbours_there(tab: Tab, base: str, ticks: list[Tick]) -> None:
    """With the network gone, a drag over half the width still shows every bar."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-31T04:00Z&to=2025-01-31T10:00Z")
    assert tab.panes()[0]["interval"] == "5m"  # 256 of them: the tile in view begins at 02:40
    tab.until("window.zerocopy.chart.loader.cachedTiles >= 2")
    tab.until("window.zerocopy.chart.loader.loading === 0")
    before = tab.view()
    tab.evaluate("window.zerocopy.chart.pause()")
    tab.call("Network.emulateNetworkConditions", offline=True, latency=0,
             downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip
    x, y = tab.middle(".pane .plot")
    tab.drag(x - 200, y, x + 200)
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    after = tab.view()
    assert after[0] < start_of(DAYS[3]) + 2 * 3600
    assert after[1] - after[0] == pytest.approx(before[1] - before[0])
    assert_draws(tab, ticks)
    tab.call("Network.emulateNetworkConditions", offline=False, latency=0,
             downloadThroughput=-1, uploadThroughput=-1)  # fmt: skip
    tab.idle()
    tab.browser.events.clear()  # whatever was asked while there was no network


LABEL_NEAREST_TO_THE_TAG = """
(() => {
  const { chart } = window.zerocopy;
  const [pane] = chart.panes;
  const tag = pane.yOf(chart.newest("price"));
  const values = pane.labels.filter(Boolean).map((label) => Number(label.replace(/,/g, "")));
  return Math.min(...values.map((value) => Math.abs(pane.yOf(value) - tag)));
})()
"""


def test_live_appends_are_followed_exactly(tab: Tab, base: str, recorder: Recorder) -> None:
    """The last bar is that of all records, and the view moves on with the newest."""
    tab.open_chart(f"{base}#/{LIVE.exchange}/{LIVE.symbol}/{LIVE.type}?last=400")
    tab.until("window.zerocopy.state().live === 'open'")
    for count in (1, 7, 300):
        recorder.append(count)
        newest_s = recorder.ticks[-1].time
        await_live(tab, recorder.ticks)
        assert tab.view()[1] > newest_s
        assert_draws(tab, recorder.ticks)
    tab.evaluate("window.zerocopy.chart.pause()")  # as a tab that nobody sees
    recorder.append(200)
    tab.evaluate("window.zerocopy.chart.resume()")
    newest_s = recorder.ticks[-1].time
    tab.until(f"window.zerocopy.chart.loader.tail.edge === {newest_s}")
    await_live(tab, recorder.ticks)
    assert_draws(tab, recorder.ticks)
    assert tab.text("#price") == f"{recorder.ticks[-1].values['price']:g}"
    apart = tab.evaluate(LABEL_NEAREST_TO_THE_TAG)
    assert apart >= 15  # CSS pixels: the tag of the newest value cuts no label


def test_range_is_selected_and_history_goes_back(tab: Tab, base: str) -> None:
    """Shift and drag zoom; back and forward go through what was chosen, symbols included."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-27T00:00Z&to=2025-01-29T00:00Z")
    x, y = tab.middle(".pane .plot")
    tab.drag(x - 100, y, x + 100, modifiers=SHIFT)
    tab.idle()
    selected = tab.view()
    assert selected[1] - selected[0] < 2 * 86_400 / 3
    tab.key("/")
    tab.write("eth")
    tab.key("Enter")
    tab.until("window.zerocopy.state().symbol === 'ETH-USD' && window.zerocopy.panes()[0].x.length")
    tab.idle()
    assert tab.evaluate("location.hash").startswith("#/binance/ETH-USD")
    tab.evaluate("history.back()")
    tab.until("window.zerocopy.state().symbol === 'BTC-USD' && window.zerocopy.panes()[0].x.length")
    tab.idle()
    assert tab.view() == pytest.approx(selected, abs=0.01)
    tab.evaluate("history.back()")
    tab.until(f"window.zerocopy.chart.view.end - window.zerocopy.chart.view.start > {86_400 * 1.9}")
    marks = "performance.getEntriesByName('zerocopy:drawn').length"
    assert tab.evaluate(marks) == 3  # of three series opened; another view of one opens none
    tab.evaluate("history.forward()")
    tab.until(f"window.zerocopy.chart.view.end - window.zerocopy.chart.view.start < {86_400 * 1.4}")
    tab.idle()
    assert tab.evaluate(marks) == 3


def test_address_is_all_that_is_needed_to_share_a_view(tab: Tab, base: str) -> None:
    """Panes, times and zone of an address are shown, and stay in it."""
    address = (
        "#/coinbase/BTC-USD/MD?from=2025-01-30T06:00Z&to=2025-01-30T09:30Z"
        "&panes=line:price;bars:volume;line:volume,price&zone=local"
    )
    tab.open_chart(base + address)
    kinds = tab.evaluate("window.zerocopy.chart.specs.map(({kind, columns}) => [kind, ...columns])")
    assert kinds == [["line", "price"], ["bars", "volume"], ["line", "volume", "price"]]
    assert tab.view() == (start_of(DAYS[2]) + 6 * 3600, start_of(DAYS[2]) + 9.5 * 3600)
    tab.key("+")
    tab.key("-")
    tab.until("location.hash.includes('zone=local')")
    tab.click("#zone")
    tab.until("!location.hash.includes('zone=local')")
    tab.idle()


def test_export_takes_along_what_is_seen(
    tab: Tab, base: str, server: RunningServer, ticks: list[Tick], tmp_path: Path
) -> None:
    """CSV, Parquet and Arrow hold the records in view; the commands run as they are copied."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-30T06:00Z&to=2025-01-30T07:00Z")
    tab.key("e")
    tab.until("document.querySelector('#export[open]')")
    links = dict(tab.evaluate(
        "[...document.querySelectorAll('#export-links a')].map((a) => [a.textContent, a.href])"
    ))  # fmt: skip
    start_s = start_of(DAYS[2]) + 6 * 3600
    seen = [tick for tick in ticks if start_s <= tick.time < start_s + 3600]
    wanted = [(tick.time, tick.values["price"], tick.values["volume"]) for tick in seen]

    def body(label: str) -> bytes:
        answer = server.get(links[label].removeprefix(base.rstrip("/")))
        assert answer.status == 200
        return answer.content

    rows = list(csv.reader(io.StringIO(body("CSV").decode())))
    assert rows[0] == ["time", "price", "volume"]
    assert [(int(row[0]), float(row[1]), float(row[2])) for row in rows[1:]] == wanted
    for table in (pl.read_parquet(body("Parquet")), pl.read_ipc_stream(body("Arrow"))):
        assert table.select("time", "price", "volume").rows() == wanted
    assert tab.text("#export-status") == ""
    tab.click("#export-curl-copy")  # headless, there is no clipboard
    tab.until("/^(Copied|Selected)/.test(document.querySelector('#export-status').textContent)")
    command = tab.text("#export-curl")
    subprocess.run(["bash", "-c", command], check=True, cwd=tmp_path, capture_output=True)
    [saved] = tmp_path.iterdir()
    assert saved.read_bytes() == body("CSV")
    if find_spec("zerocopy.client") is not None:
        script = tab.text("#export-python").replace("print(frame)", "print(len(frame))")
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        )
        assert int(done.stdout) == len(wanted)


def test_export_offers_the_bars_that_are_drawn(
    tab: Tab, base: str, server: RunningServer, ticks: list[Tick]
) -> None:
    """Where bars are drawn, they can be taken as CSV."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-30T00:00Z&to=2025-01-31T00:00Z")
    interval = tab.panes()[0]["interval"]
    tab.click("#show-export")
    href = tab.evaluate("document.querySelector('#export-links a:last-child').href")
    answer = server.get(href.removeprefix(base.rstrip("/")))
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    begin_s = start_of(DAYS[2])
    wanted = expected(ticks, "price:ohlc", interval, begin_s, begin_s + 86_400)
    assert [float(row["price.close"]) for row in rows] == [row[1] for row in wanted]


def test_keyboard_alone_reaches_everything(tab: Tab, base: str, ticks: list[Tick]) -> None:
    """Keys move the view; Tab reaches each control, and each has a name."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-28T00:00Z&to=2025-01-30T00:00Z")
    before = tab.view()
    tab.key("ArrowLeft")
    assert tab.view()[0] < before[0]
    tab.key("ArrowRight")
    assert tab.view() == pytest.approx(before)
    tab.key("+")
    assert tab.view()[1] - tab.view()[0] < before[1] - before[0]
    tab.key("Home")
    assert tab.view()[0] < ticks[0].time < tab.view()[1]
    tab.key("End")
    assert tab.view()[0] < ticks[-1].time < tab.view()[1]
    tab.key("0")
    tab.idle()
    start_s, end_s = tab.view()
    assert start_s < ticks[0].time < ticks[-1].time < end_s
    tab.key("ArrowLeft", SHIFT)
    tab.until("document.querySelector('#told').textContent.includes('O ')")
    tab.call("Accessibility.enable")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "link", "combobox", "textbox", "searchbox", "radio", "checkbox",
                "DisclosureTriangle", "listbox", "img"}  # fmt: skip
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in controls
    ]
    assert len(named) > 15
    assert [role for role, name in named if not name.strip()] == []
    reached = set()
    for _ in range(40):
        tab.key("Tab")
        reached.add(tab.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"search", "follow", "zone", "add-pane", "show-export", "theme", "show-help",
            "SUMMARY"} <= reached  # fmt: skip


def test_pane_is_added_changed_and_removed(tab: Tab, base: str) -> None:
    """A pane of its own columns, by its menu."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-28T00:00Z&to=2025-01-30T00:00Z")
    tab.click("#add-pane")
    tab.until("window.zerocopy.panes().length === 3 && window.zerocopy.panes()[2].x.length")
    menu = ".pane:last-child .menu-body"
    tab.evaluate(f"document.querySelector('{menu} input[type=radio]:nth-of-type(1)').click()")
    tab.until("window.zerocopy.panes()[2].kind === 'candles'")
    tab.evaluate(f"document.querySelector('{menu} button:last-child').click()")
    tab.until("window.zerocopy.panes().length === 2")
    tab.idle()


def test_light_and_dark_follow_the_system_until_told(tab: Tab, base: str) -> None:
    """And the canvas takes its colours from the same place."""
    tab.prefer("dark")
    tab.open_chart(f"{base}{BTC_VIEW}")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert tab.evaluate(ground) == "rgb(17, 20, 22)"
    tab.prefer("light")
    tab.until(f"{ground} === 'rgb(251, 251, 250)'")
    tab.key("t")
    tab.until(f"{ground} === 'rgb(17, 20, 22)'")
    tab.idle()


def test_every_value_in_sight_is_labelled_after_the_window_grew(tab: Tab, base: str) -> None:
    """The zero at the foot of the bars as well, which lies below where the smaller pane ended."""
    tab.open_chart(f"{base}{BTC_VIEW}?from=2025-01-28T00:00Z&to=2025-01-30T00:00Z")
    height = "document.querySelector('.pane:last-child canvas').height"
    before = tab.evaluate(height)
    tab.evaluate(LABELS)
    tab.resize(WIDTH, HEIGHT + 300)
    at_foot = f"window.draws.filter((draw) => draw.height === {height})"
    tab.until(f"{height} > {before} && {at_foot}.length")
    tab.idle()
    assert tab.evaluate(f"{at_foot}.every(({{ labels }}) => labels.some((label) => +label === 0))")


def test_phone_has_no_sideways_scroll(tab: Tab, base: str) -> None:
    """At 360 CSS pixels everything fits, and the list of symbols opens over the chart."""
    tab.resize(360, 740, is_phone=True)
    tab.open_chart(f"{base}{BTC_VIEW}")
    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    tab.click("#open-list")
    tab.until("getComputedStyle(document.querySelector('#sidebar')).visibility === 'visible'")
    tab.click("#symbols li:last-child")
    tab.until("getComputedStyle(document.querySelector('#sidebar')).visibility === 'hidden'")
    tab.until(f"window.zerocopy.state().symbol === '{LIVE.symbol}'")
    tab.idle()
    assert tab.evaluate("window.zerocopy.chart.panes[0].plotWidth") > 200
    before = tab.view()
    x, y = tab.middle(".pane .plot")
    tab.pinch(x, y, 60, 120)
    tab.idle()
    after = tab.view()
    assert after[1] - after[0] == pytest.approx((before[1] - before[0]) / 2, rel=0.05)


def test_what_matches_nothing_or_is_not_there_says_what_to_do(tab: Tab, base: str) -> None:
    """No match offers all symbols; an address of a symbol that is gone says so."""
    tab.open_chart(f"{base}{BTC_VIEW}")
    tab.key("/")
    tab.write("zzz")
    tab.until("document.querySelector('#symbols-told').textContent.includes('No symbol matches')")
    tab.click("#symbols-told button")
    tab.until("document.querySelectorAll('#symbols [role=option]').length === 3")
    tab.evaluate("location.hash = '#/coinbase/GONE/MD'")
    tab.until("document.querySelector('#notice').textContent.includes('There is no GONE')")
    assert [text for text in tab.complaints() if "404" not in text] == []
    tab.browser.events.clear()
