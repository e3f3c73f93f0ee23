"""Series that are unlike most: one record, none, text alone, infinities, a crowded second."""

from __future__ import annotations

import os
import shutil
import struct
import time
from array import array
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.blackbox.chromium import CHROMIUM
from tests.server import ForkedServer
from tests.storage.trees import DAY, DAY_S, DAY_START_S, put, u32
from tests.web.tab import WIDTH, Tab
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

CROWD = 20_000
LONG = "L" * 64
MINUTES = 12 * 60
HOUR_S = 3600
PARTIAL = Series("coinbase", "PARTIAL", "MD")
OLD_S = 2 * HOUR_S
CONFIG = '[columns]\norder = "S16"\n'


# Moves the view and chooses another symbol in one turn of the event loop. Timers fire at once, and
# the catalog of that symbol comes after them.
CHOOSE_AT_ONCE = """
(async () => {
  const { fetch, setTimeout } = window;
  const { replaceState } = history;
  const fired = new Promise((done) => setTimeout(() => setTimeout(done)));
  window.hashes = [];
  history.replaceState = (...all) => { hashes.push(all[2]); replaceState.apply(history, all); };
  window.setTimeout = (act) => setTimeout(act);
  window.fetch = async (...all) => { await fired; return fetch(...all); };
  window.zerocopy.chart.key("ArrowLeft", false);
  document.querySelector("#symbols li").click();
  await fired;
  Object.assign(window, { fetch, setTimeout });
})()
"""


# Chooses another symbol and goes back before its catalog has come; resolves when it has.
GO_BACK_AT_ONCE = """
(async () => {
  const { fetch } = window;
  const isBack = new Promise((done) => addEventListener("popstate", done, { once: true }));
  let told;
  const isTold = new Promise((done) => { told = done; });
  window.fetch = async (...all) => {
    const response = await isBack.then(() => fetch(...all));
    const text = await response.clone().text();
    setTimeout(told);
    return new Response(text, { headers: response.headers });
  };
  document.querySelector("#symbols li").click();
  history.back();
  await isTold;
  window.fetch = fetch;
})()
"""


def f4(*values: float) -> bytes:
    """Little-endian f4 records."""
    return struct.pack(f"<{len(values)}f", *values)


def minute_bars() -> list[tuple[str, str, list[float]]]:
    """Twelve hours of bars of a minute, whose highs and lows are not among the other prices."""
    opens = [float(100 + index * 7 % 13) for index in range(MINUTES)]
    return [
        ("open", "f", opens),
        ("high", "f", [each + 5 + index % 3 for index, each in enumerate(opens)]),
        ("low", "f", [each - 4 - index % 5 for index, each in enumerate(opens)]),
        ("close", "f", [each + index % 2 for index, each in enumerate(opens)]),
        ("time", "I", [DAY_START_S + 60 * index for index in range(MINUTES)]),
    ]


def make_root(root: str) -> None:
    """A symbol of each kind; the first ones in the list are of equal age, `OLDER` is not."""
    times = u32(*range(DAY_START_S, DAY_START_S + 1000))
    walk = array("f", [100 + index % 7 for index in range(1000)])
    walk[400], walk[500], walk[600] = float("inf"), float("-inf"), float("nan")
    roots = {
        "ONE": {"time": u32(DAY_START_S), "price": f4(42)},
        "NONE": {"time": b"", "price": b""},
        "TEXT": {"time": times, "order": b"0123456789abcdef" * 1000},
        "INFINITE": {"time": times, "price": walk.tobytes()},
        "CROWDED": {"time": u32(DAY_START_S) * CROWD, "price": f4(1) * CROWD},
        "TINY": {"time": times, "price": f4(*(1.2e-10 + index * 1e-14 for index in range(1000)))},
        LONG: {"time": times, "price": f4(*range(1000))},
        "BARS": {name: array(code, values).tobytes() for name, code, values in minute_bars()},
        "OLDER": {"time": times, "price": f4(*range(1000))},
    }
    now_s = time.time()
    for place, (name, columns) in enumerate(roots.items()):
        age_s = OLD_S if name == "OLDER" else 3 * place  # the list is in none of these orders
        for path in put(root, columns, DAY, Series("coinbase", name, "MD")).values():
            os.utime(path, (now_s - age_s, now_s - age_s))
    put(root, roots["ONE"], DAY, Series("coinbase", "NONE", "TRADES"))
    for day in range(3):
        times = u32(*range(DAY_START_S + day * DAY_S, DAY_START_S + (day + 1) * DAY_S, 60))
        columns = {"price": f4(*range(1440)), "time": times}
        if day != 1:
            columns["volume"] = f4(1) * 1440
        for path in put(root, columns, DAY + timedelta(day), PARTIAL).values():
            os.utime(path, (now_s - 2 * OLD_S, now_s - 2 * OLD_S))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the page of these series is."""
    root: Path = tmp_path_factory.mktemp("series")
    make_root(str(root))
    config = tmp_path_factory.mktemp("config") / "config.toml"
    config.write_text(CONFIG)
    with ForkedServer(str(root), ZEROCOPY_CONFIG=str(config)) as running:
        yield f"http://127.0.0.1:{running.port}/"
    shutil.rmtree(root)


@pytest.fixture
def tab(only_tab: Tab) -> Iterator[Tab]:
    """The tab, as new; the page in it must not have complained about anything."""
    only_tab.forget()
    yield only_tab
    complaints = only_tab.complaints()
    assert [text for text in complaints if "404" not in text] == []


def open_series(tab: Tab, base: str, name: str) -> None:
    """Show all of a symbol."""
    tab.open_chart(f"{base}#/coinbase/{name}")


def labels(tab: Tab) -> list[str]:
    """What the value axis of the first pane is labelled with, as it is now."""
    found: list[str] = tab.evaluate("window.zerocopy.chart.panes[0].labels.filter(Boolean)")
    return found


@pytest.mark.parametrize(("name", "count"), [("ONE", 1), ("CROWDED", CROWD)])
def test_all_shows_each_record_of_a_single_second(
    tab: Tab, base: str, name: str, count: int
) -> None:
    """The last second is in view as a whole, and the foot counts its records."""
    open_series(tab, base, name)
    start_s, end_s = tab.view()
    assert start_s < DAY_START_S
    assert end_s > DAY_START_S + 1
    told = f"{count:,} record" if count == 1 else f"{count:,} records"
    tab.until(f"document.querySelector('#shown').textContent.endsWith('· {told}')")
    tab.until("document.querySelector('#live-told').textContent.endsWith('2025-01-31')")


def test_infinite_values_leave_the_finite_ones_in_sight(tab: Tab, base: str) -> None:
    """The axis is that of the finite values; a bar that reaches to infinity leaves the pane."""
    open_series(tab, base, "INFINITE")
    heights = tab.evaluate("[100, 106].map((value) => window.zerocopy.chart.panes[0].yOf(value))")
    pane_height = tab.evaluate("window.zerocopy.chart.panes[0].over.clientHeight")
    assert 0 < heights[1] < heights[0] < pane_height
    assert heights[0] - heights[1] > pane_height / 2


def test_tiny_prices_have_labels_that_differ(tab: Tab, base: str) -> None:
    """1.2e-10 and not 0.00000000…, which the edge of the window would cut."""
    open_series(tab, base, "TINY")
    found = labels(tab)
    assert len(found) > 3
    assert len(set(found)) == len(found)
    assert all("e-10" in text and len(text) <= 10 for text in found)


def test_without_a_column_to_draw_records_are_counted(tab: Tab, base: str) -> None:
    """Text has no height: the bars are the numbers of records; no menu offers the text."""
    open_series(tab, base, "TEXT")
    [pane] = tab.panes()
    assert (pane["kind"], pane["columns"], pane["mode"]) == ("bars", ["time"], "bars")
    assert sum(pane["values"]["time.count"]) == 1000
    assert tab.text(".legend").startswith("records ")
    tab.click("#add-pane")
    tab.until("window.zerocopy.panes().length === 2")
    assert "order" not in tab.text(".menu-body")
    tab.idle()


def test_series_without_a_record_says_so_and_offers_another_type(tab: Tab, base: str) -> None:
    """It is no chart of nothing in 1970."""
    tab.open(f"{base}#/coinbase/NONE/MD")
    tab.until("document.querySelector('#notice').textContent.includes('NONE MD has no record yet')")
    tab.evaluate("window.button = document.querySelector('#notice button')")
    asked = (
        "performance.getEntriesByType('resource').filter((e) => e.name.includes('/catalog')).length"
    )
    tab.evaluate(f"window.asked = {asked}; document.dispatchEvent(new Event('visibilitychange'))")
    tab.until(f"{asked} > window.asked")  # it has looked again, and found the same
    assert tab.evaluate("window.button.isConnected")
    tab.click("#notice button")
    tab.until("window.zerocopy.state().type === 'TRADES' && window.zerocopy.panes()[0].x.length")
    tab.idle()


def test_phone_gets_from_a_notice_to_the_list(tab: Tab, base: str) -> None:
    """The list lies behind the notice there, so a button opens it."""
    tab.resize(360, 740, is_phone=True)
    tab.open(f"{base}#/coinbase/GONE/MD")
    tab.until("document.querySelector('#notice').textContent.includes('There is no GONE')")
    tab.click("#notice .only-phone")
    tab.until("getComputedStyle(document.querySelector('#sidebar')).visibility === 'visible'")
    tab.click("#symbols li:first-child")
    tab.until("window.zerocopy.chart.series && window.zerocopy.panes()[0].x.length")
    tab.idle()


def test_list_is_calm_and_the_longest_name_fits(tab: Tab, base: str) -> None:
    """What changed in the same minute is in order of its name; older symbols come below."""
    open_series(tab, base, LONG)
    names = tab.evaluate(
        "[...document.querySelectorAll('#symbols .symbol')].map(({ textContent }) => textContent)"
    )
    assert names == [
        *sorted(["ONE", "NONE", "TEXT", "INFINITE", "CROWDED", "TINY", "BARS", LONG]),
        "OLDER",
        "PARTIAL",
    ]
    for width in (720, 800, 1000, WIDTH):
        tab.resize(width, 600)
        tab.until(f"innerWidth === {width} && document.documentElement.scrollWidth === {width}")
        right = tab.evaluate("document.querySelector('.tools').getBoundingClientRect().right")
        assert right <= width
    tab.idle()


def test_as_many_panes_as_an_address_holds(tab: Tab, base: str) -> None:
    """Six; what is shown is what a copied address shows."""
    open_series(tab, base, "OLDER")
    for _ in range(5):
        tab.evaluate("document.querySelector('#add-pane').click()")
    assert tab.evaluate("window.zerocopy.chart.specs.length") == 6
    tab.until("document.querySelector('#add-pane').disabled")
    tab.until("location.hash.split('line:').length === 6")
    tab.idle()


def test_bars_of_a_series_are_drawn_with_their_own_highs_and_lows(tab: Tab, base: str) -> None:
    """Longer candles have the first open, highest high, lowest low, last close; one has its own."""
    open_series(tab, base, "BARS")
    tab.evaluate("window.zerocopy.chart.loader.setTail(null)")
    tab.idle()
    [pane] = tab.panes()
    assert (pane["kind"], pane["columns"]) == ("candles", ["open", "high", "low", "close"])
    assert pane["interval"] == "10m"
    told = {name: values for name, _, values in minute_bars()}
    wanted = [
        [told["open"][at], max(told["high"][at : at + 10]), min(told["low"][at : at + 10]),
         told["close"][at + 9]]
        for at in range(0, MINUTES, 10)
    ]  # fmt: skip
    names = ("open.open", "high.high", "low.low", "close.close")
    drawn = zip(*(pane["values"][name] for name in names), strict=True)
    assert [list(bar) for bar in drawn] == wanted
    assert tab.text("#price") == f"{told['close'][-1]:g}"
    tab.evaluate(
        f"window.zerocopy.chart.setView({{start: {DAY_START_S}, end: {DAY_START_S + 600}}})"
    )
    tab.until("window.zerocopy.panes()[0].mode === 'ticks'")
    tab.idle()
    tab.evaluate(f"window.zerocopy.chart.point({DAY_START_S + 120})")
    tab.idle()
    assert tab.text(".legend") == "".join(
        f"{name[0].upper()} {told[name][2]:g}" for name in ("open", "high", "low", "close")
    )


def test_single_records_of_the_past_set_the_scale_alone(tab: Tab, base: str) -> None:
    """The newest records, which the live stream brought, do not: they are out of sight."""
    view = "from=2025-01-31T00:00:00Z&to=2025-01-31T00:00:20Z"
    tab.open_chart(f"{base}#/coinbase/OLDER/MD?{view}&panes=line:price")
    tab.until("window.zerocopy.state().live === 'open' && window.zerocopy.chart.loader.tail.length")
    tab.idle()
    assert tab.panes()[0]["mode"] == "ticks"
    top = tab.evaluate("window.zerocopy.chart.panes[0].yOf(25)")  # 0 to 19 are in sight
    assert top < tab.evaluate("window.zerocopy.chart.panes[0].over.clientHeight") / 4


def test_address_of_what_was_shown_never_lands_on_another_entry(tab: Tab, base: str) -> None:
    """A view is written into the address a moment later, but not once another series is chosen."""
    open_series(tab, base, "OLDER")
    tab.evaluate(CHOOSE_AT_ONCE)
    tab.until("window.zerocopy.state().symbol === 'BARS' && window.zerocopy.panes()[0].x.length")
    tab.idle()
    assert "OLDER" not in "".join(tab.evaluate("hashes"))


def test_going_back_before_a_series_has_come_stays_where_one_was(tab: Tab, base: str) -> None:
    """What was chosen and left again does not open behind the address's back."""
    open_series(tab, base, "OLDER")
    tab.until("location.hash.includes('last=')")
    tab.evaluate(GO_BACK_AT_ONCE)
    tab.idle()
    assert tab.evaluate("window.zerocopy.state().symbol") == "OLDER"
    assert tab.evaluate("location.hash").startswith("#/coinbase/OLDER")


def test_a_day_without_a_column_is_hidden_in_its_pane_alone(tab: Tab, base: str) -> None:
    """Prices of that day are drawn, and the crosshair there tells of no volume."""
    tab.open_chart(f"{base}#/coinbase/PARTIAL/MD")
    price, volume = tab.panes()
    assert (price["columns"], volume["columns"]) == (["price"], ["volume"])
    days = [{int(x - DAY_START_S) // DAY_S for x in pane["x"]} for pane in (price, volume)]
    assert days == [{0, 1, 2}, {0, 2}]
    assert tab.evaluate("window.zerocopy.chart.count") == pytest.approx(3 * 1440, rel=0.01)
    assert "skipped, a column is missing: 01.02.25" in tab.text("#shown")
    for hour, told in ((36, 0), (60, 1)):
        at_s = DAY_START_S + hour * HOUR_S
        for span_s, prices in ((3 * DAY_S, 4), (HOUR_S, 1)):  # bars, then single records
            view = f"{{ start: {at_s - span_s / 2}, end: {at_s + span_s / 2} }}"
            tab.evaluate(f"window.zerocopy.chart.setView({view})")
            tab.idle()
            tab.evaluate(f"window.zerocopy.chart.point({at_s + 1})")
            tab.idle()
            pointed = tab.evaluate("window.zerocopy.chart.pointed")
            assert [len(pane) for pane in pointed["panes"]] == [prices, told]
            assert tab.evaluate(
                "[...document.querySelectorAll('.legend')].map((each) => each.children.length)"
            ) == [prices, told]
