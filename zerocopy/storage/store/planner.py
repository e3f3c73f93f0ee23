"""From a query to a plan over an object store: lengths from its listing, bounds from cut days.

Owns the instant of planning, as `storage/planner.py` does over files. What differs:

- The listing gives days, lengths and validators, so nodes of one store agree without talking.
- Only a day that the range cuts has its times read. A day that lies whole in it is believed to hold
  its own seconds and no others, or every query would fetch every `time`.
- What leaves first is in the cache before the status line, or it is 503. The rest is fetched
  while that is being sent. If the store was away already, all of it must be there.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError, DataError, NotFoundError, StoreError
from zerocopy.core.http.validators import validators_of
from zerocopy.core.layout import (
    DAY_S,
    TIME_COLUMN,
    Dtypes,
    day_label,
    day_of,
    file_name,
)
from zerocopy.core.plan import Column, DayRecords, Plan
from zerocopy.core.query import check_extent
from zerocopy.core.timeindex import RecordRange, UnsortedError, record_range
from zerocopy.storage.dayfile import DayFile, TimeFile
from zerocopy.storage.planner import Planned
from zerocopy.storage.pread import read_exactly
from zerocopy.storage.proof import Proof
from zerocopy.storage.store.days import StoredDays
from zerocopy.storage.store.fetching import Sequence, StoredFile
from zerocopy.storage.store.objectstore import ObjectChangedError
from zerocopy.storage.tree import Series, close_file, data_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.plan import Represent, Representation, Segment
    from zerocopy.core.query import Query
    from zerocopy.core.settling import Settling
    from zerocopy.storage.rollups import DaySource, Rollups
    from zerocopy.storage.store.breaker import Breaker
    from zerocopy.storage.store.fetching import Fetcher, StoredFiles
    from zerocopy.storage.store.listings import Listings, StoreListing
    from zerocopy.storage.store.names import StoreNames

_ATTEMPTS = 3
"""How often planning starts anew if the store has other files than it listed."""

_HELD_MAX = 64
"""Descriptors that are handed over with a plan: of the files that leave first."""


@dataclass(frozen=True, slots=True)
class ListedProof(Proof):
    """The proof of a plan over a store: its listing is still believed."""

    is_current: Callable[[], bool] = lambda: False

    def holds(self) -> bool:
        """Whether the listing is the last one, and not too old; asks nobody."""
        return not self.lost and self.is_current()


class StorePlanner:
    """Plans queries over one object store. Safe to call from several threads."""

    def __init__(
        self,
        *,
        listings: Listings,
        names: StoreNames,
        fetcher: Fetcher,
        files: StoredFiles,
        breaker: Breaker,
        dtypes: Dtypes,
        settling: Settling,
        days_max: int,
        segments_max: int,
        small_answer_bytes_max: int,
        rollups: Rollups | None = None,
    ) -> None:
        self._listings = listings
        self._names = names
        self._fetcher = fetcher
        self._files = files
        self._breaker = breaker
        self.dtypes = dtypes
        self.settling = settling
        self._days_max = days_max
        self._segments_max = segments_max
        self._small_answer_bytes_max = small_answer_bytes_max
        self.rollups = rollups
        self.day_source: DaySource = StoredDays(listings, fetcher, files)

    def plan(self, query: Query, represent: Represent) -> Planned:
        """Plan `query` in the shape that `represent` gives it, true as of the store's listing.

        Raises:
            NotFoundError: the exchange, symbol or type does not exist, or no day has a column.
            BadRequestError: the range holds more days or segments than the limits allow.
            DataError: a copy cannot be read, or a day's times are not sorted.
            StoreError: the store is away, and something that is needed first is not in the cache.
        """
        series = Series(query.exchange, query.symbol, query.type)
        wrong: StoreListing | None = None
        changed: Exception | None = None
        for _ in range(_ATTEMPTS):
            listing = self._listings.of(series, newer_than=wrong)
            if not listing.entries:
                self._names.check(*series)
            try:
                return self._plan_once(series, listing, query, represent)
            except ObjectChangedError as error:
                wrong, changed = listing, error
            except DataChangedError as error:  # of a copy that was written over
                changed = error
            except OSError as error:
                raise data_error(error) from error
        raise StoreError("the object store has other files than it lists; try again") from changed

    def _plan_once(
        self, series: Series, listing: StoreListing, query: Query, represent: Represent
    ) -> Planned:
        for column in query.columns:
            if column not in listing.days.all_columns:
                raise NotFoundError(f"column {column}: no day of {query.symbol} has it")
        first_day, last_day = day_of(query.start_s), day_of(query.end_s)
        days = listing.days.between(first_day, last_day)
        check_extent(query, len(days), self._days_max, self._segments_max)
        dtypes = {column: self.dtypes.of(column) for column in (TIME_COLUMN, *query.columns)}
        wanted = dtypes.keys()
        skipped = tuple(day for day in days if not wanted <= listing.days.columns_of(day))
        left_out = frozenset(skipped)
        present = [day for day in days if day not in left_out]
        planning = _Planning(
            fetcher=self._fetcher,
            files=self._files,
            series=series,
            listing=listing,
            query=query,
            settling=self.settling,
        )
        planning.note_skipped(skipped)
        sizes = {column: dtype.nbytes for column, dtype in dtypes.items()}
        day_records = planning.read_days(present, sizes)
        columns = tuple(Column(name, dtypes[name]) for name in query.columns)
        found = represent(Plan(columns, day_records, skipped, series._asdict()))
        is_old = listing.is_old or self._breaker.is_open
        content, held = self._begin(series, found, day_records, must_be_here=is_old)
        closes_s = max(planning.closes_s, self.settling.gaps_close_s(first_day, last_day, present))
        if listing.is_old or listing.listed_s < closes_s:
            closes_s = math.inf  # what was put there meanwhile is in the next listing
        return Planned(
            representation=found,
            content=content,
            validators=validators_of(found.content, planning.validated, found.tag),
            closes_s=closes_s,
            proof=ListedProof(
                (),
                reusable=not listing.is_old,
                lost=planning.lost,
                is_current=lambda: self._listings.is_current(series, listing),
            ),
            skipped=skipped,
            held=held,
            unsound=tuple(planning.unsound),
        )

    def _begin(
        self,
        series: Series,
        found: Representation,
        day_records: list[DayRecords],
        *,
        must_be_here: bool,
    ) -> tuple[bytes | None, tuple[tuple[DayFile, int], ...]]:
        """Fetch what leaves first; the content of a small answer, or files.

        Raises:
            StoreError: something that has to be in the cache is not, and cannot be fetched.
        """
        self._fetcher.cache.make_directory(series)
        sources = [segment.source for segment in found.segments] or [
            # To be computed, day by day.
            *(
                source
                for day in day_records
                if day.records.stop > day.records.first
                for source in day.sources
            )
        ]
        ahead = [s for s in dict.fromkeys(sources) if isinstance(s, StoredFile)]
        Sequence(ahead)
        if must_be_here and not all(self._fetcher.has(each, unchecked=True) for each in ahead):
            raise StoreError("the object store cannot be read now, and not all is here; try again")
        if found.nbytes <= self._small_answer_bytes_max:
            return b"".join((found.content, *map(self._read, found.segments))), ()
        held: dict[DayFile, int] = {}
        try:
            for each in ahead[:_HELD_MAX]:
                if held and not self._fetcher.has(each):
                    # The first one has to be here. The others come while it leaves, once they are
                    # read: HEAD, 304 and a range elsewhere need none of them.
                    break
                held[each] = self._fetcher.fetch(each)
            handed, held = tuple(held.items()), {}
            return None, handed
        finally:
            for fd in held.values():
                close_file(fd)

    def _read(self, segment: Segment) -> bytes:
        """The bytes of a segment of a small answer."""
        source = segment.source
        if not isinstance(source, StoredFile):  # made by the format, and in memory
            return source.read(segment.offset, segment.count)
        self._fetcher.fetch_ahead(source)
        fd = self._fetcher.fetch(source)
        try:
            return read_exactly(fd, segment.offset, segment.count)
        finally:
            close_file(fd)


class _Planning:
    """What is learned of the days of one query."""

    def __init__(
        self,
        *,
        fetcher: Fetcher,
        files: StoredFiles,
        series: Series,
        listing: StoreListing,
        query: Query,
        settling: Settling,
    ) -> None:
        self._fetcher = fetcher
        self._files = files
        self._series = series
        self._listing = listing
        self._query = query
        self._settling = settling
        self.validated: list[tuple[int, int, int, int]] = []
        self.closes_s = 0.0
        self.lost: list[str] = []
        self.unsound: list[tuple[int, str]] = []

    def read_days(self, days: list[int], sizes: dict[str, int]) -> list[DayRecords]:
        """The records of `days`, or of those at the end that hold the `last` of them."""
        left = self._query.last
        if left is None:
            # Both cut days are fetched at once.
            self._fetcher.start(
                self._file(TIME_COLUMN, day) for day in {*days[:1], *days[-1:]} if self._is_cut(day)
            )
            return [self._read_day(day, sizes) for day in days]
        found: list[DayRecords] = []
        for day in reversed(days):
            found.append(self._read_day(day, sizes, left))
            left -= found[-1].records.stop - found[-1].records.first
            if not left:
                break
        return found[::-1]

    def note_skipped(self, skipped: tuple[int, ...]) -> None:
        """A skipped day that is still being written keeps it open: its column may come.

        Without `time` it is being replaced; see `pushing`.
        """
        for day in skipped:
            columns = self._listing.days.columns_of(day)
            if TIME_COLUMN not in columns:
                self.closes_s = math.inf
            changed_ns = max(self._listing.entry(column, day).modified_ns for column in columns)
            self.closes_s = max(self.closes_s, self._settling.closes_s(day, changed_ns))

    def _read_day(self, day: int, sizes: dict[str, int], last: int | None = None) -> DayRecords:
        entries = {column: self._listing.entry(column, day) for column in sizes}
        length = min(entries[column].size // size for column, size in sizes.items())
        changed_ns = max(entry.modified_ns for entry in entries.values())
        closes_s = self._settling.closes_s(day, changed_ns)
        self.closes_s = max(self.closes_s, closes_s)
        is_closed = closes_s <= time.time()
        records = RecordRange(0, length)
        if length and self._is_cut(day):
            records = self._search(day, length)
        if last is not None:
            records = records._replace(first=max(records.first, records.stop - last))
        if is_closed and any(entries[column].size != length * sizes[column] for column in sizes):
            self.unsound.append((day, "uneven"))
        count = records.stop - records.first
        for column, size in sizes.items():
            entry = entries[column]
            stamp = records.first * size, count * size, entry.size, entry.modified_ns
            self.validated.append(stamp)
        files = [self._file(column, day, is_closed=is_closed) for column in self._query.columns]
        return DayRecords(day, records, files)

    def _search(self, day: int, length: int) -> RecordRange:
        """The records of a cut day.

        Raises:
            DataError: what was read of `time` is not sorted.
        """
        fd = self._fetcher.fetch(self._file(TIME_COLUMN, day))
        try:
            times = TimeFile(fd, length)
            records = record_range(times, self._query.start_s, self._query.end_s)
        except UnsortedError as error:
            name = "/".join((*self._series, file_name(TIME_COLUMN, day)))
            cause = UnsortedError(f"{name}: {error}")
            raise DataError(f"the times of {day_label(day)} are not sorted") from cause
        finally:
            close_file(fd)
        if not day_of(times.first_s) == day == day_of(times.last_s):
            self.unsound.append((day, "outside"))
        return records

    def _is_cut(self, day: int) -> bool:
        return not (
            self._query.start_s <= day * DAY_S and (day + 1) * DAY_S - 1 <= self._query.end_s
        )

    def _file(self, column: str, day: int, *, is_closed: bool = False) -> StoredFile:
        entry, name = self._listing.entry(column, day), file_name(column, day)
        return StoredFile(
            self._files, self._series, name, entry, is_closed=is_closed, lost=self.lost
        )
