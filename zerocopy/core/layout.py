"""Names, days and dtypes: how a record's place on disk is spelled, and the record itself.

    {root}/{exchange}/{symbol}/{type}/{column}.{DD}.{MM}.{YY}.bin

Owns the grammar of names, the mapping between two-digit years and days, and what each column's
records are. It never learns where the root is, nor whether a file exists.

A *day* is an int: whole UTC days since 1970-01-01, so that day arithmetic on unix seconds is a
division.
"""

from __future__ import annotations

import datetime as dt
import re
import reprlib
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

DAY_S = 86_400
"""Seconds in a UTC day; unix time has no leap seconds."""

U32_MAX = 0xFFFF_FFFF
"""The last unix second a record can carry: 2106-02-07 06:28:15 UTC."""

TIME_COLUMN = "time"
U4_COLUMNS = frozenset({TIME_COLUMN, "side", "nanos", "count", "flags"})
"""Columns of u4 unless `[columns]` declares another dtype; every other column is f4."""

SWAP_PREFIX = ".import."
"""How hidden names begin with which a writer replaces days."""

SWAP_READY, SWAP_TOGETHER = ".ready", SWAP_PREFIX + "together"
"""Of a note that days are being replaced: the end of its name for one day, its name for several.
While it is there a day may have no `time`."""

DTYPE_RULE = "one of u1 u2 u4 u8 i1 i2 i4 i8 f4 f8 or S1 to S255"

YEAR_PIVOT = 70
"""Two-digit years from here on are 1970-1999, those below are 2000-2069."""

YEAR_FIRST, YEAR_LAST = 1970, 2069
"""The years of day files."""

_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
LAST_DAY = dt.date(YEAR_LAST, 12, 31).toordinal() - _EPOCH_ORDINAL
"""The last day that a file can have."""

_NAME = re.compile(r"[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}")
_FILE_NAME = re.compile(r"(.+)\.([0-9]{2})\.([0-9]{2})\.([0-9]{2})\.bin", re.DOTALL)
_DTYPE = re.compile(r"[ui][1248]|f[48]|S(?:[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])")


def is_name(text: str) -> bool:
    """Whether `text` can name an exchange, a symbol, a type or a column."""
    return _NAME.fullmatch(text) is not None


def day_of(time_s: int) -> int:
    """The UTC day that holds the unix second `time_s`."""
    return time_s // DAY_S


def day_label(day: int) -> str:
    """`DD.MM.YY`, as in file names and in `skipped`; days of 2070 and later have none."""
    assert 0 <= day <= LAST_DAY, "two digits of a year mean 1970 to 2069"
    date = dt.date.fromordinal(_EPOCH_ORDINAL + day)
    # A fifth of what strftime takes, for each file of a plan.
    return f"{date.day:02}.{date.month:02}.{date.year % 100:02}"


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


def is_swap_note(name: str) -> bool:
    """Whether a file of that name says that days of its directory are being replaced."""
    return name == SWAP_TOGETHER or (name.startswith(SWAP_PREFIX) and name.endswith(SWAP_READY))


class Dtype(NamedTuple):
    """What each record of a column is: `name` as numpy spells it, `nbytes` of one."""

    name: str
    nbytes: int


def parse_dtype(column: str, text: str) -> Dtype:
    """Parse what `[columns]` says of `column`: `u4` is `<u4` of 4 bytes, `S16` is `|S16` of 16.

    Raises:
        ConfigError: it is no dtype, or one that the column cannot have.
    """
    if _DTYPE.fullmatch(text) is None:
        raise ConfigError(f"expected {DTYPE_RULE}, got {reprlib.repr(text)}")
    # Seconds are u32 on disk and in the query: nothing else can be bisected.
    if column == TIME_COLUMN and text != "u4":
        raise ConfigError(f"expected u4, time is unix seconds, got {text!r}")
    nbytes = int(text[1:])
    # numpy writes | where there is no order of bytes.
    order = "|" if nbytes == 1 or text.startswith("S") else "<"
    return Dtype(order + text, nbytes)


_U4, _F4 = Dtype("<u4", 4), Dtype("<f4", 4)


class Dtypes:
    """The dtype of each column by its name: what `[columns]` of config.toml declares, or 4 bytes.

    Raises:
        ConfigError: what is declared for a column is none of its dtypes.
    """

    __slots__ = ("_known",)

    def __init__(self, declared: Mapping[str, str]) -> None:
        self._known = dict.fromkeys(U4_COLUMNS, _U4)
        for column, text in declared.items():
            self._known[column] = parse_dtype(column, text)

    def of(self, column: str) -> Dtype:
        """What each record of `column` is."""
        return self._known.get(column, _F4)
