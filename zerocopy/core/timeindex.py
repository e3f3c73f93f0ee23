"""Lower and upper bound over one day's sorted time column.

Owns the search; knows nothing of files. A `TimeColumn` answers for single records and for small
runs of them, so that the same search works over an array in memory and over a file read with
pread(2): narrow by single records while the window is wide, then read the rest of the window at
once and finish inside it.

For a sorted column t of n records:

    lower_bound(t, key) = r  such that  all(t[i] <  key for i < r) and all(t[i] >= key for i >= r)
    upper_bound(t, key) = r  such that  all(t[i] <= key for i < r) and all(t[i] >  key for i >= r)

with 0 <= r <= n, as `bisect_left` and `bisect_right`. Both are 0 for an empty column.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_RECORDS = 1024
"""The window that is read at once: 4 KiB, one page, costs the same pread(2) as one record."""


class TimeColumn(Protocol):
    """Sorted unix seconds, duplicates allowed."""

    def __len__(self) -> int:
        """How many whole records the column holds."""

    def at(self, index: int) -> int:
        """The time of one record, in unix seconds."""

    def window(self, first: int, stop: int) -> Sequence[int]:
        """The times of the records [first, stop)."""


class RecordRange(NamedTuple):
    """The half-open range [first, stop) of record indices."""

    first: int
    stop: int


def lower_bound(column: TimeColumn, key_s: int) -> int:
    """The first index whose time is >= `key_s`; `len(column)` if there is none."""
    low, high = 0, len(column)
    while high - low > WINDOW_RECORDS:
        middle = (low + high) // 2
        if column.at(middle) < key_s:
            low = middle + 1
        else:
            high = middle
    return low + bisect_left(column.window(low, high), key_s) if low < high else low


def upper_bound(column: TimeColumn, key_s: int) -> int:
    """The first index whose time is > `key_s`; `len(column)` if there is none."""
    low, high = 0, len(column)
    while high - low > WINDOW_RECORDS:
        middle = (low + high) // 2
        if column.at(middle) <= key_s:
            low = middle + 1
        else:
            high = middle
    return low + bisect_right(column.window(low, high), key_s) if low < high else low


def record_range(column: TimeColumn, start_s: int, end_s: int) -> RecordRange:
    """Every record with `start_s` <= time <= `end_s`; both ends inclusive, as in a query.

    The day's first and last record are asked first: a day that lies wholly inside the range, which
    is nearly every day of a long one, costs these two reads and no search.
    """
    assert start_s <= end_s, "the query was validated"
    count = len(column)
    if count == 0:
        return RecordRange(0, 0)
    first = 0 if column.at(0) >= start_s else lower_bound(column, start_s)
    stop = count if column.at(count - 1) <= end_s else upper_bound(column, end_s)
    # They cross only if the file changes between the searches; then the range is empty.
    return RecordRange(first, max(first, stop))
