"""Bars of levels, records, or some of both: the same bits as plain Python makes of every record."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_aggregate import (
    ALL,
    INTERVALS,
    KINDS,
    MONDAY_S,
    MemoryDay,
    day_of,
    days_strategy,
    expected,
    in_pieces,
)
from zerocopy.core import aggregate, cuts, levels
from zerocopy.core.aggregate import Bars
from zerocopy.core.bars import BARS_MAX, interval_of, parse_interval, parse_outputs
from zerocopy.core.layout import parse_dtype
from zerocopy.core.levels import DAY, HOUR, HOURS_MAX, MINUTE, Levels, dividing, levels_of, parts_of
from zerocopy.core.timeindex import RecordRange, UnsortedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.naive_bars import Number

DTYPES = {"time": parse_dtype("time", "u4")}


class Known:
    """The levels of a whole day, as many of them as are there."""

    def __init__(self, day: MemoryDay, kind: str, there: Sequence[int]) -> None:
        self.records = len(day.times)
        whole = day._replace(records=RecordRange(0, self.records))
        self.there = there
        self._levels: dict[str, Levels] = {}
        for column, dtype in (DTYPES | {"v": parse_dtype("v", kind)}).items():
            made = levels_of(whole, column, dtype) if self.records else None
            assert made is not None or not self.records
            if made is not None:
                self._levels[column] = made

    def level(self, level: int) -> Mapping[str, bytes] | None:
        """Return the rows of both columns."""
        if level not in self.there:
            return None
        return {column: found[level] for column, found in self._levels.items()}


def computed(
    days: Sequence[MemoryDay],
    known: Sequence[Known | None],
    asked: tuple[str, str, str],
    bars_max: int = BARS_MAX,
) -> list[tuple[str, bytes]]:
    """What the package makes of days, some of them with levels."""
    columns, interval, kind = asked
    chosen = parse_interval(interval)
    assert chosen is not None
    dtypes = DTYPES | {"v": parse_dtype("v", kind)}
    bars = Bars(chosen, parse_outputs(columns, 32), dtypes, bars_max)
    for day, ahead in zip(days, known, strict=True):
        if day.records.first >= day.records.stop:
            continue
        if ahead is None:
            bars.add(day)
            continue

        def read(records: RecordRange, day: MemoryDay = day) -> MemoryDay:
            return day._replace(records=records)

        rows = levels.row_dtypes_of(dtypes)
        bars.add(*parts_of(day.records, ahead, dividing(chosen), rows, read))
    return [(str(each.dtype.str[1:]), each.tobytes()) for each in bars.columns()]


def all_subsets() -> list[tuple[int, ...]]:
    """Every choice of levels that are there."""
    return [
        chosen
        for count in range(4)
        for chosen in itertools.combinations((DAY, HOUR, MINUTE), count)
    ]


@pytest.mark.parametrize(
    "interval",
    [
        "60",
        pytest.param("1h", marks=pytest.mark.slow),
        pytest.param("1d", marks=pytest.mark.slow),
        pytest.param("1w", marks=pytest.mark.slow),
    ],
)
def test_every_cut_of_every_small_day_is_aggregated_as_naively(interval: str) -> None:
    """All ascending runs of three times around bounds, all their ranges, all choices of levels."""
    around = (MONDAY_S - 1, MONDAY_S, MONDAY_S + 61, MONDAY_S + 3_600, MONDAY_S + 86_400)
    for times in itertools.combinations_with_replacement(around, 3):
        values = zip(times, (1e16, -0.1, math.nan), strict=True)
        day = day_of([*values], "f8")
        known = Known(day, "f8", ())
        for first, stop in itertools.combinations(range(4), 2):
            part = day._replace(records=RecordRange(first, stop))
            wanted = expected([part], f"v:{ALL}", interval, "f8")
            for known.there in all_subsets():
                assert computed([part], [known], (f"v:{ALL}", interval, "f8")) == wanted


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_days_of_any_dtype_are_aggregated_as_naively(kind: str, data: st.DataObject) -> None:
    """Every aggregate and interval; levels of all days, of some, of none, and some levels alone."""
    days = data.draw(days_strategy(kind))
    days = [
        day._replace(
            records=RecordRange(day.records.first, data.draw(st.integers(0, day.records.stop)))
        )
        for day in days
    ]
    known = [
        Known(day, kind, data.draw(st.sampled_from(all_subsets())))
        if data.draw(st.booleans())
        else None
        for day in days
    ]
    interval = data.draw(st.sampled_from([*INTERVALS, "6h", "2d", "7d", "3m"]))
    columns = data.draw(st.sampled_from([f"v:{ALL}", "v", "v:count", "time:high,v:mean", "v:sum"]))
    with pytest.MonkeyPatch.context() as patch:
        in_pieces(patch, data.draw(st.sampled_from([1, 5, 1_000])))
        patch.setattr(cuts, "BISECTED_RECORDS", data.draw(st.sampled_from([1, 1_000])))
        patch.setattr(aggregate, "CELLS_MIN", data.draw(st.sampled_from([1, 8, 10_000])))
        bars_max = data.draw(st.sampled_from([100, BARS_MAX]))
        found = computed(days, known, (columns, interval, kind), bars_max)
    assert found == expected(days, columns, interval, kind)


@pytest.mark.parametrize("interval", ["1m", "7m", "1h", "5h", "1d", "2d", "1w"])
def test_sums_that_depend_on_their_order_are_the_same_with_levels(interval: str) -> None:
    """Three days whose sums show every change of the order, cut at both ends amid a minute.

    More rows than bars are allowed, so they are joined amid the days as well.
    """
    chance = np.random.default_rng(7)
    days = []
    for number in range(3):
        values = chance.choice([1e16, -1e16, 1.0, 0.1, 3e-9], 3_000) * chance.random(3_000)
        times = np.sort(chance.integers(0, 86_500, 3_000)) + MONDAY_S + 86_400 * number
        rows: list[tuple[int, Number]] = list(zip(times.tolist(), values.tolist(), strict=True))
        days.append(day_of(rows, "f8"))
    days[0] = days[0]._replace(records=RecordRange(1_234, 3_000))
    days[2] = days[2]._replace(records=RecordRange(0, 2_345))
    wanted = expected(days, f"v:{ALL}", interval, "f8")
    bars_max = len(wanted[0][1]) // 4
    for chosen in itertools.product((True, False), repeat=3):
        known = [
            Known(day, "f8", (DAY, HOUR, MINUTE)) if has else None
            for day, has in zip(days, chosen, strict=True)
        ]
        assert computed(days, known, (f"v:{ALL}", interval, "f8"), bars_max) == wanted


def test_levels_are_used_where_they_divide_the_interval() -> None:
    """The coarsest first; none below a minute."""
    for text, wanted in {
        "1": (),
        "90": (),
        "1m": (MINUTE,),
        "90m": (MINUTE,),
        "1h": (HOUR, MINUTE),
        "25h": (HOUR, MINUTE),
        "1d": (DAY, HOUR, MINUTE),
        "2w": (DAY, HOUR, MINUTE),
    }.items():
        interval = parse_interval(text)
        assert interval is not None
        assert dividing(interval) == wanted, text


def test_records_are_read_at_cut_edges_alone() -> None:
    """A range that begins and ends amid a minute: two minutes are read, and hours between them."""
    rows: list[tuple[int, Number]] = [(MONDAY_S + at * 10, float(at)) for at in range(8_640)]
    day = day_of(rows, "f4")
    read: list[RecordRange] = []

    def note(records: RecordRange) -> MemoryDay:
        read.append(records)
        return day._replace(records=records)

    known = Known(day, "f4", (DAY, HOUR, MINUTE))
    chosen = dividing(interval_of(1, "h"))
    dtypes = levels.row_dtypes_of(DTYPES | {"v": parse_dtype("v", "f4")})
    parts = list(parts_of(RecordRange(2, 8_639), known, chosen, dtypes, note))
    assert read == [RecordRange(2, 6), RecordRange(8_634, 8_639)]
    kept = [len(part.rows["v"]) for part in parts if isinstance(part, aggregate.Kept)]
    assert kept == [59, 22, 59]
    assert list(parts_of(RecordRange(0, 8_640), known, chosen, dtypes, note))[1:] == []
    assert len(read) == 2


def test_day_of_unsorted_times_has_no_levels() -> None:
    """Each time is looked at."""
    rows: list[tuple[int, Number]] = [(5, 1.0)] * 5_000 + [(4, 1.0)] + [(5, 1.0)]
    with pytest.raises(UnsortedError):
        levels_of(day_of(rows, "f8"), "v", parse_dtype("v", "f8"))


@pytest.mark.parametrize("more", [0, 1])
def test_day_whose_times_touch_too_many_hours_has_no_levels(more: int) -> None:
    """So the rows of a file have a bound."""
    rows: list[tuple[int, Number]] = [(at * 3_600, 1.0) for at in range(HOURS_MAX + more)]
    made = levels_of(day_of(rows, "f8"), "v", parse_dtype("v", "f8"))
    assert (made is None) == bool(more)
