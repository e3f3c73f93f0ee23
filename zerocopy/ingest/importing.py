"""An import: read every source as a whole, then write every day as a whole.

Owns the order of things and what becomes of a fault: a bad line leaves its file out, a day that
exists is left as it is, and all else is imported. Its `Outcome` says so. It must never know the
command line.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from zerocopy import __version__
from zerocopy.core.errors import IngestError
from zerocopy.core.layout import Dtypes, day_label
from zerocopy.ingest import arrange
from zerocopy.ingest.convert import ROW_HASH, Converter, record_dtype
from zerocopy.ingest.csvtext import csv_batches, read_layout
from zerocopy.ingest.daywriter import SeriesWriter, days_of, digest_of
from zerocopy.ingest.dbn import dbn_as_csv
from zerocopy.ingest.recipe import Wanted, make_recipe, names_of
from zerocopy.ingest.sources import Source, open_source
from zerocopy.ingest.spill import DayCount, LossCount, Spill, Summary, digest
from zerocopy.ingest.tables import json_batches, typed_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from zerocopy.ingest.convert import Part
    from zerocopy.ingest.csvtext import Layout
    from zerocopy.ingest.sources import Opened
    from zerocopy.ingest.spill import Key, SourceSpill
    from zerocopy.ingest.tables import Batch

Mode = Literal["new", "replace", "merge"]
Series = tuple[str, str, str]
Identity = tuple[str, ...] | int

NEW, THERE, REPLACED, MERGED, REFUSED = "written", "there already", "replaced", "merged", "left out"
"""What becomes of a day."""


class Request(NamedTuple):
    """What to import, where to, and what becomes of days that exist."""

    root: str
    sources: Sequence[Source]
    wanted: Wanted
    declared: Mapping[str, str]  # [columns]: name to dtype
    mode: Mode = "new"
    drop_duplicates: bool = False
    is_dry: bool = False


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


def run(
    request: Request,
    on_read: Callable[[Source, int], None] = lambda *_: None,
    on_days: Callable[[int, int], None] = lambda *_: None,
) -> Outcome:
    """Import, or say what an import would do.

    `on_read` is told how many bytes of a source have been read, `on_days` how many days are
    written, and of how many.

    Raises:
        IngestError: nothing can be written, or the same import runs already.
    """
    outcome = Outcome()
    if request.is_dry:
        for source in request.sources:
            _take(outcome, source, partial(_read, request, source, None, on_read))
        _plan(request, outcome)
        return outcome
    os.makedirs(request.root, exist_ok=True)
    with Spill(request.root, _job(request)) as spill:
        identities: list[Identity] = []
        for number, source in enumerate(request.sources):
            identity = source.identity() or number
            kept = spill.kept(identity) if source.path is not None else None
            if kept is not None:
                outcome.sources.append(kept)
                outcome.resumed += 1
            elif not _take(
                outcome, source, partial(_read_into, request, source, spill, identity, on_read)
            ):
                continue
            identities.append(identity)
        _write_all(request, outcome, spill.index(identities), on_days)
    return outcome


def _job(request: Request) -> str:
    """Equal for runs whose records would be equal."""
    return digest([__version__, [*request.wanted], [*request.declared.items()]])


def _take(outcome: Outcome, source: Source, read: Callable[[], Summary]) -> bool:
    try:
        outcome.sources.append(read())
    except IngestError as error:
        outcome.source_faults.append(SourceFault(source.name, error.detail))
        return False
    return True


# ---- a source


def _read_into(
    request: Request,
    source: Source,
    spill: Spill,
    identity: Identity,
    on_read: Callable[[Source, int], None],
) -> Summary:
    target = spill.source(identity)
    try:
        summary = _read(request, source, target, on_read)
    except IngestError:
        target.discard()
        raise
    target.close(summary)
    return summary


def _read(
    request: Request,
    source: Source,
    target: SourceSpill | None,
    on_read: Callable[[Source, int], None],
) -> Summary:
    """Read a source to its end; its records go to `target`, if there is one."""
    tally = _Tally()
    with open_source(source) as opened:
        reading = _Reading(request, source, opened)
        for batch in reading.batches():
            converter = reading.converter_of(batch)
            for part in converter.convert(batch):
                tally.add(part)
                if target is not None:
                    target.add(part)
            on_read(source, opened.position())
    return reading.summary(tally)


class _Reading:
    """One source on its way: its batches, and the rules that its first batch decides."""

    def __init__(self, request: Request, source: Source, opened: Opened) -> None:
        self._request = request
        self._source = source
        self._opened = opened
        self._has_header = True
        self._converter: Converter | None = None
        self._notes = [" in ".join((opened.kind, *opened.layers))]

    def batches(self) -> Iterator[Batch]:
        """The rows, by the kind of the source."""
        match self._opened.kind:
            case "CSV":
                return csv_batches(self._source, self._opened.stream, self._layout)
            case "NDJSON":
                return json_batches(self._source, self._opened)
            case "DBN":
                stream = dbn_as_csv(self._source, self._opened.stream)
                return csv_batches(self._source, stream, self._layout)
            case _:
                return typed_batches(self._source, self._opened)

    def converter_of(self, batch: Batch) -> Converter:
        """The rules for the columns that the first batch has."""
        if self._converter is None:
            recipe = make_recipe(
                self._request.wanted,
                self._source,
                batch.frame.columns,
                self._notes.append,
            )
            dtypes = Dtypes(self._request.declared)
            self._converter = Converter(self._source, recipe, dtypes)
        return self._converter

    def summary(self, tally: _Tally) -> Summary:
        """What was found."""
        converter = self._converter
        losses = converter.losses.items() if converter else ()
        return Summary(
            name=self._source.name,
            rows=converter.rows if converter else 0,
            notes=[*self._notes, *(sorted(converter.notes) if converter else ())],
            losses=[
                LossCount(name, loss.values, loss.lost, loss.worst, loss.example)
                for name, loss in losses
                if loss.lost
            ],
            days=tally.days(),
        )

    def _layout(self, block: bytes) -> Layout:
        wanted = self._request.wanted
        layout = read_layout(self._source, block, wanted.delimiter, has_header=wanted.has_header)
        self._notes.append(layout.describe())
        if not layout.has_header:
            layout = layout._replace(names=names_of(wanted, self._source, layout.names))
        return layout


class _Tally:
    """Counts records by day, and remembers which are the first and the last."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = defaultdict(int)
        self._first: dict[Key, tuple[int, NDArray[Any]]] = {}
        self._last: dict[Key, tuple[int, NDArray[Any]]] = {}

    def add(self, part: Part) -> None:
        """Count some more."""
        key = (part.exchange, part.symbol, part.type, part.day)
        self._counts[key] += len(part.records)
        when = arrange.instants(part.records)
        first, last = int(when.argmin()), len(when) - 1 - int(when[::-1].argmax())
        if key not in self._first or when[first] < self._first[key][0]:
            self._first[key] = int(when[first]), part.records[first].copy()
        if key not in self._last or when[last] >= self._last[key][0]:
            self._last[key] = int(when[last]), part.records[last].copy()

    def days(self) -> list[DayCount]:
        """By series and day."""
        return [
            DayCount(key, count, _texts(self._first[key][1]), _texts(self._last[key][1]))
            for key, count in sorted(self._counts.items())
        ]


def _texts(record: NDArray[Any]) -> dict[str, str]:
    names = record.dtype.names or ()
    values = {name: record[name] for name in names if name != ROW_HASH}
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for name, value in values.items()
    }


# ---- days


def _plan(request: Request, outcome: Outcome) -> None:
    """What would become of each day; nothing is written, and whose digest decides is not known."""
    existing: dict[Series, dict[int, set[str]]] = {}
    for count in _gathered(outcome):
        *names, day = count.key
        series = (names[0], names[1], names[2])
        if series not in existing:
            folder = os.path.join(request.root, *series)
            existing[series] = days_of(folder) if os.path.isdir(folder) else {}
        fate = NEW
        if day in existing[series]:
            fate = {"new": REFUSED, "replace": REPLACED, "merge": MERGED}[request.mode]
            if fate == REFUSED:
                why = f"{day_label(day)} exists: --replace or --merge decides"
                outcome.day_faults.append(DayFault(series, day, why))
        _note_day(outcome, series, day, count, fate)


def _gathered(outcome: Outcome) -> list[DayCount]:
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


def _note_day(outcome: Outcome, series: Series, day: int, count: DayCount, fate: str) -> None:
    """Days come in order."""
    entry = outcome.series.setdefault(series, SeriesOutcome())
    entry.columns = tuple(count.first)
    entry.days[day] = fate
    entry.records += count.records
    entry.first = entry.first or count.first
    entry.last = count.last


def _write_all(
    request: Request,
    outcome: Outcome,
    places: dict[Key, list[str]],
    on_days: Callable[[int, int], None],
) -> None:
    days: dict[Series, list[DayCount]] = defaultdict(list)
    for count in _gathered(outcome):
        exchange, symbol, type_, _ = count.key
        days[exchange, symbol, type_].append(count)
    done, total = 0, sum(map(len, days.values()))
    on_days(done, total)
    for series, counts in days.items():
        try:
            with SeriesWriter(request.root, series) as writer:
                for count in counts:
                    _write_day(request, outcome, writer, series, count, places[count.key])
                    done += 1
                    on_days(done, total)
        except IngestError as error:
            outcome.day_faults.append(DayFault(series, None, error.detail))


def _write_day(
    request: Request,
    outcome: Outcome,
    writer: SeriesWriter,
    series: Series,
    count: DayCount,
    places: list[str],
) -> None:
    dtype = record_dtype(tuple(count.first), Dtypes(request.declared))
    pieces = [np.fromfile(place, dtype) for place in places]
    records = arrange.in_order(pieces[0] if len(pieces) == 1 else np.concatenate(pieces))
    del pieces
    day = count.key[3]
    repeats = arrange.repeated(records)
    if request.drop_duplicates:
        records = np.delete(records, repeats)
    known = 0
    try:
        fate, known = _put(request, writer, day, records)
    except IngestError as error:
        outcome.day_faults.append(DayFault(series, day, error.detail))
        fate = REFUSED
    _note_day(outcome, series, day, count, fate)
    outcome.series[series].duplicates += len(repeats)
    outcome.series[series].known += known


def _put(
    request: Request, writer: SeriesWriter, day: int, records: NDArray[Any]
) -> tuple[str, int]:
    """Write a day as the mode has it; what became of it, and how many records it had already.

    Raises:
        IngestError: the day exists and stays as it is, or it cannot be written.
    """
    names = [name for name in records.dtype.names or () if name != ROW_HASH]
    columns = {name: np.ascontiguousarray(records[name]) for name in names}
    present = writer.columns_of(day)
    if not present:
        writer.write(day, columns)
        return NEW, 0
    label = day_label(day)
    if request.mode == "merge":
        return _merge(request, writer, day, records, columns)
    if writer.holds(day, columns):
        return THERE, 0
    if request.mode == "replace":
        writer.write(day, columns)
        return REPLACED, 0
    raise IngestError(f"{label} exists: --replace or --merge decides")


def _merge(
    request: Request,
    writer: SeriesWriter,
    day: int,
    records: NDArray[Any],
    columns: dict[str, NDArray[Any]],
) -> tuple[str, int]:
    label, present = day_label(day), writer.columns_of(day)
    if present != tuple(sorted(columns)):
        has, gets = ", ".join(present), ", ".join(sorted(columns))
        raise IngestError(f"{label} has the columns {has}, not {gets}: --replace decides")
    added = digest_of(records)
    if writer.was_merged(day, added):
        return THERE, 0
    existing = writer.read(day, Dtypes(request.declared))
    if (np.diff(arrange.instants(existing).view("i8")) < 0).any():
        raise IngestError(f"{label} is not in the order of time; it cannot be merged into")
    known = 0
    if request.drop_duplicates:
        records, known = arrange.without_known(records, existing)
        if not len(records):
            return THERE, known
        columns = {name: np.ascontiguousarray(records[name]) for name in columns}
    writer.write(day, arrange.merged(existing, columns), added=added)
    return MERGED, known
