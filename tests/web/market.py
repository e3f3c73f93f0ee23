"""Small markets for the page, made by hand, and what it must draw of them."""

from __future__ import annotations

import math
import time
from array import array
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.naive_bars import Tick, length_of, naive_bars
from tests.storage.trees import append, path_of, put, replace, start_of
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

BTC = Series("coinbase", "BTC-USD", "MD")
ETH = Series("binance", "ETH-USD", "TRADES")
LIVE = Series("coinbase", "LIVE", "MD")
DTYPES = {"time": "u4", "price": "f4", "volume": "f4"}

FIRST_DAY = date(2025, 1, 27)
DAYS = [FIRST_DAY + timedelta(offset) for offset in (0, 1, 3, 4)]
MISSING = date(2025, 1, 29)

BTC_VIEW = "#/coinbase/BTC-USD/MD"
"""The address of BTC in the page."""

RECORDS = 4_000
"""Of each day."""

LIVE_RATE = 5
LIVE_SECONDS = 900


def ticks_of(day: date, file: int) -> list[Tick]:
    """The records of a day; every number is exact in f4, so that sums are exact in f8."""
    begin_s = start_of(day)
    ticks = []
    for index in range(RECORDS):
        wave = math.floor(400 * math.sin((file * RECORDS + index) / 700) + (index * 7919) % 29)
        values = {"price": 100 + wave / 4, "volume": float(1 + (index * 31) % 17)}
        ticks.append(Tick(file, begin_s + index * 86_400 // RECORDS, values))
    return ticks


def live_ticks(begin_s: int, first: int, count: int) -> list[Tick]:
    """Records of `LIVE`, some a second, from the `first` on."""
    return [
        Tick(0, begin_s + index // LIVE_RATE, {"price": 50 + (index * 37) % 41 / 8, "volume": 1.0})
        for index in range(first, first + count)
    ]


def columns_of(ticks: Iterable[Tick]) -> dict[str, bytes]:
    """The files of some records; `time` last, as a recorder flushes."""
    ticks = list(ticks)
    return {
        "price": array("f", [tick.values["price"] for tick in ticks]).tobytes(),
        "volume": array("f", [tick.values["volume"] for tick in ticks]).tobytes(),
        "time": array("I", [tick.time for tick in ticks]).tobytes(),
    }


def make_market(root: str) -> list[Tick]:
    """`BTC` and `ETH`; the records of both."""
    ticks = []
    for file, day in enumerate(DAYS):
        some = ticks_of(day, file)
        put(root, columns_of(some), day, BTC)
        put(root, columns_of(some), day, ETH)
        ticks += some
    return ticks


class Recorder:
    """`LIVE`: a day that is written now, and grows when told to."""

    def __init__(self, root: str) -> None:
        now_s = int(time.time())
        self._day = datetime.fromtimestamp(now_s, UTC).date()
        begin_s = start_of(self._day)
        # Everything lies in one day, however late it is.
        self._begin_s = begin_s + min(max(0, now_s - begin_s - LIVE_SECONDS), 80_000)
        self._root = root
        self.ticks = live_ticks(self._begin_s, 0, LIVE_RATE * LIVE_SECONDS)
        put(root, columns_of(self.ticks), self._day, LIVE)

    def append(self, count: int) -> None:
        """Some records more, flushed column by column."""
        some = live_ticks(self._begin_s, len(self.ticks), count)
        for column, content in columns_of(some).items():
            append(path_of(self._root, column, self._day, LIVE), content)
        self.ticks += some

    def replace(self, after_first: Callable[[], object] = lambda: None) -> None:
        """Fewer records with other prices in the place of all, as a backfill does.

        Column by column: `after_first` is called when the first has been replaced.
        """
        self.ticks = [
            Tick(0, tick.time, {"price": tick.values["price"] + 100, "volume": 2.0})
            for tick in self.ticks[: LIVE_RATE * LIVE_SECONDS // 2]
        ]
        for index, (column, content) in enumerate(columns_of(self.ticks).items()):
            replace(path_of(self._root, column, self._day, LIVE), content)
            if index == 0:
                after_first()


def drawn(pane: dict[str, Any]) -> list[tuple[float, ...]]:
    """What a pane draws: of each bar or record its place and its values; gaps left out."""
    columns = [values for _, values in sorted(pane["values"].items())]
    rows = zip(pane["x"], *columns, strict=True)
    return [row for row in rows if row[1] is not None]


def expected(
    ticks: Sequence[Tick], columns: str, interval: str, start_s: float, end_s: float
) -> list[tuple[float, ...]]:
    """The bars that overlap a view, as `drawn` gives them."""
    found = naive_bars(ticks, columns, interval, DTYPES)
    half = length_of(interval) / 2
    middles = [begin + half for begin in found[0][2]]
    others = [values for _, _, values in sorted(found[1:])]
    return within(zip(middles, *others, strict=True), start_s, end_s, 2 * half)


def within(
    rows: Iterable[tuple[float, ...]], start_s: float, end_s: float, seconds: float
) -> list[tuple[float, ...]]:
    """The rows whose bars overlap a view."""
    half = seconds / 2
    return [row for row in rows if start_s < row[0] + half and row[0] - half < end_s]
