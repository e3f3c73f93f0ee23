"""What an import read and what became of it: counted by source, by day and by series.

Owns the numbers of the report. It must never know how they came about.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from zerocopy.ingest.arrange import as_files
from zerocopy.ingest.convert import INSTANT

if TYPE_CHECKING:
    from zerocopy.ingest.convert import Columns, Part

Key = tuple[str, str, str, int]
"""Exchange, symbol, type, day."""

Series = tuple[str, str, str]
"""Exchange, symbol, type."""

NEW, THERE, REPLACED, MERGED, REFUSED = "written", "there already", "replaced", "merged", "left out"
"""What becomes of a day."""


class DayCount(msgspec.Struct, frozen=True):
    """How many records of a day a source has, and which are its first and last by time."""

    key: Key
    records: int
    first: dict[str, str]
    last: dict[str, str]


class LossCount(msgspec.Struct, frozen=True):
    """A column's values, how many are empty, and how many f4 does not hold to the last digit."""

    column: str
    values: int
    empty: int
    lost: int
    worst: float
    example: str


class Summary(msgspec.Struct, frozen=True):
    """What a source gave; `notes` are sentences of what was inferred."""

    name: str
    rows: int
    notes: list[str]
    losses: list[LossCount]
    days: list[DayCount]


class SourceFault(NamedTuple):
    """A source that was left out, and why."""

    name: str
    why: str


class DayFault(NamedTuple):
    """A day that was left out, and why; None is the whole series."""

    series: Series
    day: int | None
    why: str


@dataclass(slots=True)
class SeriesOutcome:
    """What a series got: `days` by what became of them, and their first and last records."""

    columns: tuple[str, ...] = ()
    days: dict[int, str] = field(default_factory=dict)
    records: int = 0
    first: dict[str, str] = field(default_factory=dict)
    last: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0
    known: int = 0


@dataclass(slots=True)
class Outcome:
    """All that a run did, or would do; for the report."""

    sources: list[Summary] = field(default_factory=list)
    source_faults: list[SourceFault] = field(default_factory=list)
    day_faults: list[DayFault] = field(default_factory=list)
    series: dict[Series, SeriesOutcome] = field(default_factory=dict)
    resumed: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing was left out."""
        return not self.source_faults and not self.day_faults


class Tally:
    """Counts records by day, and remembers which are the first and the last."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = defaultdict(int)
        self._first: dict[Key, Columns] = {}
        self._last: dict[Key, Columns] = {}

    def add(self, part: Part) -> None:
        """Count some more."""
        key = (part.exchange, part.symbol, part.type, part.day)
        when = part.columns[INSTANT]
        self._counts[key] += len(when)
        first, last = 0, len(when) - 1
        if (when[1:] < when[:-1]).any():
            first, last = int(when.argmin()), last - int(when[::-1].argmax())
        if key not in self._first or when[first] < self._first[key][INSTANT][0]:
            self._first[key] = _record(part.columns, first)
        if key not in self._last or when[last] >= self._last[key][INSTANT][0]:
            self._last[key] = _record(part.columns, last)

    def days(self, *, with_nanos: bool) -> list[DayCount]:
        """By series and day."""
        first = {key: _texts(each, with_nanos=with_nanos) for key, each in self._first.items()}
        last = {key: _texts(each, with_nanos=with_nanos) for key, each in self._last.items()}
        return [
            DayCount(key, count, first[key], last[key])
            for key, count in sorted(self._counts.items())
        ]


def _record(columns: Columns, at: int) -> Columns:
    return {name: column[at : at + 1].copy() for name, column in columns.items()}


def _texts(record: Columns, *, with_nanos: bool) -> dict[str, str]:
    values = {name: one[0] for name, one in as_files(record, with_nanos=with_nanos).items()}
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for name, value in values.items()
    }


def gathered(outcome: Outcome) -> list[DayCount]:
    """The days of all sources, each once."""
    found: dict[Key, DayCount] = {}
    for summary in outcome.sources:
        for count in summary.days:
            known = found.get(count.key)
            if known is not None:
                first = min((known.first, count.first), key=_instant)
                last = max((count.last, known.last), key=_instant)
                total = known.records + count.records
                found[count.key] = DayCount(count.key, total, first, last)
            else:
                found[count.key] = count
    return [found[key] for key in sorted(found)]


def _instant(record: dict[str, str]) -> tuple[int, int]:
    return int(record["time"]), int(record.get("nanos", 0))


def note_day(outcome: Outcome, count: DayCount, fate: str) -> None:
    """Tell what became of a day; those of a series come in order."""
    exchange, symbol, type_, day = count.key
    series = (exchange, symbol, type_)
    entry = outcome.series.setdefault(series, SeriesOutcome())
    entry.columns = tuple(count.first)
    entry.days[day] = fate
    entry.records += count.records
    entry.first = entry.first or count.first
    entry.last = count.last
