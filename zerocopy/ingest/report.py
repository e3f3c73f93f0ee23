"""What an import did, or would do, in words: for a person at a terminal, and for a log.

Owns the sentences. It must never know how to print.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from zerocopy.core.layout import TIME_COLUMN, Dtypes, day_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zerocopy.ingest.outcome import LossCount, Outcome, SeriesOutcome

_FAULTS_MAX = 20
"""Days of one series that are named when they are left out; the others are counted."""


def lines_of(outcome: Outcome, declared: Mapping[str, str], *, is_dry: bool) -> Iterator[str]:
    """The report, line by line: what was read and inferred, then what each series has got."""
    rows = sum(summary.rows for summary in outcome.sources)
    files = len(outcome.sources)
    resumed = f", {outcome.resumed} by a run before" if outcome.resumed else ""
    yield f"{files:,} {_files(files)} read{resumed}: {rows:,} rows"
    notes = Counter(note for summary in outcome.sources for note in dict.fromkeys(summary.notes))
    for note, count in notes.items():
        yield f"  {note}" + (f" ({count:,} of {files:,} files)" if count < files else "")
    for summary in outcome.sources:
        if not summary.rows:
            yield f"  {summary.name}: no rows"
    for words in _losses(outcome):
        yield f"  {words}"
    for series, entry in sorted(outcome.series.items()):
        yield ""
        yield f"{'/'.join(series)}: {entry.records:,} records of {_days(entry)}"
        yield from (f"  {line}" for line in _series(entry, declared, is_dry=is_dry))


def faults_of(outcome: Outcome) -> Iterator[str]:
    """A line for each source and day that was left out."""
    for source in outcome.source_faults:
        yield f"{source.why}; nothing of this file is imported"
    named: Counter[tuple[str, ...]] = Counter()
    for fault in outcome.day_faults:
        named[fault.series] += 1
        if named[fault.series] <= _FAULTS_MAX:
            yield f"{'/'.join(fault.series)}: {fault.why}"
    for series, count in named.items():
        if count > _FAULTS_MAX:
            yield f"{'/'.join(series)}: {count - _FAULTS_MAX:,} more days like these"


def _series(entry: SeriesOutcome, declared: Mapping[str, str], *, is_dry: bool) -> Iterator[str]:
    dtypes = Dtypes(declared)
    yield "columns: " + " ".join(f"{name}={dtypes.of(name).name[1:]}" for name in entry.columns)
    fates = Counter(entry.days.values())
    said = ", ".join(f"{count:,} {fate}" for fate, count in fates.items())
    yield f"days: {said}" + (" (dry run: nothing is)" if is_dry else "")
    yield f"first: {_record(entry.first)}"
    yield f"last: {_record(entry.last)}"
    if entry.duplicates:
        yield f"{entry.duplicates:,} rows repeat another one exactly"
    if entry.known:
        yield f"{entry.known:,} records were there already"


def _record(values: Mapping[str, str]) -> str:
    """Names and values; the time as a date too, for whoever has to see that the zone is right."""
    when = datetime.fromtimestamp(int(values[TIME_COLUMN]), UTC)
    told = {**values, TIME_COLUMN: f"{values[TIME_COLUMN]} ({when:%Y-%m-%d %H:%M:%S} UTC)"}
    return " ".join(f"{name}={value}" for name, value in told.items())


def _losses(outcome: Outcome) -> Iterator[str]:
    by_column: dict[str, list[LossCount]] = {}
    for summary in outcome.sources:
        for loss in summary.losses:
            by_column.setdefault(loss.column, []).append(loss)
    for column, losses in by_column.items():
        lost, values = sum(each.lost for each in losses), sum(each.values for each in losses)
        empty = sum(each.empty for each in losses)
        if empty:
            yield f"{column}: {empty:,} of {values:,} values are empty: NaN"
        if not lost:
            continue
        worst = max(losses, key=lambda each: each.worst)
        yield (
            f"{column}: f4 loses digits of {lost:,} of {values:,} values; "
            f"the most, {worst.worst:.2g}, where {worst.example}; "
            f"--dtype {column}=f8 keeps them"
        )


def _days(entry: SeriesOutcome) -> str:
    first, last = min(entry.days), max(entry.days)
    if first == last:
        return f"1 day, {day_label(first)}"
    return f"{len(entry.days):,} days, {day_label(first)} to {day_label(last)}"


def _files(count: int) -> str:
    return "file" if count == 1 else "files"
