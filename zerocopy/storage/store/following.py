"""A look at one day of a series in an object store: `DayFollower` over listings and copies.

Owns the order in which that is learned: first which later day has records, then the day, as over a
directory. A day that grew is the same to its readers if it begins with all that they may have read
(`storedday.py`); else it was replaced. It blocks on the store and runs in threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary, ref

from zerocopy.core.cursor import Cursor, Sight
from zerocopy.core.errors import DataChangedError, DataError, NotFoundError, StoreError
from zerocopy.core.layout import DAY_S, LAST_DAY, TIME_COLUMN, day_label, day_of, file_name
from zerocopy.core.timeindex import UnsortedError, lower_bound
from zerocopy.storage.dayfile import TimeFile
from zerocopy.storage.live.days import lacking
from zerocopy.storage.live.following import Look
from zerocopy.storage.store.fetching import StoredFile
from zerocopy.storage.store.lines import Line, Version
from zerocopy.storage.store.objectstore import ObjectChangedError
from zerocopy.storage.store.storedday import StoredDay
from zerocopy.storage.tree import close_file, data_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zerocopy.core.layout import Dtypes
    from zerocopy.storage.live.following import Followed
    from zerocopy.storage.store.fetching import Fetcher, StoredFiles
    from zerocopy.storage.store.listings import Listings, StoreListing
    from zerocopy.storage.store.names import StoreNames
    from zerocopy.storage.store.objectstore import Entry
    from zerocopy.storage.tree import Series

_ATTEMPTS = 5
"""How often a look starts anew if the store has other files than it listed."""


class _Listed(NamedTuple):
    """What the listing says of one day; `entries` are of the asked columns, or it has no records.

    `is_absent`: it is without `time`, which will come.
    """

    listing: StoreListing
    later: int | None
    entries: dict[str, Entry]
    aligned: int
    is_absent: bool
    version: Version | None


class StoreFollower:
    """Looks at the days of an object store, as new as its listings; see `DayFollower`.

    A day without `time` is passed over when nothing has happened to it for `settle_s`. What is
    known of series and columns is kept for the last `lines_max`, and for those of which somebody
    reads a day: without it the day would be another to its readers once it has grown.
    """

    def __init__(
        self,
        listings: Listings,
        names: StoreNames,
        fetcher: Fetcher,
        files: StoredFiles,
        dtypes: Dtypes,
        *,
        settle_s: float,
        lines_max: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._listings = listings
        self._names = names
        self._fetcher = fetcher
        self._files = files
        self._dtypes = dtypes
        self._settle_s = settle_s
        self._lines_max = lines_max
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: WeakValueDictionary[Followed, Line] = WeakValueDictionary()
        self._recent: OrderedDict[Followed, Line] = OrderedDict()
        self._expected: OrderedDict[Series, float] = OrderedDict()

    def directory(self, series: Series) -> str:
        """The directory of the copies of a series."""
        return os.path.join(self._fetcher.cache.root, *series)

    def expect(self, series: Series) -> None:
        """Believe no listing from before this moment."""
        with self._lock:
            self._expected[series] = self._clock()
            self._expected.move_to_end(series)
            if len(self._expected) > self._lines_max:
                self._expected.popitem(last=False)

    def check(self, followed: Followed) -> None:
        """Assure that there is something to follow. A series without any day is waited for.

        Raises:
            NotFoundError: the exchange, symbol or type does not exist, or no day has a column.
            StoreError: the store is away, and the series was never listed.
        """
        listing = self._listing(followed.series)
        if not listing.entries:
            self._names.check(*followed.series)
        for column in followed.columns:
            # The only day may be without `time` for a moment.
            if listing.entries and column not in {*listing.days.all_columns, TIME_COLUMN}:
                raise NotFoundError(f"column {column}: no day of {followed.series.symbol} has it")

    def newest(self, followed: Followed) -> Cursor:
        """The cursor behind all aligned records there are; see `Follower.newest`.

        Raises:
            StoreError: the store is away, or the newest day is being replaced.
        """
        line = self._line(followed)
        with line.lock:
            listing = self._noted(line, followed.series)
            newest = line.newest
            is_absent = newest is not None and line.is_absent(newest)
        if newest is None:
            days = listing.days.days
            return Cursor(days[-1] if days else int(self._clock()) // DAY_S, 0)
        if is_absent:
            raise _replacing(newest)
        return Cursor(newest, line.aligned(listing, newest))

    def first_at(self, followed: Followed, start_s: int) -> Cursor:
        """The cursor before the first record with time >= `start_s`; see `Follower.first_at`.

        Raises:
            DataError: a copy cannot be read, or the times that were read are not sorted.
            StoreError: the store is away, and the day's `time` is not in the cache; or the day is
                being replaced.
        """
        day, wrong, line = min(day_of(start_s), LAST_DAY), None, self._line(followed)
        for _ in range(_ATTEMPTS):
            with line.lock:
                listing = self._noted(line, followed.series, wrong)
                is_absent = line.is_absent(day)
            if is_absent:
                raise _replacing(day)
            aligned = line.aligned(listing, day)
            if not aligned:
                return Cursor(day, 0)
            times = self._stored(followed.series, TIME_COLUMN, day, listing.entry(TIME_COLUMN, day))
            try:
                fd = self._fetcher.fetch(times)
            except ObjectChangedError:
                wrong = listing
                continue
            try:
                return Cursor(day, lower_bound(TimeFile(fd, aligned), start_s))
            except UnsortedError as error:
                cause = UnsortedError(f"{times.key_in_store}: {error}")
                raise DataError(f"the times of {day_label(day)} are not sorted") from cause
            finally:
                close_file(fd)
        raise _changing()

    def reaching(self, followed: Followed, cursor: Cursor) -> Callable[[], None]:
        """What assures that looks show what a client with this cursor has seen elsewhere.

        Another server may have asked the store later than this one. A listing that is begun now or
        later will do. So one request of a series is made at a time, and those who have come before
        it need no other, whatever cursors they have.

        Raises:
            StoreError: what is returned does: the store is away, and had fewer records.
        """
        return partial(self._reach, followed, cursor, self._clock())

    def _reach(self, followed: Followed, cursor: Cursor, asked_s: float) -> None:
        line, series = self._line(followed), followed.series
        if line.aligned(self._listing(series), cursor.day) >= cursor.position:
            return
        listing = self._listings.of(series, after_s=asked_s)
        if listing.is_old and line.aligned(listing, cursor.day) < cursor.position:
            raise StoreError("the object store cannot be read now, and has more; try again")

    def look(self, followed: Followed, day: int, known: Look | None = None) -> Look:
        """Look at `day`; `known` is what was seen before, and returned if nothing has changed.

        A series that is gone has no days. What it shows is in the cache.

        Raises:
            StoreError: the store is away, and something is not here; or the day is being replaced.
            DataError: a copy cannot be read.
        """
        line, wrong = self._line(followed), None
        for _ in range(_ATTEMPTS):
            with line.lock:
                listed = self._listed(line, followed, day, wrong)
            if listed.is_absent:  # who has read of it keeps what he has, nobody else gets that
                raise _replacing(day)
            if not listed.entries:
                left_out = self._left_out(followed, day, listed)
                return Look(Sight(day, None, None, listed.later), None, None, left_out)
            if known is not None and _shows(known, listed):
                return known
            try:
                opened = self._opened(followed, day, listed, line)
            except ObjectChangedError:
                wrong = listed.listing
                continue
            except OSError as error:
                raise data_error(error) from error
            version = Version(opened.entries, listed.aligned, opened.keys, ref(opened))
            with line.lock:
                if line.versions.get(day) is not listed.version:
                    continue  # another thread was faster, and names its files differently
                line.keep(day, version)
            if listed.version is None and listed.later is not None:
                self._fetch_ahead(followed, listed.listing, listed.later)
            sight = Sight(day, listed.aligned, opened.identity, listed.later)
            return Look(sight, opened, None, self._left_out(followed, day, listed))
        raise _changing()

    # ---- what is listed

    def _left_out(self, followed: Followed, day: int, listed: _Listed) -> tuple[int, ...]:
        """The days that who goes on leaves out; see `Look`."""
        if listed.later is None:
            return ()
        sizes = self._sizes(followed)
        return tuple(lacking(listed.listing.days, day, listed.later - 1, sizes))

    def _listed(
        self, line: Line, followed: Followed, day: int, wrong: StoreListing | None
    ) -> _Listed:
        """What the store has of a day, and which later day has records.

        A listing takes a while. One that shows a later day for the first time may show this day as
        it was before that; so the day is taken from a listing that was begun afterwards.
        """
        series = followed.series
        listing = self._noted(line, series, wrong)
        later = line.later(day)
        for _ in range(_ATTEMPTS):
            if later is None or line.is_sure(later):
                break
            before, listing = listing, self._noted(line, series, listing)
            later = line.later(day) if listing.listed_s != before.listed_s else None
        else:
            later = None  # days come faster than they are listed: it is seen next time
        aligned = line.aligned(listing, day)
        found = [(column, file_name(column, day)) for column in followed.columns]
        entries = {column: listing.entries[name] for column, name in found} if aligned else {}
        is_absent = line.is_absent(day)
        return _Listed(listing, later, entries, aligned, is_absent, line.versions.get(day))

    def _noted(self, line: Line, series: Series, wrong: StoreListing | None = None) -> StoreListing:
        listing = self._listing(series, wrong)
        line.note(listing, self._clock())
        return listing

    def _listing(self, series: Series, wrong: StoreListing | None = None) -> StoreListing:
        after_s = self._expected.get(series, -1.0)
        if after_s > self._clock():  # it was set back: each look would ask the store
            after_s = -1.0
        return self._listings.of(series, newer_than=wrong, after_s=after_s)

    # ---- what is opened

    def _opened(self, followed: Followed, day: int, listed: _Listed, line: Line) -> StoredDay:
        """The copies of a day, named as those which they continue.

        Raises:
            ObjectChangedError: the store has other files by now.
            StoreError: one of them is not in the cache, and cannot be fetched.
            OSError: one of them cannot be opened or read.
        """
        version = listed.version
        before = None if version is None else version.opened()
        if version is not None and version.entries == listed.entries:
            opened = before or self._open(followed, day, listed.entries, line)
            if before is None:
                opened.name_by(version.keys)
            return opened
        opened = self._open(followed, day, listed.entries, line)
        if version is None or before is None or listed.aligned < version.aligned:
            return opened
        if opened.begins_with(before, version.aligned):
            opened.name_by(version.keys)
        return opened

    def _open(
        self, followed: Followed, day: int, entries: Mapping[str, Entry], line: Line
    ) -> StoredDay:
        series = followed.series
        wanted = {
            column: self._stored(series, column, day, entry) for column, entry in entries.items()
        }
        self._fetcher.start([*wanted.values()][1:])  # all at once, the first one here
        opened: dict[str, tuple[int, os.stat_result]] = {}
        try:
            for column, stored in wanted.items():
                fd = self._fetcher.fetch(stored)
                opened[column] = fd, os.fstat(fd)
        except BaseException:
            for fd, _ in opened.values():
                close_file(fd)
            raise
        directory, sizes = self.directory(series), self._sizes(followed)
        return StoredDay(directory, series, day, opened, sizes, entries=entries, line=line)

    def _fetch_ahead(self, followed: Followed, listing: StoreListing, day: int) -> None:
        """A reader that is behind comes to the next day soon."""
        names = ((column, file_name(column, day)) for column in followed.columns)
        self._fetcher.start(
            self._stored(followed.series, column, day, listing.entries[name])
            for column, name in names
            if name in listing.entries
        )

    def _stored(self, series: Series, column: str, day: int, entry: Entry) -> StoredFile:
        name = file_name(column, day)
        return StoredFile(self._files, series, name, entry, is_closed=False, lost=[])

    def _sizes(self, followed: Followed) -> dict[str, int]:
        wanted = dict.fromkeys((TIME_COLUMN, *followed.columns))
        return {column: self._dtypes.of(column).nbytes for column in wanted}

    def _line(self, followed: Followed) -> Line:
        with self._lock:
            line = self._lines.get(followed)
            if line is None:
                line = self._lines[followed] = Line(self._sizes(followed), self._settle_s)
            self._recent[followed] = line
            self._recent.move_to_end(followed)
            if len(self._recent) > self._lines_max:
                self._recent.popitem(last=False)
            return line


def _shows(known: Look, listed: _Listed) -> bool:
    """Whether a look shows what is listed."""
    (_, aligned, _, later), opened = known.sight, known.opened
    return (
        isinstance(opened, StoredDay)
        and aligned == listed.aligned
        and later == listed.later
        and opened.entries == listed.entries
    )


def _replacing(day: int) -> StoreError:
    return StoreError(f"the day {day_label(day)} is being replaced; try again")


def _changing() -> StoreError:
    error = StoreError("the object store has other files than it lists; try again")
    error.__cause__ = DataChangedError("files were replaced faster than they could be fetched")
    return error
