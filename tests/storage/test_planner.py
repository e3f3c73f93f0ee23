"""`Planner` against the oracle: every small array, at both ends, over real files."""

from __future__ import annotations

import itertools
import os
import random
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.naive import naive_answer
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    SERIES,
    U32_MAX,
    Bench,
    bench,
    body_of,
    marks,
    path_of,
    put,
    query,
    start_of,
    u32,
)
from zerocopy.core.errors import BadRequestError, NotFoundError
from zerocopy.core.plan import Representation, ends_of, in_memory
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from zerocopy.core.plan import Plan

NEXT_DAY = DAY + timedelta(days=1)
MIDNIGHT_S = DAY_START_S + 86_400
BOTH = pytest.mark.parametrize("small_bytes_max", [1 << 30, 0], ids=["content", "segments"])


def expected(root: str, start_s: int, end_s: int, *columns: str) -> bytes:
    """The oracle's answer for the series that tests write."""
    return naive_answer(root, *SERIES, start_s, end_s, columns)


def small_arrays(seconds: list[int]) -> Iterator[tuple[int, ...]]:
    """Every sorted array, duplicates included, of 0 to 4 of the given seconds."""
    for length in range(5):
        yield from itertools.combinations_with_replacement(seconds, length)


def compare_all(root: str, opened: Bench, keys: range, series: Series) -> int:
    """Hold the planner to the oracle for every pair of keys; how many there were."""
    pairs = list(itertools.combinations_with_replacement(keys, 2))
    for start_s, end_s in pairs:
        body = opened.body(query(start_s, end_s, series=series))
        assert body == naive_answer(root, *series, start_s, end_s, ("time", "price"))
    return len(pairs)


@BOTH
def test_plan_every_small_array_and_range_within_a_day_equals_oracle(
    tmp_path: Path, small_bytes_max: int
) -> None:
    """All sorted arrays of up to 4 records over 4 seconds, all ranges around and between them."""
    root, compared = str(tmp_path), 0
    seconds = [DAY_START_S + offset for offset in (1, 3, 4, 6)]
    with bench(root, small_bytes_max=small_bytes_max) as opened:
        for index, times in enumerate(small_arrays(seconds)):
            series = Series("coinbase", f"A{index}", "MD")
            put(root, {"time": u32(*times), "price": marks(len(times))}, series=series)
            compared += compare_all(
                root, opened, range(DAY_START_S, DAY_START_S + 8), series=series
            )
    assert compared == 70 * 36


@pytest.mark.parametrize("empty_days", ["absent", "empty"])
def test_plan_every_small_array_and_range_across_midnight_equals_oracle(
    tmp_path: Path, empty_days: str
) -> None:
    """The same arrays split over two days' files, with the last and the first second of a day."""
    root = str(tmp_path)
    seconds = [MIDNIGHT_S + offset for offset in (-3, -1, 0, 2)]
    with bench(root) as opened:
        for index, times in enumerate(small_arrays(seconds)):
            series = Series("coinbase", f"A{index}", "MD")
            before = [time for time in times if time < MIDNIGHT_S]
            after = [time for time in times if time >= MIDNIGHT_S]
            put(root, {"time": b"", "price": b""}, date(1999, 1, 1), series)
            for day, chosen in (DAY, before), (NEXT_DAY, after):
                if chosen or empty_days == "empty":
                    put(root, {"time": u32(*chosen), "price": marks(len(chosen))}, day, series)
            compare_all(root, opened, range(MIDNIGHT_S - 4, MIDNIGHT_S + 4), series=series)


@BOTH
def test_plan_beyond_the_search_window_equals_oracle(tmp_path: Path, small_bytes_max: int) -> None:
    """5,000 records, one second holding more of them than the window that is read at once."""
    root, chance = str(tmp_path), random.Random(7)
    offsets = [chance.randrange(2_000) for _ in range(3_000)] + [700] * 1_500 + [1_999] * 500
    times = sorted(DAY_START_S + offset for offset in offsets)
    put(root, {"time": u32(*times), "price": marks(5_000), "id": marks(5_000, 8)})
    edges = [DAY_START_S + offset for offset in (0, 699, 700, 701, 1_998, 1_999, 2_000)]
    edges += [chance.choice(times) for _ in range(12)]
    with bench(root, small_bytes_max=small_bytes_max) as opened:
        for start_s, end_s in itertools.combinations_with_replacement(sorted(edges), 2):
            first = next((at for at, time in enumerate(times) if time >= start_s), len(times))
            stop = next((at for at, time in enumerate(times) if time > end_s), len(times))
            body = opened.body(query(start_s, end_s, ["id", "time"]))
            data = body[body.index(b"\n") + 1 :]
            assert data[: 8 * (stop - first)] == marks(stop - first, 8, first)
            assert data[8 * (stop - first) :] == u32(*times[first:stop])
        ends = times[17], times[-900]
        assert opened.body(query(*ends, ["price"])) == expected(root, *ends, "price")


def test_plan_above_the_small_answer_bound_sends_segments(tmp_path: Path) -> None:
    """A body of one byte more than the bound is not read; one of exactly the bound is."""
    root = str(tmp_path)
    put(root, {"time": u32(*range(DAY_START_S, DAY_START_S + 20_000))})
    whole = expected(root, 0, U32_MAX, "time")
    assert len(whole) > 65_536
    for bound, is_content in ((len(whole), True), (len(whole) - 1, False), (65_536, False)):
        with bench(root, small_bytes_max=bound) as opened:
            planned = opened.plan(query(columns=["time"]))
            assert (planned.content is not None) is is_content
            assert len(planned.representation.segments) == 1
            assert body_of(planned) == whole


@BOTH
def test_plan_more_files_than_are_held_equals_oracle(tmp_path: Path, small_bytes_max: int) -> None:
    """100 days by 3 files: most are opened again when their bytes are read."""
    root = str(tmp_path)
    for index in range(100):
        day = DAY + timedelta(days=index)
        start_s = start_of(day)
        put(root, {"time": u32(start_s, start_s + 86_399)}, day)
        put(root, {"price": marks(2, 4, index), "id": marks(2, 8, index)}, day)
    columns = ("id", "price", "time")
    with bench(root, small_bytes_max=small_bytes_max, open_files_max=5) as opened:
        body = opened.body(query(columns=columns))
        assert len(opened.files) <= 5
    assert body == naive_answer(root, *SERIES, 0, U32_MAX, columns, {"id": "u8"})


def test_plan_full_u32_range_opens_what_the_exact_range_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`start=0&end=4294967295` makes the same open(2) calls, one for one, as the exact range."""
    root = str(tmp_path)
    put(root, {"time": u32(DAY_START_S, DAY_START_S + 9), "price": marks(2)})
    put(root, {"time": u32(MIDNIGHT_S), "price": marks(1)}, NEXT_DAY)
    calls: list[object] = []
    system_open = os.open

    def counted(path: str, *args: int, **kwargs: int) -> int:
        calls.append((path, *args))
        return system_open(path, *args, **kwargs)

    with bench(root) as opened:
        monkeypatch.setattr(os, "open", counted)
        exact = opened.plan(query(DAY_START_S, MIDNIGHT_S))
        exact_calls, calls = calls, []
        full = opened.plan(query(0, U32_MAX))
    assert calls == exact_calls
    assert len(calls) == 4 + 2 * 2  # root, exchange, symbol, type; two files on each of two days
    assert full.content == exact.content


def test_plan_days_of_both_centuries_are_in_order_of_time(tmp_path: Path) -> None:
    """70 to 99 are 1970-1999 and 00 to 69 are 2000-2069, whatever their names sort like."""
    root = str(tmp_path)
    days = [date(1970, 1, 1), date(1999, 12, 31), date(2000, 1, 1), date(2000, 2, 29)]
    days += [date(2069, 12, 31)]
    for index, day in enumerate(days):
        start_s = start_of(day)
        put(root, {"time": u32(start_s, start_s + 86_399), "price": marks(2, base=10 * index)}, day)
    with bench(root) as opened:
        body = opened.body(query(columns=["price"]))
        assert body.endswith(b"".join(marks(2, base=10 * index) for index in range(5)))
        for start_s, end_s in (
            (0, 0),
            (start_of(days[1]), start_of(days[2])),
            (start_of(days[4]) + 86_399, U32_MAX),
            (start_of(days[4]) + 86_400, U32_MAX),
        ):
            assert opened.body(query(start_s, end_s)) == expected(
                root, start_s, end_s, "time", "price"
            )


def test_plan_last_second_a_record_can_carry_is_found(tmp_path: Path) -> None:
    """The highest u32 is an ordinary key: no end of a range overflows."""
    root, day = str(tmp_path), date(2069, 12, 31)
    put(root, {"time": u32(start_of(day), U32_MAX - 1, U32_MAX, U32_MAX), "price": marks(4)}, day)
    with bench(root) as opened:
        for start_s, end_s in ((0, U32_MAX), (0, U32_MAX - 1), (start_of(day), start_of(day))):
            assert opened.body(query(start_s, end_s)) == expected(
                root, start_s, end_s, "time", "price"
            )


def test_plan_names_that_are_no_days_are_ignored(tmp_path: Path) -> None:
    """Dates no calendar has, other suffixes, hidden files and directories are not day files."""
    root = str(tmp_path)
    put(root, {"time": u32(DAY_START_S), "price": marks(1)})
    for name in ("time.31.02.25.bin", "time.29.02.01.bin", "time.1.2.25.bin", ".time.01.01.25.bin"):
        with open(os.path.join(root, *SERIES, name), "wb") as file:
            file.write(u32(DAY_START_S + 1))
    os.mkdir(path_of(root, "time", date(2025, 3, 1)))
    os.mkdir(path_of(root, "price", date(2025, 3, 1)))
    with bench(root) as opened:
        planned = opened.plan()
    assert planned.content == expected(root, 0, U32_MAX, "time", "price")
    assert planned.skipped == ()


def test_plan_column_with_dots_takes_its_date_from_the_right(tmp_path: Path) -> None:
    """`depth.01.01.25` is a column too."""
    root = str(tmp_path)
    put(root, {"time": u32(DAY_START_S), "depth.01.01.25": marks(1, base=77)})
    with bench(root) as opened:
        body = opened.body(query(columns=["depth.01.01.25"]))
    assert body == expected(root, 0, U32_MAX, "depth.01.01.25")
    assert body.endswith(u32(77))


@pytest.mark.parametrize(
    ("series", "named"),
    [
        (Series("nowhere", "X", "MD"), "exchange nowhere"),
        (Series("coinbase", "nothing", "MD"), "symbol nothing"),
        (Series("coinbase", "X", "NONE"), "type NONE"),
    ],
)
def test_plan_unknown_name_is_not_found(tmp_path: Path, series: Series, named: str) -> None:
    """The detail names what does not exist, and no path."""
    put(str(tmp_path), {"time": b""})
    with bench(str(tmp_path)) as opened, pytest.raises(NotFoundError) as caught:
        opened.plan(query(series=series))
    assert caught.value.detail.startswith(named)
    assert str(tmp_path) not in caught.value.detail


def test_plan_column_of_no_day_is_not_found_even_outside_the_range(tmp_path: Path) -> None:
    """A column must exist on some day; on which one is no matter."""
    root = str(tmp_path)
    put(root, {"time": u32(DAY_START_S)})
    put(root, {"time": u32(MIDNIGHT_S), "price": marks(1)}, NEXT_DAY)
    with bench(root) as opened:
        assert opened.plan(query(0, 5)).skipped == ()
        assert len(opened.plan(query(DAY_START_S, DAY_START_S)).skipped) == 1
        with pytest.raises(NotFoundError, match="column volume"):
            opened.plan(query(0, 5, ["time", "volume"]))


def test_plan_more_days_than_allowed_is_refused(tmp_path: Path) -> None:
    """Days that exist count, not days of the calendar; the bound itself is still answered."""
    root = str(tmp_path)
    for index in range(3):
        put(root, {"time": b"", "price": b""}, DAY + timedelta(days=7 * index))
    with bench(root, days_max=3, segments_max=6) as opened:
        assert opened.plan().representation.segments == ()
    with bench(root, days_max=2) as opened, pytest.raises(BadRequestError, match="at most 2"):
        opened.plan()
    with bench(root, segments_max=5) as opened, pytest.raises(BadRequestError, match="at most 5"):
        opened.plan()


def test_plan_day_without_a_column_is_skipped_whole_and_listed(tmp_path: Path) -> None:
    """Columns stay aligned: the day that lacks one gives no record of any."""
    root = str(tmp_path)
    put(root, {"time": u32(DAY_START_S, DAY_START_S), "price": marks(2)})
    put(root, {"time": u32(MIDNIGHT_S)}, NEXT_DAY)
    put(root, {"price": marks(9)}, NEXT_DAY + timedelta(days=1))
    with bench(root) as opened:
        body = opened.body()
    assert body == expected(root, 0, U32_MAX, "time", "price")
    assert b'],"skipped":["01.02.25","02.02.25"]}\n' in body


@BOTH
def test_plan_gives_what_the_format_makes_of_the_records(
    tmp_path: Path, small_bytes_max: int
) -> None:
    """A format may put bytes of its own before, between and after those of the files."""

    def shape(plan: Plan) -> Representation:
        parts = [part for found in plan.segments() for part in (found, in_memory(b"|"))]
        assert (plan.num_records, plan.skipped) == (3, ())
        return Representation(b"text/plain", b"begun ", tuple(parts), ends_of(parts))

    put(str(tmp_path), {"time": u32(*[DAY_START_S] * 3), "price": marks(3)})
    with bench(str(tmp_path), small_bytes_max=small_bytes_max) as opened:
        planned = opened.plan(shape=shape)
        assert (planned.content is None) is (small_bytes_max == 0)
        times = u32(*[DAY_START_S] * 3)
        assert body_of(planned) == b"begun " + times + b"|" + marks(3) + b"|"
        assert planned.representation.media_type == b"text/plain"
