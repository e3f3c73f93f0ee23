"""Bars over arrays: exhaustive over small ones, then hypothesis, against the naive reader."""

from __future__ import annotations

import itertools
import math
import struct
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.naive_bars import FORMATS, Number, Tick, naive_bars, outputs_of, packed
from zerocopy.core import aggregate, cuts
from zerocopy.core.aggregate import Bars
from zerocopy.core.bars import BARS_MAX, parse_interval, parse_outputs
from zerocopy.core.cuts import TooManyBarsError
from zerocopy.core.layout import parse_dtype
from zerocopy.core.timeindex import RecordRange, UnsortedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INF, NAN = math.inf, math.nan
ALL = "open+high+low+close+sum+mean+count"
INTERVALS = ("1", "2", "7", "60", "90", "1h", "100m", "1d", "1w", "2w")
MONDAY_S = 1_738_540_800  # 2025-02-03
KINDS = tuple(FORMATS)
SLOW = pytest.mark.slow


class Times:
    """Times in memory, to be bisected."""

    def __init__(self, times: Sequence[int]) -> None:
        self._times = times

    def __len__(self) -> int:
        return len(self._times)

    def at(self, index: int) -> int:
        """Return the time of one record."""
        return self._times[index]

    def window(self, first: int, stop: int) -> list[int]:
        """Return the times of several."""
        return list(self._times[first:stop])


class MemoryDay(NamedTuple):
    """A day whose columns are bytes; the first `skipped` records take no part."""

    columns: Mapping[str, bytes]
    sizes: Mapping[str, int]
    times: Times
    records: RecordRange

    def read(self, column: str, first: int, stop: int) -> memoryview:
        """Return records of a column, in a buffer that is no longer true after the next call."""
        size = self.sizes[column]
        return memoryview(bytearray(self.columns[column][first * size : stop * size]))


def day_of(rows: Sequence[tuple[int, Number]], kind: str, skipped: int = 0) -> MemoryDay:
    """A day of times and values."""
    times = [time for time, _ in rows]
    columns = {
        "time": struct.pack(f"<{len(rows)}I", *times),
        "v": struct.pack(f"<{len(rows)}{FORMATS[kind]}", *(value for _, value in rows)),
    }
    sizes = {"time": 4, "v": int(kind[1:])}
    return MemoryDay(columns, sizes, Times(times), RecordRange(skipped, len(rows)))


def computed(
    days: Sequence[MemoryDay], columns: str, interval: str, kind: str, bars_max: int = BARS_MAX
) -> list[tuple[str, bytes]]:
    """What the package makes of days, as dtype and bytes."""
    chosen = parse_interval(interval)
    assert chosen is not None
    dtypes = {"time": parse_dtype("time", "u4"), "v": parse_dtype("v", kind)}
    bars = Bars(chosen, parse_outputs(columns, 32), dtypes, bars_max)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for day in days:
            if day.records.stop > day.records.first:
                bars.add(day)
        return [(str(each.dtype.str[1:]), each.tobytes()) for each in bars.columns()]


def expected(
    days: Sequence[MemoryDay], columns: str, interval: str, kind: str
) -> list[tuple[str, bytes]]:
    """What plain Python makes of the same bytes."""
    ticks = []
    for file, day in enumerate(days):
        values = struct.unpack(f"<{len(day.times)}{FORMATS[kind]}", day.columns["v"])
        for index in range(*day.records):
            time = day.times.at(index)
            ticks.append(Tick(file, time, {"v": values[index], "time": time}))
    found = naive_bars(ticks, columns, interval, {"v": kind, "time": "u4"})
    return [(dtype, packed(dtype, values)) for _, dtype, values in found]


def check(days: Sequence[MemoryDay], interval: str, kind: str, columns: str = f"v:{ALL}") -> None:
    """Fail unless both agree, byte for byte."""
    assert computed(days, columns, interval, kind) == expected(days, columns, interval, kind)


def in_pieces(patch: pytest.MonkeyPatch, size: int) -> None:
    """Have days read in pieces of `size` records."""
    for module in (aggregate, cuts):
        patch.setattr(module, "CHUNK_RECORDS", size)


PIECES = (131_072, 1)
"""Days are read in pieces of several sizes: nothing may depend on them."""

BISECTED = (32_768, 1)
"""Times are read, or bisected wherever there is a record a bucket."""


def check_ways(
    day: MemoryDay, interval: str, kind: str, columns: str, bisected: Sequence[int]
) -> None:
    """Fail unless it agrees with the oracle, which is asked once, whatever the way it is read."""
    wanted = expected([day], columns, interval, kind)
    for size, records in itertools.product(PIECES, bisected):
        with pytest.MonkeyPatch.context() as patch:
            in_pieces(patch, size)
            patch.setattr(cuts, "BISECTED_RECORDS", records)
            assert computed([day], columns, interval, kind) == wanted, (size, records)


def test_every_small_array_of_floats_is_aggregated_as_naively() -> None:
    """All arrays of up to three of six values, over all ways to cut them into one bucket or two."""
    values = (NAN, INF, -INF, 0.0, -0.0, 1.5)
    for length in range(1, 4):
        for cut in [(59,) * first + (60,) * (length - first) for first in range(1, length + 1)]:
            for chosen in itertools.product(values, repeat=length):
                day = day_of(list(zip(cut, chosen, strict=True)), "f4")
                check_ways(day, "60", "f4", f"v:{ALL}", BISECTED[:1])


@pytest.mark.parametrize(
    "interval", ["1", "60", "1w", *(pytest.param(each, marks=SLOW) for each in ("2", "100m", "1d"))]
)
def test_every_small_array_of_times_is_cut_as_naively(interval: str) -> None:
    """All ascending runs of up to four times around the bounds of buckets, minutes and days."""
    around = (MONDAY_S - 1, MONDAY_S, MONDAY_S + 1, MONDAY_S + 61, MONDAY_S + 86_400)
    for times in itertools.chain.from_iterable(
        itertools.combinations_with_replacement(around, length) for length in range(4)
    ):
        rows: list[tuple[int, Number]] = [
            (time, (-1) ** place * (place + 0.5)) for place, time in enumerate(times)
        ]
        for columns in (f"v:{ALL}", "v:ohlc+count"):
            check_ways(day_of(rows, "f8"), interval, "f8", columns, BISECTED)


def values_of(kind: str) -> st.SearchStrategy[Number]:
    """Values of a dtype, its bounds and zeros often."""
    if kind.startswith("f"):
        odd = st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 0.1, -0.1])
        return st.one_of(st.floats(width=32 if kind == "f4" else 64), odd)
    bits = 8 * int(kind[1:])
    low = -(2 ** (bits - 1)) if kind.startswith("i") else 0
    return st.integers(low, low + 2**bits - 1)


@st.composite
def days_strategy(draw: st.DrawFn, kind: str) -> list[MemoryDay]:
    """Up to three days; the last records of one may lie in the next, as clocks differ."""
    days = []
    for day in range(draw(st.integers(0, 3))):
        begin = MONDAY_S + 86_400 * (day - 1)
        offsets = st.one_of(st.integers(-5, 200), st.integers(86_300, 86_420))
        times = sorted(begin + offset for offset in draw(st.lists(offsets, max_size=30)))
        rows = [(time, draw(values_of(kind))) for time in times]
        days.append(day_of(rows, kind, skipped=draw(st.integers(0, min(2, len(rows))))))
    return days


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_days_of_any_dtype_are_aggregated_as_naively(kind: str, data: st.DataObject) -> None:
    """Every aggregate, every interval, pieces of any size, times that reach into the next day."""
    days = data.draw(days_strategy(kind))
    interval = data.draw(st.sampled_from(INTERVALS))
    columns = data.draw(st.sampled_from([f"v:{ALL}", "v", "v:count", "time:high,v:mean", "v:sum"]))
    with pytest.MonkeyPatch.context() as patch:
        in_pieces(patch, data.draw(st.sampled_from([1, 2, 5, 1_000])))
        patch.setattr(cuts, "BISECTED_RECORDS", data.draw(st.sampled_from([1, 3, 1_000])))
        patch.setattr(cuts, "SPARSE_RECORDS", data.draw(st.sampled_from([0, 1, 16, 10**9])))
        check(days, interval, kind, columns)


def whole_and_cut(rows: list[tuple[int, Number]], cuts: Sequence[int]) -> Iterator[float]:
    """The sums of all `rows`, each time read in pieces of another size."""
    for size in cuts:
        with pytest.MonkeyPatch.context() as patch:
            in_pieces(patch, size)
            [_, (_, content)] = computed([day_of(rows, "f8")], "v:sum", "1d", "f8")
            yield struct.unpack("<d", content)[0]


def test_sum_does_not_depend_on_pieces_nor_on_the_bucket_around_a_cell() -> None:
    """Values whose sum depends on the order: the same bits however the day is read.

    And the sums of hours, added from left to right, are the sum of the day: so they may be kept.
    """
    chance = np.random.default_rng(5)
    values = chance.choice([1e16, -1e16, 1.0, 0.1, 3e-9], 5_000) * chance.random(5_000)
    times = np.sort(chance.integers(0, 86_400, 5_000)) + MONDAY_S
    rows = list(zip(times.tolist(), values.tolist(), strict=True))
    sums = set(whole_and_cut(rows, [1, 7, 100, 4_999, 5_000, 131_072]))
    assert len(sums) == 1
    [found] = sums
    assert found != math.fsum(values), "an order that shows"
    for step in ("1m", "1h"):
        [_, (_, content)] = computed([day_of(rows, "f8")], "v:sum", step, "f8")
        folded: dict[int, float] = {}
        begins = [int(time) // 3600 for time in sorted({int(t) // 60 * 60 for t in times})]
        parts = np.frombuffer(content, "<f8").tolist()
        if step == "1m":
            for hour, part in zip(begins, parts, strict=True):
                folded[hour] = folded.get(hour, 0.0) + part
            parts = list(folded.values())
        total = 0.0
        for part in parts:
            total += part
        assert total == found


@pytest.mark.parametrize("columns", ["v:ohlc", "v:sum"])
def test_large_day_is_aggregated_as_naively(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 ticks in pieces; NaN here and there; read where buckets are small, else bisected."""
    in_pieces(monkeypatch, 4_000)
    monkeypatch.setattr(cuts, "BISECTED_RECORDS", 800)
    chance = np.random.default_rng(3)
    times = np.sort(chance.integers(0, 40_000, 20_000)) + MONDAY_S
    values: Any = chance.normal(100, 5, 20_000).astype("f4")
    values[chance.integers(0, 20_000, 50)] = NAN
    rows = list(zip(times.tolist(), values.tolist(), strict=True))
    day = day_of(rows, "f4", skipped=17)
    for interval in ("1", "7m", "2h"):
        check([day], interval, "f4", columns)


@pytest.mark.parametrize("columns", ["v:count", "v:sum"])
def test_more_bars_than_allowed_are_refused(columns: str) -> None:
    """Ten are allowed: in one day, in pieces of it, and over days that share a bucket."""
    ten, eleven = ([(60 * each, 1.0) for each in range(count)] for count in (10, 11))
    assert len(computed([day_of(ten, "f8")], columns, "60", "f8", 10)[0][1]) == 40
    with pytest.raises(TooManyBarsError):
        computed([day_of(eleven, "f8")], columns, "60", "f8", 10)
    days = [day_of(ten[:6], "f8"), day_of(ten[4:], "f8")]
    assert len(computed(days, columns, "60", "f8", 10)[0][1]) == 40
    with pytest.raises(TooManyBarsError):
        computed([*days, day_of(eleven[10:], "f8")], columns, "60", "f8", 10)


@pytest.mark.parametrize("size", PIECES)
@pytest.mark.parametrize("columns", ["v:ohlc", "v:sum"])
def test_times_that_do_not_ascend_are_noticed(
    columns: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a piece and between two."""
    in_pieces(monkeypatch, size)
    for times in ((5, 4), (1, 2, 3, 2), (1, 5, 6, 7, 4, 8)):
        with pytest.raises(UnsortedError):
            computed([day_of([(time, 1.0) for time in times], "f8")], columns, "60", "f8")


def test_bisected_times_that_do_not_ascend_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ends are compared; so are the records around each bound."""
    monkeypatch.setattr(cuts, "BISECTED_RECORDS", 1)
    with pytest.raises(UnsortedError):
        computed([day_of([(9, 1.0), (3, 1.0)], "f8", 0)], "v:open", "1d", "f8")
    rows: list[tuple[int, Number]] = [(0, 1.0)] * 5_000 + [(9, 1.0)] + [(5, 1.0)] * 100
    with pytest.raises(UnsortedError):
        computed([day_of([*rows, (121, 1.0)], "f8")], "v:open", "60", "f8")


def test_outputs_of_the_oracle_are_those_of_the_grammar() -> None:
    """Both read the same text the same way."""
    for text in ("v", f"v:{ALL}", "a:b:open,c:ohlc+sum"):
        assert outputs_of(text) == [tuple(output) for output in parse_outputs(text, 32)]
