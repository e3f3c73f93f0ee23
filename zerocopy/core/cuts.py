"""Where the buckets of a day begin among its records.

With `core/aggregate.py` the only module of `core/` that needs numpy. It knows no files: a `Day`
hands out records, in pieces of `CHUNK_RECORDS`, so that no step holds the interpreter's lock for
long. Where buckets hold many records `time` is bisected and not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from zerocopy.core.bars import interval_of
from zerocopy.core.layout import TIME_COLUMN
from zerocopy.core.timeindex import UnsortedError, lower_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from zerocopy.core.bars import Interval
    from zerocopy.core.timeindex import RecordRange, TimeColumn

    Ints = NDArray[np.int64]

CHUNK_RECORDS = 131_072
"""Records looked at in one step: 0.6 ms for the slowest, a sum, on an AMD EPYC; fits in L2."""

BISECTED_RECORDS = 32_768
"""Records a bucket from which bisecting `time` costs less than reading it: 35 µs a bucket."""

SPARSE_RECORDS = 256
"""Records a bucket below which each record is divided; above, the bounds are searched for."""

MINUTE_S = 60
_MINUTE = interval_of(1, "m")


class Day(Protocol):
    """The records of one day file that take part; those before `records.first` are never read."""

    @property
    def records(self) -> RecordRange:
        """Their places in the files of the day; at least one."""

    @property
    def times(self) -> TimeColumn:
        """Their times, to be bisected; as long as `records.stop`."""

    def read(self, column: str, first: int, stop: int) -> memoryview:
        """The bytes of the records [first, stop) of a column, valid until the next call."""


class TooManyBarsError(Exception):
    """There are more bars than allowed; the service names the interval that would be right."""


class Cuts(NamedTuple):
    """Runs of records: where each starts in the file, and the bucket and the minute it lies in.

    `minutes` is of use only where runs do not cross minutes.
    """

    starts: Ints
    begins: Ints
    minutes: Ints

    def within(self, first: int, stop: int) -> tuple[slice, Ints]:
        """The runs that have records in [first, stop), and where they start from `first`."""
        low = int(np.searchsorted(self.starts, first, "right")) - 1
        high = int(np.searchsorted(self.starts, stop, "left"))
        return slice(low, high), np.maximum(self.starts[low:high], first) - first


def cut(day: Day, interval: Interval, bars_max: int, *, sums: bool) -> tuple[Cuts, Cuts]:
    """The buckets of a day, and where there are sums its cells: buckets cut at each minute.

    Raises:
        TooManyBarsError: there are more than `bars_max`.
        UnsortedError: the times that were read do not ascend.
    """
    first, stop = day.records
    if not sums:
        span = day.times.at(first), day.times.at(stop - 1)
        buckets = interval.buckets(*span)
        if (stop - first) // BISECTED_RECORDS >= buckets:
            return (found := _bisect(day, interval, *span)), found
        if buckets > 0 and buckets * SPARSE_RECORDS <= stop - first:
            found = _search(day, interval, *span)
            if len(found.starts) > bars_max:
                raise TooManyBarsError
            return found, found
    pieces: list[tuple[Ints, Ints]] = []
    last_s = last_begin = last_minute = -1
    bars = 0
    for at in range(first, stop, CHUNK_RECORDS):
        end = min(at + CHUNK_RECORDS, stop)
        times = _ascending(day, at, end, last_s)
        starts = _starts(times, interval)
        bars += len(starts)
        if sums:
            minutes = _starts(times, _MINUTE)
            starts = _distinct(np.sort(np.concatenate((starts, minutes)), kind="stable"))
        seconds = times[starts].astype(np.int64)
        # The first run may go on from the piece before.
        begin, minute = begins_of(seconds[:1], interval)[0], seconds[0] // MINUTE_S
        known = int(begin == last_begin and (not sums or minute == last_minute))
        bars -= int(begin == last_begin)
        pieces.append((starts[known:] + at, seconds[known:]))
        last_s = int(times[-1])
        last_begin, last_minute = begins_of(seconds[-1:], interval)[0], last_s // MINUTE_S
        if bars > bars_max:
            raise TooManyBarsError
    starts = np.concatenate([piece[0] for piece in pieces])
    seconds = np.concatenate([piece[1] for piece in pieces])
    cells = Cuts(starts, begins_of(seconds, interval), seconds // MINUTE_S)
    if not sums:
        return cells, cells
    starts = changes(cells.begins[1:] != cells.begins[:-1])
    return Cuts(*(each[starts] for each in cells)), cells


def _bisect(day: Day, interval: Interval, first_s: int, last_s: int) -> Cuts:
    """The buckets of a day, found without reading its times."""
    if first_s > last_s:
        raise UnsortedError(f"the first record is at {first_s} s, the last at {last_s} s")
    starts, indices = [day.records.first], [interval.bucket(first_s)]
    for index in range(indices[0] + 1, interval.bucket(last_s) + 1):
        start = lower_bound(day.times, interval.begin(index))
        assert start >= starts[-1], "two searches part where a record lies between their keys"
        if start == starts[-1]:
            indices[-1] = index  # nothing was in the bucket before
        else:
            starts.append(start)
            indices.append(index)
    begins = np.array([interval.begin(index) for index in indices], np.int64)
    return Cuts(np.array(starts, np.int64), begins, begins // MINUTE_S)


def _search(day: Day, interval: Interval, first_s: int, last_s: int) -> Cuts:
    """The buckets of a day that hold many records each: their bounds are searched for.

    What is to be done for each piece is little, for numpy's calls would take longer than it.
    """
    first, stop = day.records
    indices = np.arange(interval.bucket(first_s), interval.bucket(last_s) + 1)
    begins = np.maximum(indices * interval.length_s + interval.shift_s, 0)
    bounds = begins[1:].astype("<u4")
    # Buckets without a record start where the next one does.
    starts = np.full(len(begins) + 1, stop)
    starts[0], done, before_s = first, 1, -1
    for at in range(first, stop, CHUNK_RECORDS):
        end = min(at + CHUNK_RECORDS, stop)
        times = _ascending(day, at, end, before_s)
        before_s = int(times[-1])
        upto = 1 + int(bounds.searchsorted(times[-1], "right"))
        starts[done:upto] = times.searchsorted(bounds[done - 1 : upto - 1]) + at
        done = upto
    holds = starts[1:] > starts[:-1]
    begins = begins[holds]
    return Cuts(starts[:-1][holds], begins, begins // MINUTE_S)


def _ascending(day: Day, first: int, stop: int, before_s: int) -> NDArray[np.uint32]:
    """The times of some records; `before_s` is that of the record before them.

    Raises:
        UnsortedError: they do not ascend.
    """
    times = np.frombuffer(day.read(TIME_COLUMN, first, stop), "<u4")
    if times[0] < before_s or (times[1:] < times[:-1]).any():
        raise UnsortedError(f"records {first} to {stop - 1} do not ascend")
    return times


def _starts(times: NDArray[np.uint32], interval: Interval) -> Ints:
    """Where another bucket begins among sorted times; 0 is the first."""
    length_s, shift_s = interval.length_s, interval.shift_s
    low, high = ((int(times[place]) - shift_s) // length_s for place in (0, -1))
    if (high - low) * SPARSE_RECORDS > len(times):
        indices = (times.astype(np.int64) - shift_s) // length_s
        return changes(indices[1:] != indices[:-1])
    bounds = np.arange(low + 1, high + 1) * length_s + shift_s
    # Buckets without a record begin where the next one does.
    places = np.searchsorted(times, bounds.astype("<u4"), "left")
    return _distinct(np.append(0, places).astype(np.int64))


def _distinct(ascending: Ints) -> Ints:
    return ascending[changes(ascending[1:] != ascending[:-1])]


def begins_of(seconds: Ints, interval: Interval) -> Ints:
    """Where the buckets of unix seconds begin."""
    indices = (seconds - interval.shift_s) // interval.length_s
    return np.maximum(indices * interval.length_s + interval.shift_s, 0)


def changes(differs: NDArray[np.bool_]) -> Ints:
    """Where runs start, 0 among them, given whether each record after the first differs."""
    return np.append(0, np.flatnonzero(differs) + 1).astype(np.int64)
