"""An import: read every source as a whole, then write every day as a whole.

Owns the order of things and what becomes of a fault: a bad line leaves its file out, a day that
exists is left as it is, and all else is imported. Its `Outcome` says so. It must never know the
command line.
"""

from __future__ import annotations

import os
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from zerocopy import __version__
from zerocopy.core.errors import IngestError
from zerocopy.core.layout import TIME_COLUMN, Dtypes, day_label
from zerocopy.ingest import arrange
from zerocopy.ingest.arrange import as_files
from zerocopy.ingest.convert import Converter
from zerocopy.ingest.csvtext import csv_batches, read_layout
from zerocopy.ingest.daywriter import SeriesWriter, days_of, digest_of
from zerocopy.ingest.dbn import dbn_as_csv
from zerocopy.ingest.outcome import (
    MERGED,
    NEW,
    REFUSED,
    REPLACED,
    THERE,
    DayCount,
    DayFault,
    LossCount,
    Outcome,
    Series,
    SourceFault,
    Summary,
    Tally,
    gathered,
    note_day,
)
from zerocopy.ingest.recipe import NANOS, Wanted, make_recipe, names_of
from zerocopy.ingest.sources import Source, open_source
from zerocopy.ingest.spill import Spill, SpillError, digest
from zerocopy.ingest.tables import json_batches, typed_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from zerocopy.ingest.convert import Columns
    from zerocopy.ingest.csvtext import Layout
    from zerocopy.ingest.sources import Opened
    from zerocopy.ingest.spill import Identity, Index, SourceSpill
    from zerocopy.ingest.tables import Batch

Mode = Literal["new", "replace", "merge"]


class Request(NamedTuple):
    """What to import, where to, and what becomes of days that exist."""

    root: str
    sources: Sequence[Source]
    wanted: Wanted
    declared: Mapping[str, str]  # [columns]: name to dtype
    mode: Mode = "new"
    drop_duplicates: bool = False
    is_dry: bool = False


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
            identity = source.identity() or ("standard input", str(number))
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
    """Equal for runs whose records would be equal.

    What is kept is not synced to the disk: it is believed until the machine starts again.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read()
    return digest([__version__, [*request.wanted], [*request.declared.items()], boot])


def _take(outcome: Outcome, source: Source, read: Callable[[], Summary]) -> bool:
    try:
        outcome.sources.append(read())
    except SpillError:
        raise  # a fault of the root, not of the source
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
    except SpillError:
        raise
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
    tally = Tally()
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

    def summary(self, tally: Tally) -> Summary:
        """What was found."""
        converter = self._converter
        losses = converter.losses.items() if converter else ()
        return Summary(
            name=self._source.name,
            rows=converter.rows if converter else 0,
            notes=[*self._notes, *(sorted(converter.notes) if converter else ())],
            losses=[
                LossCount(name, loss.values, loss.empty, loss.lost, loss.worst, loss.example)
                for name, loss in losses
                if loss.lost or loss.empty
            ],
            days=tally.days(with_nanos=converter is not None and converter.writes_nanos),
        )

    def _layout(self, block: bytes) -> Layout:
        wanted = self._request.wanted
        layout = read_layout(self._source, block, wanted.delimiter, has_header=wanted.has_header)
        self._notes.append(layout.describe())
        if not layout.has_header:
            layout = layout._replace(names=names_of(wanted, self._source, layout.names))
        return layout


# ---- days


def _plan(request: Request, outcome: Outcome) -> None:
    """What would become of each day; nothing is written, and whose digest decides is not known."""
    if _is_half_merge(request, outcome):
        return
    existing: dict[Series, dict[int, set[str]]] = {}
    for count in gathered(outcome):
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
        note_day(outcome, count, fate)


def _is_half_merge(request: Request, outcome: Outcome) -> bool:
    """Whether a source is missing from a merge; then all days are left out.

    Once that source is put right the same command would add the others a second time.
    """
    if not outcome.source_faults or request.mode != "merge" or request.drop_duplicates:
        return False
    for count in gathered(outcome):
        note_day(outcome, count, REFUSED)
    why = "nothing is merged, as a file is left out: given again, the others would be added twice"
    outcome.day_faults += (DayFault(series, None, why) for series in sorted(outcome.series))
    return True


def _write_all(
    request: Request, outcome: Outcome, index: Index, on_days: Callable[[int, int], None]
) -> None:
    if _is_half_merge(request, outcome):
        return
    days: dict[Series, list[DayCount]] = defaultdict(list)
    for count in gathered(outcome):
        exchange, symbol, type_, _ = count.key
        days[exchange, symbol, type_].append(count)
    done, total = 0, sum(map(len, days.values()))
    on_days(done, total)
    for series, counts in days.items():
        try:
            with SeriesWriter(request.root, series) as writer:
                for count in counts:
                    _write_day(request, outcome, writer, count, index)
                    done += 1
                    on_days(done, total)
        except IngestError as error:
            outcome.day_faults.append(DayFault(series, None, error.detail))


def _write_day(
    request: Request, outcome: Outcome, writer: SeriesWriter, count: DayCount, index: Index
) -> None:
    """One day of a series, from the records of all sources in their order."""
    exchange, symbol, type_, day = count.key
    series = (exchange, symbol, type_)
    fate, repeats, known = REFUSED, 0, 0
    try:
        stored = index.ordered(count.key)
        if stored is not None and writer.columns_of(day):
            stored = None  # what is there has to be looked at
        if stored is not None and request.drop_duplicates and stored.day.repeats:
            stored = None
        if stored is not None:
            repeats = stored.day.repeats
            writer.write(day, stored.files(with_nanos=NANOS in count.first))
            fate = NEW
        else:
            columns = arrange.in_order(index.take(count.key))
            found = arrange.repeated(columns)
            repeats = len(found)
            if request.drop_duplicates:
                columns = arrange.without(columns, found)
            files = as_files(columns, with_nanos=NANOS in count.first)
            fate, known = _put(request, writer, day, files)
    except IngestError as error:
        outcome.day_faults.append(DayFault(series, day, error.detail))
    note_day(outcome, count, fate)
    outcome.series[series].duplicates += repeats
    outcome.series[series].known += known


def _put(request: Request, writer: SeriesWriter, day: int, columns: Columns) -> tuple[str, int]:
    """Write a day as the mode has it; what became of it, and how many records it had already.

    Raises:
        IngestError: the day exists and stays as it is, or it cannot be written.
    """
    if not writer.columns_of(day):
        writer.write(day, columns)
        return NEW, 0
    if writer.holds(day, columns):
        return THERE, 0
    if request.mode == "merge":
        return _merge(request, writer, day, columns)
    if request.mode == "replace":
        writer.write(day, columns)
        return REPLACED, 0
    raise IngestError(f"{day_label(day)} exists: --replace or --merge decides")


def _merge(request: Request, writer: SeriesWriter, day: int, columns: Columns) -> tuple[str, int]:
    label, present = day_label(day), writer.columns_of(day)
    if present != tuple(sorted(columns)):
        has, gets = ", ".join(present), ", ".join(sorted(columns))
        raise IngestError(f"{label} has the columns {has}, not {gets}: --replace decides")
    added = digest_of(columns)
    if writer.was_merged(day, added):
        return THERE, 0
    dtypes = Dtypes(request.declared)
    if not writer.is_even(day, dtypes):
        # Records of another width would be read as garbage, and written back.
        raise IngestError(
            f"{label}: its columns differ in length, so it cannot be merged into: zerocopy verify "
            "says more (a dtype that [columns] does not have?)"
        )
    existing = writer.read(day, dtypes)
    times = existing[TIME_COLUMN]
    if (times[1:] < times[:-1]).any():
        raise IngestError(f"{label} is not in the order of time: zerocopy verify --repair sorts it")
    known = 0
    if request.drop_duplicates:
        columns, known = arrange.without_known(columns, existing)
        if not len(columns[TIME_COLUMN]):
            return THERE, known
    writer.write(day, arrange.merged(existing, columns), added=added)
    return MERGED, known
