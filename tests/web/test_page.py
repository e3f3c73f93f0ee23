"""The page in Chromium: what it draws and how it moves."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.blackbox.chromium import CHROMIUM, Browser
from tests.naive_bars import length_of
from tests.storage.trees import start_of
from tests.web.drawn import assert_draws, await_live
from tests.web.market import BTC_VIEW, DAYS, LIVE, MISSING, Recorder, drawn, expected, within
from tests.web.tab import SHIFT, Tab

if TYPE_CHECKING:
    from tests.naive_bars import Tick

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

TRANSFERRED_MAX = 350_000
HALF = 315
"""A turn of the wheel that halves or doubles the span."""


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
