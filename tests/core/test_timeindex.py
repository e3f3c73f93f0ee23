"""Lower and upper bound: held to a linear scan, to bisect and to the formulas they document."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.core import timeindex
from zerocopy.core.layout import U32_MAX
from zerocopy.core.timeindex import (
    RecordRange,
    UnsortedError,
    lower_bound,
    record_range,
    upper_bound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SMALL_TIMES = (1, 3, 5, 7)
SMALL_KEYS = range(9)
SMALL_LENGTH_MAX = 7

Times = tuple[int, ...]


class RecordingColumn:
    """A time column in memory that checks how it is asked and counts it."""

    def __init__(self, times: Sequence[int]) -> None:
        self.times = times
        self.singles = 0
        self.windows: list[int] = []

    def __len__(self) -> int:
        return len(self.times)

    def at(self, index: int) -> int:
        """Return one time, which must exist."""
        assert 0 <= index < len(self.times)
        self.singles += 1
        return self.times[index]

    def window(self, first: int, stop: int) -> list[int]:
        """Return a run of times, which must exist and not be empty."""
        assert 0 <= first < stop <= len(self.times)
        self.windows.append(stop - first)
        return list(self.times[first:stop])


def small_columns() -> Iterator[Times]:
    """Yield every sorted array of up to SMALL_LENGTH_MAX of SMALL_TIMES, duplicates included."""
    for length in range(SMALL_LENGTH_MAX + 1):
        yield from combinations_with_replacement(SMALL_TIMES, length)


def scan_first(times: Sequence[int], key_s: int, *, after: bool) -> int:
    """Return the first index whose time is >= key, or > key if `after`, by looking at each."""
    for index, time_s in enumerate(times):
        if time_s > key_s or (time_s == key_s and not after):
            return index
    return len(times)


@pytest.fixture(params=[1, 2, 3, timeindex.WINDOW_RECORDS])
def window_records(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Set how wide a window is read at once, so that small arrays are narrowed too."""
    records: int = request.param
    monkeypatch.setattr(timeindex, "WINDOW_RECORDS", records)
    return records


@pytest.mark.usefixtures("window_records")
def test_bounds_of_every_small_column_agree_with_a_linear_scan() -> None:
    """Both sides, all keys, all columns with duplicates, whatever the window."""
    for times in small_columns():
        for key_s in SMALL_KEYS:
            column = RecordingColumn(times)
            assert lower_bound(column, key_s) == scan_first(times, key_s, after=False)
            assert upper_bound(column, key_s) == scan_first(times, key_s, after=True)


@pytest.mark.usefixtures("window_records")
def test_bounds_of_every_small_column_satisfy_the_documented_formulas() -> None:
    """The module's docstring, word for word."""
    for t in small_columns():
        n = len(t)
        for key in SMALL_KEYS:
            r = lower_bound(RecordingColumn(t), key)
            assert 0 <= r <= n
            assert all(t[i] < key for i in range(r))
            assert all(t[i] >= key for i in range(r, n))
            r = upper_bound(RecordingColumn(t), key)
            assert 0 <= r <= n
            assert all(t[i] <= key for i in range(r))
            assert all(t[i] > key for i in range(r, n))


@pytest.mark.usefixtures("window_records")
def test_record_range_of_every_small_column_holds_all_and_only_the_times_asked_for() -> None:
    """Both ends inclusive and every duplicate, for all starts and ends."""
    for times in small_columns():
        for start_s in SMALL_KEYS:
            for end_s in SMALL_KEYS[start_s:]:
                first, stop = record_range(RecordingColumn(times), start_s, end_s)
                assert 0 <= first <= stop <= len(times)
                wanted = [i for i, time_s in enumerate(times) if start_s <= time_s <= end_s]
                assert list(range(first, stop)) == wanted


def test_bounds_read_at_most_one_window_and_a_logarithm_of_single_records(
    window_records: int,
) -> None:
    """Narrowing costs one record a halving, the rest of the search one window."""
    times = range(0, 40_000, 2)
    for key_s in (-1, 0, 1, 19_999, 20_000, 39_998, 39_999):
        for bound in (lower_bound, upper_bound):
            column = RecordingColumn(times)
            bound(column, key_s)
            assert column.singles <= (len(times) // window_records).bit_length() + 1
            assert len(column.windows) <= 1
            assert all(count <= window_records for count in column.windows)


@given(
    st.lists(st.integers(0, U32_MAX), min_size=1, max_size=40),
    st.integers(1, 300),
    st.data(),
)
def test_bounds_of_large_columns_agree_with_bisect(
    distinct: list[int], repeats: int, data: st.DataObject
) -> None:
    """Thousands of records with long runs of equal times, keys on, beside and between them."""
    times = [time_s for time_s in sorted(distinct) for _ in range(repeats)]
    near = st.sampled_from(times).flatmap(lambda time_s: st.integers(time_s - 1, time_s + 1))
    key_s = data.draw(near | st.integers(0, U32_MAX))
    assert lower_bound(RecordingColumn(times), key_s) == bisect_left(times, key_s)
    assert upper_bound(RecordingColumn(times), key_s) == bisect_right(times, key_s)


@given(st.integers(1_025, 100_000), st.integers(1, 7), st.data())
def test_record_range_of_large_columns_agrees_with_bisect(
    length: int, step_s: int, data: st.DataObject
) -> None:
    """A whole day of ticks, ranges that begin before, inside or after it."""
    times = range(1_000, 1_000 + length * step_s, step_s)
    beyond = times[-1] + 1_000
    start_s = data.draw(st.integers(0, beyond))
    end_s = data.draw(st.integers(start_s, beyond))
    expected = RecordRange(bisect_left(times, start_s), bisect_right(times, end_s))
    assert record_range(RecordingColumn(times), start_s, end_s) == expected


class ReadColumn(RecordingColumn):
    """A column that remembers every record it was asked for, in any way."""

    def __init__(self, times: Sequence[int]) -> None:
        super().__init__(times)
        self.read: dict[int, int] = {}

    def at(self, index: int) -> int:
        """Return one time, and remember it."""
        time_s = super().at(index)
        self.read[index] = time_s
        return time_s

    def window(self, first: int, stop: int) -> list[int]:
        """Return a run of times, and remember them."""
        times = super().window(first, stop)
        self.read.update(enumerate(times, first))
        return times

    @property
    def ascends(self) -> bool:
        """Whether what was read is in order."""
        times = [self.read[index] for index in sorted(self.read)]
        return times == sorted(times)


@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=40),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(1, 5),
)
def test_record_range_raises_exactly_where_the_records_it_read_do_not_ascend(
    times: list[int], start_s: int, length_s: int, window: int
) -> None:
    """The docstring's promise, both ways; what it finds is right for the records it read."""
    column, end_s = ReadColumn(times), start_s + length_s
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeindex, "WINDOW_RECORDS", window)
        try:
            first, stop = record_range(column, start_s, end_s)
        except UnsortedError:
            assert not column.ascends
            return
    assert column.ascends
    assert 0 <= first <= stop <= len(times)
    for index, time_s in column.read.items():
        assert (first <= index < stop) == (start_s <= time_s <= end_s)


@given(st.integers(1_025, 20_000), st.data())
def test_record_range_of_a_sorted_column_never_raises(length: int, data: st.DataObject) -> None:
    """Long runs of one second, and times far outside the day, are in order."""
    step = data.draw(st.integers(1, 3_000))
    base_s = data.draw(st.integers(0, U32_MAX - length))
    times = [base_s + index // step for index in range(length)]
    start_s = data.draw(st.integers(max(0, base_s - 2), base_s + length // step + 2))
    found = record_range(RecordingColumn(times), start_s, start_s + data.draw(st.integers(0, 9)))
    assert 0 <= found.first <= found.stop <= length


@pytest.mark.parametrize(
    ("broken", "start_s", "end_s", "message"),
    [
        ({0: 9_000}, 0, U32_MAX, "record 0 is at 9000 s, the last, 4999, at 4999 s"),
        ({4_999: 0, 0: 1}, 0, U32_MAX, "record 0 is at 1 s, the last, 4999, at 0 s"),
        ({2_500: 70_000}, 10, U32_MAX, "record 2500 is at 70000 s, not in 0 to 4999 s"),
        ({2_500: 0, 0: 1}, 10, U32_MAX, "record 2500 is at 0 s, not in 1 to 4999 s"),
        ({1_250: 2_600}, 10, U32_MAX, "record 1250 is at 2600 s, not in 0 to 2500 s"),
        ({100: 500}, 10, U32_MAX, "records 0 to 624 do not ascend from 0 to 625 s"),
        ({624: 626}, 10, U32_MAX, "records 0 to 624 do not ascend from 0 to 625 s"),
        ({4_990: 17}, 0, 4_995, "records 4376 to 4999 do not ascend from 4375 to 4999 s"),
    ],
)
def test_record_range_of_an_unsorted_column_names_what_is_wrong(
    broken: dict[int, int], start_s: int, end_s: int, message: str
) -> None:
    """Each of the three rules, by the record that breaks it: what the operator reads in the log."""
    times = [broken.get(index, index) for index in range(5_000)]
    with pytest.raises(UnsortedError, match=message):
        record_range(RecordingColumn(times), start_s, end_s)


def test_record_range_does_not_look_between_the_records_it_needs() -> None:
    """A day wholly inside the range is not scanned, so disorder in its middle is not seen."""
    times = list(range(5_000))
    times[2_000:3_000] = reversed(times[2_000:3_000])
    column = RecordingColumn(times)
    assert record_range(column, 0, U32_MAX) == RecordRange(0, 5_000)
    assert (column.singles, column.windows) == (2, [])


def test_record_range_of_a_column_rewritten_between_its_searches_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the second search finds must fit to what the first one found."""

    class RewrittenColumn(RecordingColumn):
        """Holds later times once its first window was read."""

        def window(self, first: int, stop: int) -> list[int]:
            """Return the times, then add a hundred to all of them."""
            times = super().window(first, stop)
            self.times = [time_s + 100 for time_s in self.times]
            return times

    monkeypatch.setattr(timeindex, "WINDOW_RECORDS", 2)
    column = RewrittenColumn([1, 2, 8, 9, 30])
    with pytest.raises(UnsortedError, match="records 3 to 4 do not ascend from 8 to 30 s"):
        record_range(column, 5, 20)
    assert column.windows == [2, 2]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.data())
def test_record_range_of_a_column_that_is_appended_to_never_raises(
    times: list[int], data: st.DataObject
) -> None:
    """Only the records that were there when the search began are read, whatever comes behind."""
    times.sort()

    class GrowingColumn(RecordingColumn):
        """Longer after every look at it; its length is what it was planned with."""

        def __len__(self) -> int:
            return count

        def at(self, index: int) -> int:
            """Append anything, then answer."""
            assert index < count
            self.times = [*self.times, data.draw(st.integers(0, U32_MAX))]
            return super().at(index)

        def window(self, first: int, stop: int) -> list[int]:
            """Append anything, then answer."""
            assert stop <= count
            self.times = [*self.times, 0, U32_MAX]
            return super().window(first, stop)

    count, start_s = len(times), data.draw(st.integers(0, 60))
    end_s = data.draw(st.integers(start_s, 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timeindex, "WINDOW_RECORDS", data.draw(st.integers(1, 5)))
        found = record_range(GrowingColumn(times), start_s, end_s)
    assert found == RecordRange(bisect_left(times, start_s), bisect_right(times, end_s))


def test_record_range_of_an_empty_column_is_empty() -> None:
    """No records, nothing is read."""
    assert record_range(RecordingColumn([]), 0, U32_MAX) == RecordRange(0, 0)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected", "windows"),
    [
        (0, U32_MAX, (0, 5), []),
        (3, 9, (0, 5), []),
        (3, 8, (0, 4), [5]),
        (4, 9, (2, 5), [5]),
        (4, 8, (2, 4), [5]),
    ],
)
def test_record_range_searches_only_the_side_that_cuts_the_day(
    start_s: int, end_s: int, expected: tuple[int, int], windows: list[int]
) -> None:
    """A day wholly inside costs two single records, as documented."""
    column = RecordingColumn([3, 3, 5, 7, 9])
    assert record_range(column, start_s, end_s) == expected
    assert column.singles == 2
    assert column.windows == windows


def test_record_range_reversed_is_a_programmers_error() -> None:
    """The query has already refused start after end."""
    with pytest.raises(AssertionError, match="validated"):
        record_range(RecordingColumn([1]), 2, 1)
