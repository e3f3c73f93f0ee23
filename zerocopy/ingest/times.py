"""From a column of times to unix nanoseconds: unit, form and zone, found or given, never guessed.

Owns the rules of time. An integer's unit is told by its size: from 1973-03-03 to 2106 the ranges
of s, ms, us and ns do not meet. What lies outside all four, or reads as a date (202401011230),
needs `--time COLUMN:UNIT`. Text without an offset needs a zone. It must never know files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zerocopy.core.layout import U32_MAX, YEAR_FIRST, YEAR_LAST
from zerocopy.ingest.values import ValueRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl
    from numpy.typing import NDArray

NS_PER_S = 1_000_000_000
EXAMPLES = "as 2025-01-31T09:30:00+01:00 or 1738312200"
"""Of times, for whoever gave something else."""

UNITS = {"s": NS_PER_S, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""Nanoseconds of one of each."""

FOUND_FROM_S = 100_000_000
"""1973-03-03: the unit of earlier integers is not found by their size."""

END_NS = 3_155_760_000 * NS_PER_S
"""2070-01-01: two digits of a year reach no further, so no day file can hold it."""

_ZONE_IN_NAME = re.compile(r"(?i)(^|[^a-z])(utc|gmt)([^a-z]|$)")
_OFFSET = re.compile(r"(Z|[+-]\d{2}(:?\d{2})?)$")
_DATE = re.compile(r"(?P<date>\d{4}-\d{2}-\d{2}|\d{4}/\d{2}/\d{2}|\d{8})")
_CLOCK = re.compile(r"(?P<clock>\d{2}:\d{2}(?::\d{2}(?P<fraction>\.\d{1,9})?)?|\d{9}|\d{6})")
_CALENDAR = re.compile(
    r"(19[7-9]\d|20[0-6]\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])([01]\d|2[0-3])([0-5]\d)?([0-5]\d{1,6})?"
)
_DATES = {"-": "%Y-%m-%d", "/": "%Y/%m/%d"}


class TimeRule(NamedTuple):
    """Where a record's time comes from; unit and zone are None where they are to be found."""

    column: str
    unit: str | None = None
    zone: str | None = None


def times_ns(series: pl.Series, rule: TimeRule, note: Callable[[str], None]) -> NDArray[np.int64]:
    """Unix nanoseconds of each row; `note` is told what was found.

    Raises:
        ValueRefused: a row has no time, one that can mean two, or one that no day file can hold.
    """
    import polars as pl  # noqa: PLC0415 - the extra `import`

    if series.dtype == pl.String:
        series = series.str.strip_chars()
        first = series[0] or ""
        if re.fullmatch(r"[+-]?\d+", first) and rule.unit != "iso":
            found = _counted(_whole(series), series, rule, note)
        elif re.fullmatch(r"\d+\.\d*", first):
            found = _decimal(series, rule, note)
        else:
            found = _written(series, first, rule, note)
    elif series.dtype.is_integer():
        found = _counted(series.cast(pl.Int64, strict=False), series, rule, note)
    elif series.dtype == pl.Float32:
        raise ValueRefused(0, f"{series.name} holds f4, which cannot tell one minute from the next")
    elif series.dtype.is_float():
        # The shortest form, for a product with 1e9 would invent digits.
        found = _decimal(series.cast(pl.String), rule, note)
    elif isinstance(series.dtype, pl.Datetime | pl.Date):
        found = _typed(series, rule, note)
    else:
        raise ValueRefused(0, f"{series.name} holds {series.dtype}, not times")
    if len(found) and (found.min() < 0 or found.max() >= END_NS):
        row = int(((found < 0) | (found >= END_NS)).argmax())
        if 0 <= found[row] <= U32_MAX * NS_PER_S:
            raise ValueRefused(row, f"{series[row]} is after {YEAR_LAST}, where day files end")
        raise ValueRefused(row, f"{series[row]} is not between 1970 and {YEAR_LAST}")
    return np.ascontiguousarray(found)


def _whole(series: pl.Series) -> pl.Series:
    import polars as pl  # noqa: PLC0415

    return series.cast(pl.Int64, strict=False)


def _no_time(series: pl.Series, row: int) -> ValueRefused:
    text = series[row]
    if isinstance(text, str) and re.fullmatch(r"[\d.]+[eE][+-]?\d+", text):
        return ValueRefused(row, f"{text!r} has lost the last digits of a time")
    return ValueRefused(
        row, "has no time" if text in {None, ""} else f"{text!r} is no time: {EXAMPLES}"
    )


def _counted(
    whole: pl.Series, series: pl.Series, rule: TimeRule, note: Callable[[str], None]
) -> NDArray[np.int64]:
    """Integers that count units since 1970."""
    if whole.null_count():
        raise _no_time(series, int(whole.is_null().arg_max() or 0))
    if rule.zone not in {None, "UTC"}:
        raise ValueRefused(
            0, f"{series[0]} counts from 1970 in UTC, so the zone {rule.zone} does not apply"
        )
    values = whole.to_numpy()
    unit = rule.unit
    if unit == "iso":
        raise ValueRefused(0, f"{series[0]} is a number: --time {rule.column}:UNIT decides")
    if unit is None:
        some = int(values[0]), int(values.min()), int(values.max())
        unit = unit_of(some[0])
        if unit is not None and all(map(is_calendar, some)):
            raise ValueRefused(0, _two_readings(rule.column, some[0], unit))
        if unit is None or {*map(unit_of, some)} != {unit}:
            return _mixed(values, rule, note)
    note(f"{rule.column}: {unit} {'as told' if rule.unit else 'by its size'}")
    _check_span(series, values, UNITS[unit])
    return np.asarray(values * UNITS[unit])


def _check_span(series: pl.Series, values: NDArray[np.int64], factor: int) -> None:
    """A product that overflows would be another time."""
    end = U32_MAX * (NS_PER_S // factor) + NS_PER_S // factor
    if len(values) and (values.min() < 0 or values.max() > end):
        row = int(((values < 0) | (values > end)).argmax())
        raise ValueRefused(row, f"{series[row]} is not between 1970 and {YEAR_LAST}")


def unit_of(value: int) -> str | None:
    """The one unit in which `value` lies between 1973-03-03 and 2106."""
    for unit, ns in UNITS.items():
        per_s = NS_PER_S // ns
        if FOUND_FROM_S * per_s <= value < (U32_MAX + 1) * per_s:
            return unit
    return None


def is_calendar(value: int) -> bool:
    """Whether the digits of `value` read as YYYYMMDDhh, perhaps with mm, ss and a fraction."""
    return _CALENDAR.fullmatch(str(value)) is not None


def _two_readings(column: str, value: int, unit: str) -> str:
    return (
        f"{column} {value} can be {unit} or a date: --time {column}:{unit} decides, "
        "or write dates as 2024-01-01 12:30:00"
    )


def _mixed(
    values: NDArray[np.int64], rule: TimeRule, note: Callable[[str], None]
) -> NDArray[np.int64]:
    """Some rows count one unit, some another, as in an archive that changed its unit."""
    found = np.full(len(values), -1, np.int64)
    for unit, ns in UNITS.items():
        per_s = NS_PER_S // ns
        rows = (values >= FOUND_FROM_S * per_s) & (values < (U32_MAX + 1) * per_s)
        if rows.any():
            note(f"{rule.column}: {unit} by its size")
            found[rows] = values[rows] * ns
    unknown = found < 0
    if unknown.any():
        row = int(unknown.argmax())
        raise ValueRefused(
            row,
            f"{rule.column} {values[row]} can be {_readings(int(values[row]))}: "
            f"--time {rule.column}:UNIT decides",
        )
    return found


def _readings(value: int) -> str:
    """The units in which a value lies between 1970 and 2106."""
    units = [unit for unit, ns in UNITS.items() if 0 <= value * ns <= U32_MAX * NS_PER_S]
    return " or ".join(units) or "no unit"


def _decimal(series: pl.Series, rule: TimeRule, note: Callable[[str], None]) -> NDArray[np.int64]:
    """Decimals, exactly: 1588291201.099 are seconds and 99,000,000 nanoseconds."""
    import polars as pl  # noqa: PLC0415

    fits = series.str.contains(r"^\d+(\.\d*)?$").fill_null(value=False)
    if not fits.all():
        raise _no_time(series, int((~fits).arg_max() or 0))
    parts = series.str.splitn(".", 2).struct.unnest()
    whole = parts["field_0"].cast(pl.Int64, strict=False)
    said: list[str] = []
    base = _counted(whole, series, rule, said.append)
    for words in said:
        note(words)
    units = {words.split(": ")[1].split()[0] for words in said}
    if len(units) > 1:
        raise ValueRefused(0, f"decimal times in {' and '.join(sorted(units))}")
    digits = len(str(UNITS[units.pop()])) - 1
    fraction = parts["field_1"].fill_null("")
    # Zeros beyond a nanosecond are no digits; others would be cut off.
    fine = fraction.str.slice(digits).str.contains("[1-9]")
    if fine.any():
        raise ValueRefused(int(fine.arg_max() or 0), "is finer than a nanosecond")
    if not digits:
        return base
    padded = fraction.str.slice(0, digits).str.pad_end(digits, "0")
    return np.asarray(base + padded.cast(pl.Int64).to_numpy())


def _typed(series: pl.Series, rule: TimeRule, note: Callable[[str], None]) -> NDArray[np.int64]:
    """Datetimes and dates of Parquet and Arrow."""
    import polars as pl  # noqa: PLC0415

    if series.null_count():
        raise _no_time(series, int(series.is_null().arg_max() or 0))
    if series.dtype == pl.Date:
        series = series.cast(pl.Datetime("ms"))
    dtype = series.dtype
    assert isinstance(dtype, pl.Datetime)
    counted = series.to_physical().to_numpy()
    _check_span(series, counted, UNITS[dtype.time_unit])
    if dtype.time_zone is None:
        return _in_zone(series.cast(pl.Datetime("ns")), series, rule, note)
    note(f"{rule.column}: datetimes of the zone {dtype.time_zone}")
    return np.asarray(counted * UNITS[dtype.time_unit])


def _written(
    series: pl.Series, first: str, rule: TimeRule, note: Callable[[str], None]
) -> NDArray[np.int64]:
    """Dates and clock times as text, each row in the form of the first."""
    import polars as pl  # noqa: PLC0415

    form = _form_of(first)
    if form is None:
        raise _no_time(series, 0)
    if "%#z" not in form:
        # What the first row lacks the others must not have: it would be dropped.
        with_offset = series.str.contains(r"(Z|[+-]\d{2}:?\d{2})$") & series.str.contains(":")
        if with_offset.any():
            raise _no_time(series, int(with_offset.arg_max() or 0))
    finer = series.str.contains(r"\.\d{9}\d*[1-9]")
    if finer.any():
        raise ValueRefused(int(finer.arg_max() or 0), "is finer than a nanosecond")
    found = series.str.to_datetime(form, time_unit="ns", strict=False)
    # 23:59:60 would become the next midnight: two times for one.
    bad = found.is_null() | series.str.contains(r":60(\D|$)")
    if bad.any():
        raise _no_time(series, int(bad.arg_max() or 0))
    # A year that 64 bits of nanoseconds do not reach would become another one.
    years = series.str.slice(0, 4).cast(pl.Int64, strict=False)
    outside = (years < YEAR_FIRST - 1) | (years > YEAR_LAST + 1)
    if outside.any():
        row = int(outside.arg_max() or 0)
        raise ValueRefused(row, f"{series[row]} is not between {YEAR_FIRST} and {YEAR_LAST}")
    if "%#z" in form:
        note(f"{rule.column}: ISO 8601 with its offset")
        instants: NDArray[np.int64] = found.to_physical().to_numpy()
        return instants
    return _in_zone(found, series, rule, note)


def _form_of(text: str) -> str | None:
    """How a text is written, in the letters of strptime; None if it is no time."""
    date = _DATE.match(text)
    if date is None:
        return None
    form = _DATES.get(text[4:5], "%Y%m%d")
    rest = text[date.end() :]
    if not rest:
        return f"{form}"
    if rest[0] not in " T":
        return None
    clock = _CLOCK.match(rest[1:])
    if clock is None:
        return None
    after = rest[1 + clock.end() :]
    digits = clock["clock"]
    if ":" in digits:
        form += f"{rest[0]}%H:%M" + ("" if len(digits) == len("hh:mm") else ":%S%.f")
    else:
        form += f"{rest[0]}%H%M%S" + ("%3f" if len(digits) == len("hhmmssmmm") else "")
    if not after:
        return form
    space = " " if after.startswith(" ") else ""
    return f"{form}{space}%#z" if _OFFSET.fullmatch(after.strip()) else None


def _in_zone(
    local: pl.Series, series: pl.Series, rule: TimeRule, note: Callable[[str], None]
) -> NDArray[np.int64]:
    """Local times of a zone as instants; those that are twice or never are refused."""
    import polars as pl  # noqa: PLC0415

    zone = rule.zone
    if zone is None:
        if _ZONE_IN_NAME.search(rule.column) is None:
            raise ValueRefused(
                0,
                f"{series[0]} has no zone: --time {rule.column}:iso:UTC decides, or another "
                "zone: America/New_York",
            )
        zone = "UTC"
        note(f"{rule.column}: UTC by its name")
    else:
        note(f"{rule.column}: local times of {zone}")
    try:
        placed = local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null")
    except pl.exceptions.ComputeError:
        raise ValueRefused(0, f"there is no zone {zone}: as America/New_York or UTC") from None
    if placed.null_count():
        row = int(placed.is_null().arg_max() or 0)
        earliest = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
        times = "never" if earliest[row] is None else "twice"
        raise ValueRefused(
            row,
            f"{series[row]} is {times} in {zone}, whose clocks change: write it with its offset",
        )
    found: NDArray[np.int64] = placed.to_physical().to_numpy()
    return found
