"""A series across its days: columns that come and go, gaps, shares of NaN, permissions."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import TYPE_CHECKING

from zerocopy.core.layout import DAY_S, TIME_COLUMN, day_label, file_name
from zerocopy.ingest.verifying.finding import Finding, found
from zerocopy.ingest.verifying.walk import odd_permissions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zerocopy.ingest.verifying.walk import Days

_THURSDAY = 4  # 1970-01-01
_WEEK = 7
_WEEKEND = frozenset({0, 6})  # Sunday and Saturday


class NanCounts:
    """NaN and records of each column, added up over days."""

    def __init__(self) -> None:
        self._sums: dict[str, list[int]] = {}

    def add(self, nans: Mapping[str, tuple[int, int]]) -> None:
        """Those of one day."""
        for column, (nan, records) in nans.items():
            total = self._sums.setdefault(column, [0, 0, 0])
            total[0] += nan
            total[1] += records
            total[2] += bool(nan)

    def findings(self, series: str) -> Iterator[Finding]:
        """A finding for each column that has some."""
        for column, (nan, records, days) in sorted(self._sums.items()):
            if nan:
                yield found(
                    series,
                    "nan",
                    f"{column}: {nan:,} of {records:,} records are NaN ({nan / records:.2%}), "
                    f"on {days:,} days",
                    column=column,
                    nan=nan,
                    records=records,
                    share=nan / records,
                    days=days,
                )


def across_days(series: str, days: Days, now_s: float) -> Iterator[Finding]:
    """What no day by itself tells."""
    yield from _missing_columns(series, days)
    yield from _gaps(series, sorted(days))
    yield from odd_permissions(
        series,
        {file_name(column, day): file.mode for day in days for column, file in days[day].items()},
    )
    today = int(now_s) // DAY_S
    for day in days:
        if day > today:
            name = TIME_COLUMN if TIME_COLUMN in days[day] else min(days[day])
            path = os.path.join(series, file_name(name, day))
            yield found(path, "future", f"{day_label(day)} is yet to come", day=day_label(day))


def _missing_columns(series: str, days: Days) -> Iterator[Finding]:
    every = set().union(*days.values()) - {TIME_COLUMN} if days else set()
    for column in sorted(every):
        lacking = [day for day in sorted(days) if column not in days[day]]
        if lacking:
            yield found(
                series,
                "missing-column",
                f"{column}: missing on {len(lacking):,} of {len(days):,} days, "
                f"first on {day_label(lacking[0])}",
                column=column,
                days=[day_label(day) for day in lacking],
            )


def _gaps(series: str, days: list[int]) -> Iterator[Finding]:
    """Runs of days without a file; a market that closes on Saturdays or Sundays has none then."""
    closed = _WEEKEND - {_weekday(day) for day in days}
    for before, after in pairwise(days):
        missing = [day for day in range(before + 1, after) if _weekday(day) not in closed]
        if missing:
            first, last = day_label(missing[0]), day_label(missing[-1])
            told = f" to {last}, {len(missing):,} days" if len(missing) > 1 else ""
            if len(missing) <= missing[-1] - missing[0]:
                told += ", without those of the week that never have one"
            yield found(
                series,
                "gap",
                f"no file of {first}{told}",
                first=first,
                last=last,
                days=len(missing),
            )


def _weekday(day: int) -> int:
    return (day + _THURSDAY) % _WEEK
