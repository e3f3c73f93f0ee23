"""What the page draws, compared with a naive reading of every record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.naive_bars import length_of
from tests.web.market import drawn, expected, within

if TYPE_CHECKING:
    from tests.naive_bars import Tick
    from tests.web.tab import Tab


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
