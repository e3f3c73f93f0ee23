"""Names, days and record sizes: how a record's place on disk is spelled.

    {root}/{exchange}/{symbol}/{type}/{column}.{DD}.{MM}.{YY}.bin

Owns the grammar of names, the mapping between two-digit years and days, and the width of each
column's records. It never learns where the root is, nor whether a file exists.

A *day* is an int: whole UTC days since 1970-01-01, so that day arithmetic on unix seconds is a
division.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY_S = 86_400
"""Seconds in a UTC day; unix time has no leap seconds."""

U32_MAX = 0xFFFF_FFFF
"""The last unix second a record can carry: 2106-02-07 06:28:15 UTC."""

TIME_COLUMN = "time"
DEFAULT_RECORD_SIZE_BYTES = 4
"""Width of a record unless `[columns]` declares another dtype."""

YEAR_PIVOT = 70
"""Two-digit years from here on are 1970-1999, those below are 2000-2069."""

_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
_DAYS = dt.date(2070, 1, 1).toordinal() - _EPOCH_ORDINAL
_NAME = re.compile(r"[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}")
_FILE_NAME = re.compile(r"(.+)\.([0-9]{2})\.([0-9]{2})\.([0-9]{2})\.bin", re.DOTALL)
_DTYPE = re.compile(r"[uif]([1248])|S([1-9][0-9]{0,2})")
_DTYPES_REFUSED = frozenset({"f1", "f2"})
_STRING_BYTES_MAX = 255


def is_name(text: str) -> bool:
    """Whether `text` can name an exchange, a symbol, a type or a column."""
    return _NAME.fullmatch(text) is not None


def day_of(time_s: int) -> int:
    """The UTC day that holds the unix second `time_s`."""
    return time_s // DAY_S


def day_label(day: int) -> str:
    """`DD.MM.YY`, as in file names and in `skipped`; days of 2070 and later have none."""
    assert 0 <= day < _DAYS, "two digits of a year mean 1970 to 2069"
    return dt.date.fromordinal(_EPOCH_ORDINAL + day).strftime("%d.%m.%y")


def day_from_label(dd: str, mm: str, yy: str) -> int | None:
    """The day that three pairs of digits spell; None where the calendar has no such date."""
    year = int(yy)
    year += 1900 if year >= YEAR_PIVOT else 2000
    try:
        return dt.date(year, int(mm), int(dd)).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None


def file_name(column: str, day: int) -> str:
    """The name of the file that holds `column` of `day`."""
    return f"{column}.{day_label(day)}.bin"


def parse_file_name(name: str) -> tuple[str, int] | None:
    """The (column, day) a file name spells, or None if it is not a day file.

    Column names may hold dots, so the date is taken from the right.
    """
    match = _FILE_NAME.fullmatch(name)
    if match is None:
        return None
    column, dd, mm, yy = match.groups()
    day = day_from_label(dd, mm, yy)
    if day is None or not is_name(column):
        return None
    return column, day


def record_size(dtype: str) -> int:
    """Bytes of one record of `dtype`: `u4` 4, `f8` 8, `S16` 16.

    Raises:
        ConfigError: `dtype` is not one of u1-u8, i1-i8, f4, f8 or S1-S255.
    """
    match = _DTYPE.fullmatch(dtype)
    size = int(match[1] or match[2]) if match and dtype not in _DTYPES_REFUSED else 0
    if not 0 < size <= _STRING_BYTES_MAX:
        raise ConfigError(f"dtype {dtype!r} is none of u1-u8, i1-i8, f4, f8, S1-S255")
    return size


class RecordSizes:
    """Bytes of one record by column name: `[columns]` of config.toml over a default of 4."""

    __slots__ = ("_declared",)

    def __init__(self, dtypes: Mapping[str, str]) -> None:
        # Seconds are u32 on disk and in the query: nothing else can be bisected.
        if dtypes.get(TIME_COLUMN, "u4") != "u4":
            raise ConfigError("[columns] time: its records are u4, unix seconds")
        self._declared = {column: record_size(dtype) for column, dtype in dtypes.items()}

    def of(self, column: str) -> int:
        """Bytes of one record of `column`."""
        return self._declared.get(column, DEFAULT_RECORD_SIZE_BYTES)
