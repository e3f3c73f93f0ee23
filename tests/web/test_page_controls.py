"""The page's controls in Chromium: export, keys, panes, looks, a phone."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.blackbox.chromium import CHROMIUM
from tests.storage.trees import start_of
from tests.web.market import BTC_VIEW, DAYS, LIVE, expected
from tests.web.tab import HEIGHT, SHIFT, WIDTH, Tab

if TYPE_CHECKING:
    from pathlib import Path

    from tests.naive_bars import Tick
    from tests.server import RunningServer

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

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
