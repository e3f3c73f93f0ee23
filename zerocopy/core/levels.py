"""What is computed ahead of a day file: its bars of a minute, an hour and a day, column by column.

Owns the making of the levels, and the choice of what stands for some records of a file: rows of the
coarsest level that divides the interval, then finer ones, then the records themselves. Where the
rows are kept, and whether the file is still the same, is `storage/rollups.py`'s to know. With
`core/aggregate.py`, which adds rows and records in the same order, it needs numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from zerocopy.core.aggregate import Bars, Kept, kept_dtype
from zerocopy.core.bars import Output, interval_of
from zerocopy.core.cuts import TooManyBarsError
from zerocopy.core.timeindex import RecordRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from zerocopy.core.bars import Interval
    from zerocopy.core.cuts import Day
    from zerocopy.core.layout import Dtype

    Values = NDArray[Any]

DAY, HOUR, MINUTE = range(3)
"""The levels, the coarsest first."""

_STEPS = (interval_of(1, "d"), interval_of(1, "h"), interval_of(1, "m"))

HOURS_MAX = 100
"""Hours that the times of a day file may touch; one with more has no levels. A day has 24, and some
more where a recorder's clock was wrong."""


class Levels(NamedTuple):
    """The rows of one column of a day file, as bytes of `aggregate.kept_dtype`."""

    day: bytes
    hour: bytes
    minute: bytes


class Ahead(Protocol):
    """The levels of a day file, of all columns that a query needs."""

    @property
    def records(self) -> int:
        """How many records of the file they stand for, from its first."""

    def level(self, level: int) -> Mapping[str, bytes] | None:
        """The rows of one level by column, None if they cannot be had."""


def levels_of(day: Day, column: str, dtype: Dtype) -> Levels | None:
    """The levels of all records of a file; None if its times touch too many hours.

    Raises:
        UnsortedError: the times do not ascend.
        DataError: the file fails.
    """
    assert not day.records.first, "levels are of whole files"
    part: Day | Kept = day
    found: list[Values] = []
    try:
        for step in reversed(_STEPS):
            rows_max = max(HOURS_MAX, HOURS_MAX * 3_600 // step.length_s)
            # A sum is kept whoever asked for it: it is never computed for one alone.
            wanted = (Output(column, "open"), Output(column, "sum"))
            bars = Bars(step, wanted, {column: dtype}, rows_max)
            bars.add(part)
            found.insert(0, bars.keep(column))
            part = Kept({column: found[0]})
    except TooManyBarsError:
        return None
    return Levels(*(rows.tobytes() for rows in found))


def dividing(interval: Interval) -> tuple[int, ...]:
    """The levels whose rows never lie in two buckets of `interval`, the coarsest first."""
    # Weeks begin at midnight, so the shift changes nothing.
    return tuple(
        level for level, step in enumerate(_STEPS) if interval.length_s % step.length_s == 0
    )


def parts_of(
    records: RecordRange,
    ahead: Ahead,
    levels: Sequence[int],
    row_dtypes: Mapping[str, np.dtype[Any]],
    read: Callable[[RecordRange], Day],
) -> Iterator[Day | Kept]:
    """What stands for the `records` of a file, in its order: rows, and records where those are cut.

    `levels` are those of `dividing`, `row_dtypes` of `kept_dtype`. `read` gives the records of a
    range: those of a cut minute, or all where a level cannot be had.
    """
    first, stop = records
    if first >= stop:
        return
    if not levels:
        yield read(records)
        return
    level, *finer = levels
    kept = _load(ahead, level, row_dtypes)
    if kept and records == (0, ahead.records):
        yield Kept(kept)
        return
    low = high = 0
    if kept:
        counts = next(iter(kept.values()))["count"]
        ends = np.cumsum(counts, dtype=np.int64)
        low = int(np.searchsorted(ends - counts, first, "left"))
        high = int(np.searchsorted(ends, stop, "right"))
    if kept is None or low >= high:
        yield from parts_of(records, ahead, finer, row_dtypes, read)
        return
    begin, end = int(ends[low]) - int(counts[low]), int(ends[high - 1])
    yield from parts_of(RecordRange(first, begin), ahead, finer, row_dtypes, read)
    yield Kept({column: rows[low:high] for column, rows in kept.items()})
    yield from parts_of(RecordRange(end, stop), ahead, finer, row_dtypes, read)


def _load(
    ahead: Ahead, level: int, row_dtypes: Mapping[str, np.dtype[Any]]
) -> dict[str, Values] | None:
    content = ahead.level(level)
    if content is None:
        return None
    rows = {column: np.frombuffer(data, row_dtypes[column]) for column, data in content.items()}
    # The sum of a file that touches two days is added hour by hour, over midnight.
    several = level == DAY and any(len(each) > 1 for each in rows.values())
    return None if several else rows


def row_dtypes_of(dtypes: Mapping[str, Dtype]) -> dict[str, np.dtype[Any]]:
    """What the rows of each column are, by the dtypes of the columns; not of text."""
    return {column: kept_dtype(np.dtype(dtype.name)) for column, dtype in dtypes.items()}
