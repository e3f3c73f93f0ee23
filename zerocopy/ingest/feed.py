"""Rows of standard input: lines of NDJSON or CSV, each for one series.

    bytes → lines → fields → Row(series, columns, values)

Owns what a line means: its time, its series, its columns. A line that cannot be read is refused
with the reason; nothing is guessed from its neighbours. It must never know where rows go.
"""

from __future__ import annotations

import csv
import math
import struct
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

from zerocopy.core.errors import ConfigError, IngestError
from zerocopy.core.layout import TIME_COLUMN, Dtypes, is_name
from zerocopy.ingest.csvtext import DATUM
from zerocopy.ingest.recipe import NANOS, TIME_NAMES
from zerocopy.ingest.times import EXAMPLES, NS_PER_S, UNITS, TimeRule, is_calendar, unit_of
from zerocopy.ingest.values import SIDE, side_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

SERIES_FIELDS = ("exchange", "symbol", "type")
"""The fields that name the series of a row, where no flag does."""

LINE_BYTES_MAX = 1 << 20
"""A longer line is no row; it is skipped to its end."""

SHAPES_MAX = 1_000
"""Sets of fields whose meaning is remembered: a feed may have other ones in each row."""

_BOM = b"\xef\xbb\xbf"
_DECIMALS_MAX = 22
_HALVES = [0.5 * 10.0**-decimals for decimals in range(_DECIMALS_MAX + 1)]
_F4 = struct.Struct("<f")


class Asked(NamedTuple):
    """What the command line says of rows; None where the row itself tells."""

    exchange: str | None = None
    symbol: str | None = None
    type: str | None = None
    time: TimeRule | None = None
    columns: Mapping[str, str] = {}  # ours → the row's: --map
    delimiter: str = ","
    format: str | None = None


Series = tuple[str, str, str]
"""Exchange, symbol, type."""


class Row(NamedTuple):
    """One row: its series, the columns behind its time, and (time in ns, *values)."""

    series: Series
    columns: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(slots=True)
class Lost:
    """Values of a column that f4 does not hold to half a unit of their last printed digit."""

    count: int = 0
    example: str = ""


class _Shape(NamedTuple):
    """How the fields of a row become a `Row`; for rows with the same fields."""

    time: str
    told: Series | None  # by flags alone
    series: tuple[tuple[str | None, str], ...]  # what a flag says, else the field
    columns: tuple[str, ...]
    values: tuple[tuple[str, Callable[[Any], Any]], ...]  # the row's field, and how to read it


class Feed:
    """Reads rows from pieces of a stream. `lines` counts those that began, `lost` what f4 loses.

    Raises:
        ConfigError: a flag asks for what cannot be.
    """

    def __init__(self, asked: Asked, dtypes: Dtypes) -> None:
        self.lines = 0
        self.lost: dict[str, Lost] = {}
        self.format = asked.format
        self._asked = asked
        self._dtypes = dtypes
        self._rest = b""
        self._skips = False
        self._header: tuple[str, ...] | None = None
        self._shapes: dict[tuple[str, ...], _Shape] = {}
        rule = asked.time or TimeRule("")
        try:
            self._zone = ZoneInfo(rule.zone) if rule.zone else None
        except (ZoneInfoNotFoundError, ValueError):
            raise ConfigError(f"there is no zone {rule.zone}: as America/New_York or UTC") from None
        self._unit = rule.unit

    def rows(self, piece: bytes, *, is_last: bool = False) -> Iterator[Row | IngestError]:
        """The rows of the lines that `piece` ends; an error in the place of a line that is none."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if is_last and self._rest:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self.lines += 1
            if self._skips or len(line) > LINE_BYTES_MAX:
                self._skips = False
                yield IngestError(f"line {self.lines}: longer than {LINE_BYTES_MAX:,} bytes")
                continue
            if self.lines == 1:
                line = line.removeprefix(_BOM)  # noqa: PLW2901 - of the first line alone
            text = line.strip()
            if not text:
                continue
            try:
                fields = self._fields(text)
                if fields is not None:
                    yield self._row(fields)
            except IngestError as error:
                yield IngestError(f"line {self.lines}: {error.detail}")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest, self._skips = b"", True

    # ---- fields

    def _fields(self, line: bytes) -> Mapping[str, Any] | None:
        """The fields of a line by name; None for a header."""
        if self.format is None:
            self.format = "ndjson" if line.startswith(b"{") else "csv"
        if self.format == "ndjson":
            try:
                fields = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise IngestError(f"is no JSON: {error.msg}") from None
            if not isinstance(fields, dict):
                raise IngestError("is no object of JSON")
            return fields
        if self._header is not None and line.startswith(b"{"):
            raise IngestError("is JSON, and what came first is not: --format ndjson decides")
        values = self._split(line)
        if self._header is None:
            self._header = tuple(value.strip() for value in values)
            if any(map(DATUM.fullmatch, self._header)):
                raise ConfigError(
                    "the first line is no header: CSV needs one that names its fields"
                )
            if len(set(self._header)) < len(self._header):
                raise ConfigError("a column comes twice in the header")
            return None
        if len(values) != len(self._header):
            raise IngestError(f"has {len(values)} fields, the header {len(self._header)}")
        return dict(zip(self._header, values, strict=True))

    def _split(self, line: bytes) -> Sequence[str]:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise IngestError("is not UTF-8") from None
        if '"' not in text:
            return text.split(self._asked.delimiter)
        try:
            return next(csv.reader((text,), delimiter=self._asked.delimiter, strict=True))
        except csv.Error as error:
            raise IngestError(f"is no CSV: {error}") from None

    def _row(self, fields: Mapping[str, Any]) -> Row:
        names = tuple(fields)
        shape = self._shapes.get(names) or self._shape(names)
        series = shape.told or self._series(shape, fields)
        values = [self._time_ns(shape.time, fields[shape.time])]
        for name, read in shape.values:
            try:
                values.append(read(fields[name]))
            except ValueError as error:
                raise IngestError(f"{name}: {error}") from None
        return Row(series, shape.columns, tuple(values))

    def _series(self, shape: _Shape, fields: Mapping[str, Any]) -> Series:
        names = [
            _name(field, fields[field]) if told is None else told for told, field in shape.series
        ]
        return names[0], names[1], names[2]

    def _shape(self, names: tuple[str, ...]) -> _Shape:
        asked = self._asked
        time = self._time_field(names)
        told = (asked.exchange, asked.symbol, asked.type)
        for name, flag in zip(SERIES_FIELDS, told, strict=True):
            if flag is None and name not in names:
                raise IngestError(f"which {name}? --{name}, or a field of that name")
        if asked.columns:
            missing = [theirs for theirs in asked.columns.values() if theirs not in names]
            if missing:
                raise IngestError(f"has no {' and no '.join(missing)}")
            columns = asked.columns
        else:
            columns = {name: name for name in names if name not in {time, *SERIES_FIELDS}}
            for name in columns:
                if not is_name(name):
                    raise IngestError(f"{name!r} cannot name a column; --map decides")
            if TIME_COLUMN in columns:
                raise IngestError("has a second time; --map decides")
        if NANOS in columns:
            raise IngestError("nanos are a part of the time here, and no field")
        values = tuple((theirs, self._reader(ours, theirs)) for ours, theirs in columns.items())
        series = tuple(zip(told, SERIES_FIELDS, strict=True))
        exchange, symbol, type_ = told
        by_flags = (exchange, symbol, type_) if exchange and symbol and type_ else None
        shape = _Shape(time, by_flags, series, tuple(columns), values)
        if len(self._shapes) == SHAPES_MAX:
            self._shapes.clear()
        self._shapes[names] = shape
        return shape

    def _time_field(self, names: tuple[str, ...]) -> str:
        if self._asked.time is not None:
            if self._asked.time.column not in names:
                raise IngestError(f"has no {self._asked.time.column}")
            return self._asked.time.column
        found = [name for name in names if name.lower() in TIME_NAMES]
        if len(found) != 1:
            which = f"{' or '.join(found)}" if found else "which field"
            raise IngestError(f"{which} is the time? --time decides")
        return found[0]

    # ---- values

    def _time_ns(self, name: str, value: Any) -> int:
        """Unix nanoseconds, exactly: a decimal is read digit by digit."""
        if type(value) is int and (known := self._unit_of(value)) in UNITS:
            return value * UNITS[known]
        text = value.strip() if isinstance(value, str) else repr(value)
        whole, dot, fraction = text.partition(".")
        if not (whole.isdecimal() and whole.isascii()) or (dot and not fraction.isdecimal()):
            return self._written_ns(name, text)
        count = int(whole)
        unit = self._unit_of(count)
        if unit is None or unit == "iso":
            raise IngestError(
                f"{name}: the unit of {text} is not clear; --time {name}:UNIT decides"
            )
        digits = len(str(UNITS[unit])) - 1
        if fraction[digits:].strip("0"):
            raise IngestError(f"{name}: {text} is finer than a nanosecond")
        return count * UNITS[unit] + int(fraction[:digits].ljust(digits, "0") or "0")

    def _unit_of(self, count: int) -> str | None:
        """What is told, or found by size; None where `count` can be two things."""
        if self._zone is not None and self._zone.key != "UTC":
            raise IngestError(
                f"{count} counts from 1970 in UTC, so the zone {self._zone.key} does not apply"
            )
        return self._unit or (None if is_calendar(count) else unit_of(count))

    def _written_ns(self, name: str, text: str) -> int:
        """Of ISO 8601, with an offset or in the zone that was told."""
        base, fraction, offset = _without_fraction(text)
        try:
            at = datetime.fromisoformat(base + offset)
        except ValueError:
            raise IngestError(f"{name}: {text!r} is no time: {EXAMPLES}") from None
        if at.microsecond:  # behind a comma
            raise IngestError(f"{name}: {text!r} is no time: a fraction follows a dot")
        if at.tzinfo is None:
            if self._zone is None:
                raise IngestError(f"{name}: {text} has no zone; --time {name}:iso:UTC decides")
            at = at.replace(tzinfo=self._zone)
            if at.utcoffset() != at.replace(fold=1).utcoffset():
                raise IngestError(f"{name}: {text} is twice or never in {self._zone.key}")
        return int(at.timestamp()) * NS_PER_S + int(fraction.ljust(9, "0"))

    def _reader(self, column: str, field: str) -> Callable[[Any], Any]:
        """How a value of `column` is read; it raises ValueError with the reason."""
        dtype = self._dtypes.of(column).name[1:]
        if column == SIDE:
            return lambda value: _side(field, value)
        if dtype.startswith("S"):
            return _text
        if dtype.startswith("f"):
            return _float if dtype == "f8" else self._f4_reader(column)
        return _integer

    def _f4_reader(self, column: str) -> Callable[[Any], float]:
        def read(value: Any) -> float:
            number = _float(value)
            try:
                kept: float = _F4.unpack(_F4.pack(number))[0]
            except OverflowError:
                raise ValueError(f"{value} is too large for f4") from None
            if kept != number and number == number:  # noqa: PLR0124 - NaN is not
                text = value if isinstance(value, str) else repr(value)
                if "e" not in text and "E" not in text:
                    decimals = len(text) - text.find(".") - 1 if "." in text else 0
                    if abs(kept - number) > _HALVES[min(decimals, _DECIMALS_MAX)]:
                        lost = self.lost.setdefault(column, Lost())
                        lost.count += 1
                        lost.example = f"{text} becomes {kept:.9g}"
            return number

        return read


def _without_fraction(text: str) -> tuple[str, str, str]:
    """The text before and behind the digits below a second, and these: at most nine."""
    base, dot, rest = text.partition(".")
    if not dot:
        return text, "", ""
    digits = len(rest) - len(rest.lstrip("0123456789"))
    if not digits or rest[9:digits].strip("0"):
        raise IngestError(f"{text!r} is no time of at most nine digits below a second")
    return base, rest[: min(digits, 9)], rest[digits:]


def _name(field: str, value: Any) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise IngestError(f"{field}: {value!r} cannot be a name; letters, digits and ._:+@^=&#~-")
    return value


def _side(field: str, value: Any) -> int:
    code = side_of(field, "" if value is None else str(value).strip().lower())
    if isinstance(code, str):
        raise ValueError(code)  # noqa: TRY004 - of the value
    return code


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | float | dict | list):
        raise ValueError(f"{value!r} is no text")  # noqa: TRY004 - caught as a value
    return str(value)


def _float(value: Any) -> float:
    """A number, or text of one; nothing is NaN."""
    if value is None or value == "":
        return float("nan")
    if isinstance(value, str):
        if "_" in value:
            raise ValueError(f"{value!r} is no number")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004 - caught as a value
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is no number") from None
    except OverflowError:
        raise ValueError(f"{value} is too large") from None
    if math.isinf(number) and isinstance(value, str) and "inf" not in value.lower():
        raise ValueError(f"{value!r} is too large")
    return number


def _integer(value: Any) -> int:
    if isinstance(value, int):
        return int(value)  # true and false are 1 and 0
    if isinstance(value, str):
        word = value.strip().lower()
        if word in {"true", "false"}:
            return int(word == "true")
        if word.lstrip("+-").isdecimal() and word.isascii():
            return int(word)
    number = _float(value)
    if not number.is_integer() or abs(number) >= 2.0**53:
        raise ValueError(f"{value!r} is no whole number")
    return int(number)
