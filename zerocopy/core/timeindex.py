"""Lower and upper bound over one day's sorted time column.

Owns the search; knows nothing of files. A `TimeColumn` answers for single records and for small
runs of them, so that the same search works over an array in memory and over a file read with
pread(2): narrow by single records while the window is wide, then read the rest of the window at
once and finish inside it.

For a sorted column t of n records:

    lower_bound(t, key) = r  such that  all(t[i] <  key for i < r) and all(t[i] >= key for i >= r)
    upper_bound(t, key) = r  such that  all(t[i] <= key for i < r) and all(t[i] >  key for i >= r)

with 0 <= r <= n, as `bisect_left` and `bisect_right`. Both are 0 for an empty column.

A column that is not sorted has no such r, and is never scanned to find out. What a search reads
anyway is held together instead, and raises `UnsortedError` unless

    t[0] <= t[n - 1],
    low <= t[i] <= high  for each single record i, where low and high are the times known nearest
                         to its left and its right, and
    the last window, with the times known on both sides of it, ascends.

So disorder among the records that were read is always found, and disorder among those that were
not is never seen: a day that lies wholly inside the range is judged by its first and last record
alone; one that is cut, by those, some twenty single records and the window around each cut.
Times outside the column's own UTC day are no disorder: the clocks of recorders differ at midnight.
Only the first `len(column)` records are read, so one that is being appended to is as good as any.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple, Protocol

from zerocopy.core.layout import U32_MAX

WINDOW_RECORDS = 1024
"""The window that is read at once: 4 KiB, one page, costs the same pread(2) as one record."""


class UnsortedError(Exception):
    """Records that were read do not ascend; says which. The planner names the day to the client."""


class TimeColumn(Protocol):
    """Sorted unix seconds, duplicates allowed."""

    def __len__(self) -> int:
        """How many whole records the column holds."""

    def at(self, index: int) -> int:
        """The time of one record, in unix seconds."""

    def window(self, first: int, stop: int) -> list[int]:
        """The times of the records [first, stop)."""


class RecordRange(NamedTuple):
    """The half-open range [first, stop) of record indices."""

    first: int
    stop: int


def lower_bound(column: TimeColumn, key_s: int) -> int:
    """The first index whose time is >= `key_s`; `len(column)` if there is none.

    Raises:
        UnsortedError: records that were read do not ascend.
    """
    return _search(column, key_s, 0, len(column), low_s=0, high_s=U32_MAX)


def upper_bound(column: TimeColumn, key_s: int) -> int:
    """The first index whose time is > `key_s`; `len(column)` if there is none.

    Raises:
        UnsortedError: records that were read do not ascend.
    """
    return _search(column, key_s + 1, 0, len(column), low_s=0, high_s=U32_MAX)


def record_range(column: TimeColumn, start_s: int, end_s: int) -> RecordRange:
    """Every record with `start_s` <= time <= `end_s`; both ends inclusive, as in a query.

    The day's first and last record are asked first: a day that lies wholly inside the range, which
    is nearly every day of a long one, costs these two reads and no search. Both ends are narrowed
    together until a record of the range lies between them.

    Raises:
        UnsortedError: records that were read do not ascend.
    """
    assert start_s <= end_s, "the query was validated"
    low, high = 0, len(column)
    if high == 0:
        return RecordRange(0, 0)
    low_s, high_s = column.at(0), column.at(high - 1)
    if low_s > high_s:
        raise UnsortedError(f"record 0 is at {low_s} s, the last, {high - 1}, at {high_s} s")
    if start_s <= low_s and high_s <= end_s:
        return RecordRange(low, high)
    while high - low > WINDOW_RECORDS:
        middle = (low + high) // 2
        time_s = _probe(column, middle, low_s, high_s)
        if time_s < start_s:
            low, low_s = middle + 1, time_s
        elif time_s > end_s:
            high, high_s = middle, time_s
        else:
            if low_s < start_s:
                low = _search(column, start_s, low, middle, low_s=low_s, high_s=time_s)
            if high_s > end_s:
                high = _search(column, end_s + 1, middle + 1, high, low_s=time_s, high_s=high_s)
            return RecordRange(low, high)
    times = _window(column, low, high, low_s, high_s)
    return RecordRange(low + bisect_left(times, start_s), low + bisect_right(times, end_s))


def _search(column: TimeColumn, key_s: int, low: int, high: int, *, low_s: int, high_s: int) -> int:
    """The first index of [low, high) whose time is >= `key_s`; `high` if there is none.

    None of their times may be earlier than `low_s` or later than `high_s`.
    """
    while high - low > WINDOW_RECORDS:
        middle = (low + high) // 2
        time_s = _probe(column, middle, low_s, high_s)
        if time_s < key_s:
            low, low_s = middle + 1, time_s
        else:
            high, high_s = middle, time_s
    return low + bisect_left(_window(column, low, high, low_s, high_s), key_s)


def _probe(column: TimeColumn, index: int, low_s: int, high_s: int) -> int:
    time_s = column.at(index)
    if not low_s <= time_s <= high_s:
        raise UnsortedError(f"record {index} is at {time_s} s, not in {low_s} to {high_s} s")
    return time_s


def _window(column: TimeColumn, low: int, high: int, low_s: int, high_s: int) -> list[int]:
    if low == high:
        return []
    times = column.window(low, high)
    # Sorting what is sorted compares each pair of neighbours once, in C.
    if not low_s <= times[0] <= times[-1] <= high_s or sorted(times) != times:
        raise UnsortedError(f"records {low} to {high - 1} do not ascend from {low_s} to {high_s} s")
    return times
