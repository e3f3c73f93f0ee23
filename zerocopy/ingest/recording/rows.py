"""From a row or a batch to records: a packed structure for each, as numpy and `struct` see it.

Owns the check of each value. What a dtype cannot hold is refused with the column's name, never
bent: `struct` does that for rows, numpy's ranges for batches. It must never know files.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from zerocopy.core.errors import ConfigError, IngestError
from zerocopy.core.layout import TIME_COLUMN, U32_MAX, Dtypes, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

NANOS_COLUMN = "nanos"
NS_PER_S = 1_000_000_000
NS_PER_US = 1_000
"""Times that are f8 are good to a microsecond: below are digits that nobody wrote."""
UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": NS_PER_S}
"""How many of each are a second."""

_CODES = {
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "f4": "f", "f8": "d",
}  # fmt: skip
_NARROW = "time: f4 cannot tell one minute from the next; f8 can"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class RowFormat:
    """How the rows of a series become records.

    `columns` are those of a row behind its time. With `nanos` a column of that name is written,
    which holds the part of the time below a second; it is no part of a row then. `unit` is that of
    times that are numbers: datetimes have their own.

    Raises:
        ConfigError: a column is no name or comes twice, or a dtype or the unit is none.
    """

    def __init__(
        self, columns: Sequence[str], dtypes: Mapping[str, str], unit: str, *, nanos: bool
    ) -> None:
        self.fields = (TIME_COLUMN, *columns)
        self.names = (TIME_COLUMN, NANOS_COLUMN, *columns) if nanos else self.fields
        for name in self.names:
            if not is_name(name):
                raise ConfigError(f"column {name!r}: no name; letters, digits, . _ - as in price")
            if self.names.count(name) > 1:
                raise ConfigError(f"column {name}: named twice; time comes by itself")
        if unit not in UNITS:
            raise ConfigError(f"unit {unit!r}: one of {', '.join(UNITS)}")
        self._per_s = UNITS[unit]
        self._unit = unit
        self.nanos = nanos
        self.dtypes = Dtypes(dtypes)
        kinds = [self.dtypes.of(name).name[1:] for name in self.names]
        self.dtype = np.dtype(
            [(name, self.dtypes.of(name).name) for name in self.names]
        )  # without gaps
        codes = [kind[1:] + "s" if kind.startswith("S") else _CODES[kind] for kind in kinds]
        self._pack = struct.Struct("<" + "".join(codes)).pack
        self._pick: Callable[[Any], tuple[Any, ...]] = (
            itemgetter(*self.fields) if columns else lambda row: (row[TIME_COLUMN],)
        )
        self._texts = [
            (place, int(kind[1:])) for place, kind in enumerate(kinds) if kind.startswith("S")
        ]
        self._ns_of_unit = NS_PER_S // self._per_s
        # Nothing of a row but an integer time has to be looked at before `struct` does.
        self._is_plain = not self._texts

    def pack(self, row: Sequence[Any] | Mapping[str, Any]) -> bytes:
        """The record of one row: (time, *columns), or a mapping of these names.

        Raises:
            IngestError: it has not just these fields, or a value does not fit its column.
        """
        values = self._picked(row) if isinstance(row, Mapping) else row
        if self._is_plain and type(values[0]) is int:
            seconds, rest = divmod(values[0], self._per_s)
            try:
                if self.nanos:
                    return self._pack(seconds, rest * self._ns_of_unit, *values[1:])
                return self._pack(seconds, *values[1:])
            except (struct.error, OverflowError, TypeError):
                pass  # told below, in our words
        if len(values) != len(self.fields):
            wanted = ", ".join(self.fields)
            raise IngestError(f"a row has {len(values)} values; {wanted} are wanted")
        seconds, nanos = self._time(values[0])
        found = [seconds, nanos, *values[1:]] if self.nanos else [seconds, *values[1:]]
        for place, nbytes in self._texts:
            found[place] = _text(self.names[place], found[place], nbytes)
        try:
            return self._pack(*found)
        except (struct.error, OverflowError, TypeError):
            self._refuse(found)

    def batch(self, columns: Mapping[str, ArrayLike]) -> NDArray[Any]:
        """The records of whole columns of equal length, copied.

        Raises:
            IngestError: they are not just these columns, differ in length, or do not fit.
        """
        if columns.keys() != set(self.fields):
            raise _wrong_fields(columns, self.fields)
        arrays = {name: np.asarray(columns[name]) for name in self.fields}
        lengths = {name: array.shape for name, array in arrays.items()}
        if any(len(shape) != 1 for shape in lengths.values()) or len(set(lengths.values())) != 1:
            told = ", ".join(f"{name} {shape}" for name, shape in lengths.items())
            raise IngestError(f"columns of one length are wanted, not {told}")
        rows = np.empty(len(arrays[TIME_COLUMN]), self.dtype)
        seconds, nanos = self._times(arrays.pop(TIME_COLUMN))
        rows[TIME_COLUMN] = seconds
        if self.nanos:
            rows[NANOS_COLUMN] = nanos
        for name, array in arrays.items():
            rows[name] = _fitting(name, array, self.dtype[name])
        return rows

    def rows_of(self, packed: bytes | bytearray) -> NDArray[Any]:
        """The records that `pack` has made, one behind the other."""
        return np.frombuffer(packed, self.dtype)

    # ---- times

    def _time(self, value: Any) -> tuple[int, int]:
        """Seconds and nanoseconds of the time of one row."""
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise IngestError(f"time {value}: has no zone; datetime.now(UTC) has one")
            value_ns = (value - _EPOCH) // timedelta(microseconds=1) * 1_000
            seconds, nanos = divmod(value_ns, NS_PER_S)
        elif isinstance(value, np.datetime64):
            if np.isnat(value):
                raise IngestError("time: NaT is none")
            seconds = int(value.astype("M8[s]").astype(np.int64))
            rest_ns: Any = value - np.datetime64(seconds, "s")
            nanos = int(rest_ns.astype("m8[ns]").astype(np.int64))
        elif isinstance(value, float | np.floating):
            if isinstance(value, np.float32 | np.float16):
                raise IngestError(_NARROW)
            if not np.isfinite(value):
                raise IngestError(f"time: {value} is none")
            seconds, nanos = self._of_float(float(value))
        else:
            try:
                seconds, rest = divmod(value.__index__(), self._per_s)
            except AttributeError:
                raise IngestError(f"time: {value!r} is neither a number nor a datetime") from None
            nanos = rest * self._ns_of_unit
        if not 0 <= seconds <= U32_MAX:
            raise IngestError(f"time: {value} {self._unit} is not between 1970 and 2106; unit=?")
        return seconds, nanos

    def _of_float(self, value: float) -> tuple[int, int]:
        seconds, rest = divmod(value, self._per_s)
        nanos = round(rest * self._ns_of_unit / NS_PER_US) * NS_PER_US
        return (int(seconds) + 1, 0) if nanos == NS_PER_S else (int(seconds), nanos)

    def _times(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Seconds and nanoseconds of the times of a batch."""
        if values.dtype.kind == "M":
            if np.isnat(values).any():
                raise IngestError("time: NaT is none")
            whole = values.astype("M8[s]").astype(np.int64)
            # Years that 64 bits of nanoseconds do not reach would become others.
            if len(whole) and not 0 <= whole.min() <= whole.max() <= U32_MAX:
                raise IngestError("time: not all datetimes are between 1970 and 2106")
            per_s, values = NS_PER_S, values.astype("M8[ns]").astype(np.int64)
        elif values.dtype.kind in "iuf":
            per_s = self._per_s
        else:
            raise IngestError(f"time: {values.dtype} is neither numbers nor datetime64")
        is_float = values.dtype.kind == "f"
        if is_float and values.dtype.itemsize < np.dtype("f8").itemsize:
            raise IngestError(_NARROW)
        if is_float and not np.isfinite(values).all():
            raise IngestError("time: NaN or infinity is none")
        seconds = values // per_s if per_s > 1 or is_float else values
        if len(seconds) and not 0 <= seconds.min() <= seconds.max() <= U32_MAX:
            raise IngestError(f"time: not all {self._unit} are between 1970 and 2106; unit=?")
        if not self.nanos:
            return seconds, seconds
        nanos = (values - seconds * per_s) * (NS_PER_S // per_s)
        if is_float:
            nanos = np.rint(nanos / NS_PER_US) * NS_PER_US
        nanos = nanos.astype(np.int64)
        carry = nanos == NS_PER_S
        return seconds + carry, np.where(carry, 0, nanos)

    # ---- errors

    def _picked(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        try:
            values = self._pick(row)
        except KeyError:
            raise _wrong_fields(row, self.fields) from None
        if len(row) != len(self.fields):
            raise _wrong_fields(row, self.fields)
        return values

    def _refuse(self, values: Sequence[Any]) -> NoReturn:
        """Say which value `struct` did not take."""
        for name, value in zip(self.names, values, strict=True):
            code = _CODES.get(self.dtype[name].str[1:])
            if code is None:
                continue  # a text, which was checked
            try:
                struct.pack("<" + code, value)
            except (struct.error, OverflowError, TypeError):
                raise IngestError(
                    f"{name}: {value!r} does not fit {self.dtype[name].str[1:]}"
                ) from None
        raise AssertionError("one of the values does not fit")


def _wrong_fields(row: Mapping[str, Any], fields: Sequence[str]) -> IngestError:
    missing = [name for name in fields if name not in row]
    if missing:
        return IngestError(f"a row has no {' and no '.join(missing)}")
    more = [name for name in row if name not in fields]
    return IngestError(f"a row has {', '.join(more)}, which no column is for")


def _text(name: str, value: Any, nbytes: int) -> bytes:
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes):
        raise IngestError(f"{name}: {value!r} is no text")
    if len(value) > nbytes:
        raise IngestError(f"{name}: {value!r} has {len(value)} bytes, more than S{nbytes}")
    return value


def _fitting(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The values of a batch, which `dtype` can hold."""
    kind, of = array.dtype.kind, dtype.str[1:]
    if dtype.kind == "S":
        if kind == "U":
            array = np.char.encode(array, "utf-8")
        if array.dtype.kind != "S":
            raise IngestError(f"{name}: {array.dtype} is no text")
        lengths = np.char.str_len(array)
        if len(array) and lengths.max() > dtype.itemsize:
            raise IngestError(f"{name}: a text has {lengths.max()} bytes, more than {of}")
        return array
    if kind not in "biuf" or (kind == "f" and dtype.kind != "f"):
        raise IngestError(f"{name}: {array.dtype} cannot become {of} without loss")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            found = array.astype(dtype)
        if kind == "f" and (np.isinf(found) & np.isfinite(array)).any():
            raise IngestError(f"{name}: a value is too large for {of}")
        return found
    limits = np.iinfo(dtype)
    if kind != "b" and len(array) and not (limits.min <= array.min() and array.max() <= limits.max):
        raise IngestError(f"{name}: {array.min()} to {array.max()} does not fit {of}")
    return array
