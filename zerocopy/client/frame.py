"""A table of columns: what every query gives.

Owns the columns, their times and how they look. Other libraries' tables are made in `tables`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from zerocopy.client import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import pandas as pd  # type: ignore[import-untyped]
    import polars as pl
    import pyarrow as pa  # type: ignore[import-untyped]
    from numpy.typing import NDArray


class Frame(Mapping[str, "NDArray[Any]"]):
    """Columns of equal length by name, each a numpy array.

    The arrays are views of one buffer, which was read into once. They cannot be written, because
    tables of polars and Arrow share their memory: change a copy, `frame["price"].copy()`.

    `len(frame)` is the number of records, `frame["price"]` a column, `frame[10:20]` a frame of some
    records without copying. A frame can be pickled.

    Attributes:
        skipped: days left out because they lack a requested column, as `DD.MM.YY`.
        interval_s: seconds of a bar, None for records.
        cursor: where a live stream stands behind these records, None elsewhere.

    Example:
        >>> frame = Frame({"time": np.array([0, 60], "<u4"), "price": np.array([1, 2.5], "<f4")})
        >>> len(frame), frame["price"].max()
        (2, np.float32(2.5))
        >>> frame
        time                 price
        1970-01-01T00:00:00    1.0
        1970-01-01T00:01:00    2.5
        2 records
    """

    __slots__ = ("_columns", "_time", "cursor", "interval_s", "skipped")

    def __init__(
        self,
        columns: Mapping[str, NDArray[Any]],
        *,
        skipped: tuple[str, ...] = (),
        interval_s: int | None = None,
        cursor: str | None = None,
    ) -> None:
        self._columns = dict(columns)
        self._time: NDArray[np.datetime64] | None = None
        self.skipped = skipped
        self.interval_s = interval_s
        self.cursor = cursor

    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Frame: ...
    def __getitem__(self, key: str | slice) -> NDArray[Any] | Frame:
        if isinstance(key, slice):
            return self._like({name: values[key] for name, values in self._columns.items()})
        return self._columns[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, key: object) -> bool:
        return key in self._columns

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in the order that was asked for."""
        return tuple(self._columns)

    @property
    def nbytes(self) -> int:
        """Bytes of all records."""
        return sum(values.nbytes for values in self._columns.values())

    @property
    def time(self) -> NDArray[np.datetime64]:
        """The column `time` as datetime64[s]; datetime64[ns] where there is a column `nanos`.

        Computed when first asked for: 8 bytes a record.

        Raises:
            KeyError: the frame has no column `time`.
        """
        if self._time is None:
            self._time = tables.times(self._columns)
        return self._time

    def to_polars(self, *, datetimes: bool = False) -> pl.DataFrame:
        """A polars DataFrame. With pyarrow installed it shares this frame's memory.

        Args:
            datetimes: make `time` a Datetime instead of unix seconds: 8 bytes a record.

        Raises:
            MissingPackage: polars is not installed.
        """
        found: pl.DataFrame = tables.to_polars(self._table(datetimes=datetimes))
        return found

    def to_pandas(self, *, datetimes: bool = False) -> pd.DataFrame:
        """A pandas DataFrame whose columns share this frame's memory, so they cannot be written.

        Args:
            datetimes: make `time` a datetime64 instead of unix seconds: 8 bytes a record.

        Raises:
            MissingPackage: pandas is not installed.
        """
        return tables.to_pandas(self._table(datetimes=datetimes))

    def to_arrow(self, *, datetimes: bool = False) -> pa.Table:
        """A pyarrow Table that shares this frame's memory.

        Args:
            datetimes: make `time` a timestamp instead of unix seconds: 8 bytes a record.

        Raises:
            MissingPackage: pyarrow is not installed.
        """
        return tables.to_arrow(self._table(datetimes=datetimes))

    def __repr__(self) -> str:
        return tables.text(self._columns, self._notes())

    def _repr_html_(self) -> str:
        return tables.html(self._columns, self._notes())

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._columns, self.skipped, self.interval_s, self.cursor)

    def _like(self, columns: Mapping[str, NDArray[Any]]) -> Frame:
        return Frame(columns, skipped=self.skipped, interval_s=self.interval_s, cursor=self.cursor)

    def _table(self, *, datetimes: bool) -> dict[str, NDArray[Any]]:
        return {**self._columns, "time": self.time} if datetimes else self._columns

    def _notes(self) -> list[str]:
        notes = [f"{len(self):,} record{'' if len(self) == 1 else 's'}"]
        if self.interval_s is not None:
            notes.append(f"bars of {self.interval_s} s")
        if self.cursor is not None:
            notes.append(f"cursor {self.cursor}")
        if self.skipped:
            notes.append(f"{len(self.skipped)} day{'s' * (len(self.skipped) > 1)} skipped")
        return notes


def _rebuilt(
    columns: dict[str, NDArray[Any]],
    skipped: tuple[str, ...],
    interval_s: int | None,
    cursor: str | None,
) -> Frame:
    """The frame of a pickle; its columns cannot be written either."""
    for values in columns.values():
        values.flags.writeable = False
    return Frame(columns, skipped=skipped, interval_s=interval_s, cursor=cursor)
