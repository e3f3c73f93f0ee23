"""Bars computed from records: open, high, low, close, sum, mean and count of each bucket.

It needs numpy, so import it when bars are first asked for. Days are given one after another; where
their buckets begin is found by `core/cuts.py`.

Floats are compared as integers (`_keys`): the same order, but total, with -0.0 below 0.0 and every
NaN outside both infinities. So high and low do not depend on how a loop was vectorised, and no
comparison meets a NaN.

A sum is four nested sums, each f8, from 0.0 and from left to right:

    of the records of a bucket that lie in one minute (UTC) of one day file, in their order
    of these over the minutes of an hour
    of these over the hours of a day file
    of these over the day files

A piece that ends amid a minute hands its sum on, so pieces change nothing. A minute or an hour that
lies wholly in a bucket has one sum whatever the bucket is, so it may be computed ahead: `Kept` rows
stand for the records of whole minutes or hours, and give the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zerocopy.core.cuts import CHUNK_RECORDS, MINUTE_S, TooManyBarsError, begins_of, changes, cut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from zerocopy.core.bars import Interval, Output
    from zerocopy.core.cuts import Cuts, Day
    from zerocopy.core.layout import Dtype

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Values = NDArray[Any]

CELLS_MIN = 8_192
"""Sums of minutes or hours that are added up at once: a file has some of them, and numpy's calls
would take longer than the sums."""

_HOUR_MINUTES = 60
_KEYS = ("first", "last", "low", "high")
_FLOAT = "f"


class Kept(NamedTuple):
    """What was computed ahead of some neighbouring records of a day file.

    `rows` are by column, of `kept_dtype`; each stands for the records of a minute, an hour or the
    whole file. All columns have the same begins and counts.
    """

    rows: Mapping[str, Values]


class _Rows(NamedTuple):
    """What is known of numbers in buckets; `first` to `high` are keys of values, see `_keys`."""

    begins: Ints
    first: Values
    last: Values
    low: Values
    high: Values
    numbers: Ints


class Bars:
    """The bars of the days that were added, for the `outputs` asked for.

    `dtypes` are those of the columns. More than `bars_max` bars are refused as they come.
    """

    def __init__(
        self,
        interval: Interval,
        outputs: Sequence[Output],
        dtypes: Mapping[str, Dtype],
        bars_max: int,
    ) -> None:
        self._interval = interval
        self._outputs = outputs
        self._bars_max = bars_max
        self._begins: list[Ints] = []
        self._counts: list[Ints] = []
        self._bars = 0
        # A count needs no values.
        wanted: dict[str, set[str]] = {}
        for output in outputs:
            if output.aggregate != "count":
                wanted.setdefault(output.column, set()).add(output.aggregate)
        self._folds = {
            column: _Fold(np.dtype(dtypes[column].name), sums=bool(wants & {"sum", "mean"}))
            for column, wants in wanted.items()
        }

    def add(self, *parts: Day | Kept) -> None:
        """Take in the records of a day file, after those of the day before.

        Some of `parts` may be kept; all together are neighbours, in the order of the file.

        Raises:
            TooManyBarsError: there are more than `bars_max` bars.
            UnsortedError: the times that were read do not ascend.
            DataError: a file fails.
        """
        with np.errstate(all="ignore"):
            for part in parts:
                if isinstance(part, Kept):
                    self._add_kept(part)
                else:
                    self._add_records(part)
            for fold in self._folds.values():
                fold.end_file()
            # Not amid a file: its sum is one.
            if self._bars > self._bars_max:
                self._settle()

    def _add_records(self, day: Day) -> None:
        sums = any(fold.sums for fold in self._folds.values())
        buckets, cells = cut(day, self._interval, self._bars_max, sums=sums)
        first, stop = day.records
        self._count(buckets.begins, np.diff(buckets.starts, append=stop))
        for column, fold in self._folds.items():
            fold.begin(buckets, cells)
            for at in range(first, stop, CHUNK_RECORDS):
                end = min(at + CHUNK_RECORDS, stop)
                fold.add(np.frombuffer(day.read(column, at, end), fold.dtype), at, end)

    def _add_kept(self, kept: Kept) -> None:
        [rows, *_] = kept.rows.values()
        begins = begins_of(rows["begin"].astype(np.int64), self._interval)
        self._count(begins, rows["count"].astype(np.int64))
        for column, fold in self._folds.items():
            fold.add_kept(begins, kept.rows[column])

    def _count(self, begins: Ints, counts: Ints) -> None:
        self._begins.append(begins)
        self._counts.append(counts)
        self._bars += len(begins)

    def keep(self, column: str) -> Values:
        """The bars of a column whose sums were asked for, as rows of `kept_dtype`."""
        with np.errstate(all="ignore"):
            self._settle()
        begins, counts, fold = self._begins[0], self._counts[0], self._folds[column]
        kept = np.zeros(len(begins), kept_dtype(fold.dtype))
        kept["begin"], kept["count"] = begins, counts
        fold.keep(begins, kept)
        return kept

    def columns(self) -> list[NDArray[Any]]:
        """`time`, then the outputs in their order: a record for each bucket that holds one."""
        with np.errstate(all="ignore"):
            self._settle()
            begins, counts = self._begins[0], self._counts[0]
            found: list[NDArray[Any]] = [begins.astype("<u4")]
            for column, aggregate in self._outputs:
                if aggregate == "count":
                    found.append(counts.astype("<u4"))
                else:
                    found.append(self._folds[column].result(aggregate, begins))
            return found

    def _settle(self) -> None:
        """Make one row of each bucket.

        Only where the times of a day reach into another one has a bucket several.
        """
        order, starts = _runs(*self._begins)
        begins = _joined(self._begins)[order][starts]
        counts = np.add.reduceat(_joined(self._counts)[order], starts) if len(starts) else begins
        self._begins, self._counts = [begins], [counts]
        self._bars = len(begins)
        if self._bars > self._bars_max:
            raise TooManyBarsError
        for fold in self._folds.values():
            fold.settle()


class _Fold:
    """What is taken of one column: numbers by bucket, and sums where `sums`."""

    def __init__(self, dtype: np.dtype[Any], *, sums: bool) -> None:
        self.dtype = dtype
        self.sums = sums
        self._rows: list[_Rows] = []
        self._files = 0
        self._cell_parts: list[tuple[int, Ints, Ints, Floats]] = []
        self._cell_count = 0
        self._sum_begins: list[Ints] = []
        self._sums: list[Floats] = []
        self._infinity = 0
        self._is_signed = False  # until a value is: prices and volumes are their own keys
        if dtype.kind == _FLOAT:
            self._infinity = int(np.array(np.inf, dtype).view(_key_dtype(dtype)))

    def begin(self, buckets: Cuts, cells: Cuts) -> None:
        """Get ready for records in these runs."""
        self._buckets, self._cells = buckets, cells
        self._cell_sums = np.zeros(len(cells.starts) if self.sums else 0)
        if self.sums:
            self._add_cells(cells.begins, cells.minutes, self._cell_sums)

    def add(self, values: Values, first: int, stop: int) -> None:
        """Take in the records [first, stop) of the file."""
        runs, starts = self._buckets.within(first, stop)
        rows = self._numbers(values, starts, self._buckets.begins[runs])
        if rows is not None:
            self._rows.append(rows)
        if self.sums:
            self._add_sums(values, *self._cells.within(first, stop))

    def add_kept(self, begins: Ints, kept: Values) -> None:
        """Take in what was computed ahead, for the buckets that begin at `begins`."""
        if self.sums:
            self._add_cells(begins, kept["begin"] // np.int64(MINUTE_S), kept["sum"])
        good = kept["numbers"] > 0
        begins, kept = (begins, kept) if good.all() else (begins[good], kept[good])
        if len(kept):
            numbers = kept["numbers"].astype(np.int64)
            first, last, low, high = (kept[name] for name in _KEYS)
            self._rows.append(_Rows(begins, first, last, low, high, numbers))

    def _add_cells(self, begins: Ints, minutes: Ints, sums: Floats) -> None:
        self._cell_parts.append((self._files, begins, minutes, sums))
        self._cell_count += len(sums)

    def end_file(self) -> None:
        """What comes next is of another file."""
        self._files += 1
        if self._cell_count >= CELLS_MIN:
            self._add_up()

    def _add_up(self) -> None:
        """Add the minutes of each hour, then the hours, file by file and bucket by bucket."""
        if not self._cell_parts:
            return
        of_parts, *columns = zip(*self._cell_parts, strict=True)
        begins, minutes, sums = (np.concatenate(each) for each in columns)
        files = np.repeat(of_parts, [len(each) for each in columns[0]])
        self._cell_parts, self._cell_count = [], 0
        hours = minutes // _HOUR_MINUTES
        another = (files[1:] != files[:-1]) | (begins[1:] != begins[:-1])
        starts = changes(another | (hours[1:] != hours[:-1]))
        files, begins, sums = files[starts], begins[starts], _left_sums(sums, starts)
        starts = changes((files[1:] != files[:-1]) | (begins[1:] != begins[:-1]))
        self._sum_begins.append(begins[starts])
        self._sums.append(_left_sums(sums, starts))

    def keep(self, begins: Ints, kept: Values) -> None:
        """Fill in all but the first two fields of `kept`, once all is settled."""
        assert self.sums, "sums were asked for"
        if self._sums:
            kept["sum"] = self._sums[0]
        for rows in self._rows:
            places = _places(rows.begins, begins)
            for name in (*_KEYS, "numbers"):
                kept[name][places] = getattr(rows, name)

    def settle(self) -> None:
        """Make one row of each bucket."""
        self._add_up()
        if self._rows:
            self._rows = [_merged(self._rows)]
        if self._sums:
            order, starts = _runs(*self._sum_begins)
            self._sum_begins = [_joined(self._sum_begins)[order][starts]]
            self._sums = [_left_sums(_joined(self._sums)[order], starts)]

    def result(self, aggregate: str, begins: Ints) -> Values:
        """An output for the buckets that begin at `begins`, once all is settled."""
        summing = aggregate in {"sum", "mean"}
        found: Values = np.zeros(len(begins), "<f8" if summing else self.dtype)
        if found.dtype.kind == _FLOAT:
            found.fill(np.nan)
        if not self._rows:
            return found
        [rows] = self._rows
        places = _places(rows.begins, begins)
        if not summing:
            keys = {"open": rows.first, "high": rows.high, "low": rows.low, "close": rows.last}
            found[places] = _values(keys[aggregate], self.dtype)
            return found
        sums = self._sums[0][places]  # a bucket of NaN alone has one as well
        found[places] = sums / rows.numbers if aggregate == "mean" else sums
        found[np.isnan(found)] = np.nan  # inf - inf has a sign that depends on the processor
        return found

    def _numbers(self, values: Values, starts: Ints, begins: Ints) -> _Rows | None:
        """The numbers of each run; runs of NaN alone are left out, and None is for no other."""
        infinity = self._infinity
        keys = _keys(values) if self._is_signed else _bits(values)
        low = np.minimum.reduceat(keys, starts)
        if infinity and not self._is_signed and low.min() < 0:
            self._is_signed, keys = True, _keys(values)
            low = np.minimum.reduceat(keys, starts)
        high = np.maximum.reduceat(keys, starts)
        if infinity and (high.max() > infinity or low.min() < ~infinity):
            good = (keys <= infinity) & (keys >= ~infinity)
            numbers = np.add.reduceat(good, starts, dtype=np.int64)
            begins, numbers = begins[numbers > 0], numbers[numbers > 0]
            keys, starts = keys[good], np.cumsum(numbers) - numbers
            if not len(starts):
                return None
            low, high = np.minimum.reduceat(keys, starts), np.maximum.reduceat(keys, starts)
        ends = np.concatenate((starts[1:], [len(keys)]))
        return _Rows(begins, keys[starts], keys[ends - 1], low, high, ends - starts)

    def _add_sums(self, values: Values, cells: slice, starts: Ints) -> None:
        # The sum so far stands before the records: bincount adds from 0.0, from left to right.
        weights = np.empty(len(values) + 1)
        weights[0] = self._cell_sums[cells.start]
        weights[1:] = values
        if self.dtype.kind == _FLOAT:
            # Adding 0.0 changes no sum that began with 0.0.
            np.copyto(weights[1:], 0.0, where=np.isnan(weights[1:]))
        lengths = np.diff(starts, append=len(values))
        lengths[0] += 1
        places = np.repeat(np.arange(len(starts)), lengths)
        self._cell_sums[cells] = np.bincount(places, weights, len(starts))


# ---- rows


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, np.int64)


def _runs(*begins: Ints) -> tuple[Ints | slice, Ints]:
    """An order that makes rows of a bucket neighbours, as they came; where each run starts."""
    joined = _joined(begins)
    order: Ints | slice = slice(None)
    if (joined[1:] < joined[:-1]).any():
        order = np.argsort(joined, kind="stable")
        joined = joined[order]
    return order, changes(joined[1:] != joined[:-1]) if len(joined) else np.empty(0, np.int64)


def _places(some: Ints, begins: Ints) -> Ints | slice:
    """Where `some` of the ascending `begins` are among them."""
    # As a rule all are, and a search for 100,000 would hold the lock for more than a millisecond.
    return slice(None) if len(some) == len(begins) else np.searchsorted(begins, some)


def _merged(parts: Sequence[_Rows]) -> _Rows:
    order, starts = _runs(*(part.begins for part in parts))
    begins, first, last, low, high, numbers = (
        np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True)
    )
    ends = np.append(starts[1:], len(begins))
    return _Rows(
        begins[starts],
        first[starts],
        last[ends - 1],
        np.minimum.reduceat(low, starts),
        np.maximum.reduceat(high, starts),
        np.add.reduceat(numbers, starts),
    )


def _left_sums(values: Floats, starts: Ints) -> Floats:
    """The sum of each run, from left to right."""
    places = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    return np.asarray(np.bincount(places, values, len(starts)), np.float64)


def kept_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A row of `Kept` for a column of `dtype`: unix seconds, records, numbers among them, keys."""
    fields = [("sum", "<f8"), ("begin", "<u4"), ("count", "<u4"), ("numbers", "<u4")]
    return np.dtype([*fields, *((name, _key_dtype(dtype)) for name in _KEYS)])


def _key_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(f"<i{dtype.itemsize}") if dtype.kind == _FLOAT else dtype


def _bits(values: Values) -> Values:
    """The bits of floats as integers: their keys where no sign is set."""
    return values.view(f"<i{values.itemsize}") if values.dtype.kind == _FLOAT else values


def _keys(values: Values) -> Values:
    """Integers in the order of the values; integers are their own keys."""
    if values.dtype.kind != _FLOAT:
        return values
    bits = _bits(values)
    flips = (bits >> (8 * values.itemsize - 1)) & np.iinfo(bits.dtype).max
    return np.asarray(flips ^ bits)


def _values(keys: Values, dtype: np.dtype[Any]) -> Values:
    """The values of keys; to make keys of keys gives the bits again."""
    return _keys(keys.view(dtype)).view(dtype) if dtype.kind == _FLOAT else keys
