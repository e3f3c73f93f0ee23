"""A look at one day of a series, and at whether a later day has records.

Owns the order in which that is read: first which later day has records, then the day itself, so
that a day which is left behind was looked at once more after the later one was seen; see
`core.cursor`. It blocks on the disk and runs in threads; `LiveDay.measure` and `LiveDay.read_now`
may run in the event loop too, where the file system is local and a writer has just been there.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.cursor import Cursor, Sight
from zerocopy.core.errors import DataChangedError, DataError, NotFoundError, OverloadError
from zerocopy.core.layout import (
    DAY_S,
    LAST_DAY,
    TIME_COLUMN,
    day_label,
    day_of,
    file_name,
)
from zerocopy.core.timeindex import UnsortedError, lower_bound
from zerocopy.storage.catalog import RACY_NS, Catalog, Stamp, stamp_of
from zerocopy.storage.dayfile import DayFile, OpenFiles, TimeFile
from zerocopy.storage.live.days import aligned_records, has_files, is_replaced, lacking, later_day
from zerocopy.storage.pread import read_exactly
from zerocopy.storage.tree import Series, close_file, data_error, open_file, open_series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zerocopy.core.layout import Dtypes
    from zerocopy.storage.catalog import Listing

LISTED_NAMES_MAX = 500_000
"""File names of kept listings, some tens of MB."""

_ATTEMPTS = 3
"""How often a day is opened anew if a file of it is replaced meanwhile."""

_Key = tuple[int, int]


class Followed(NamedTuple):
    """What is followed: some columns of a series, in the order they were asked for."""

    series: Series
    columns: tuple[str, ...]


class _Descriptors:
    """Open files; they are closed with the last reference.

    Nobody has a weak one. A finalizer runs while those to its object still hold, so a thread could
    get a day half of whose files are closed.
    """

    __slots__ = ("fds",)

    def __init__(self, fds: Sequence[int]) -> None:
        self.fds = fds

    def __del__(self) -> None:
        """Close them; a thread that still reads holds its day."""
        for fd in self.fds:
            close_file(fd)


class LiveDay:
    """The files of `time` and the asked columns of one day, open as long as this object lives.

    So no other file can take their inode meanwhile, and `keys`, device and inode of each, name
    these files and no others. `identity` does so for longer: the owner counts which files of the
    day these are. `names` is what they are called in their directory.
    """

    __slots__ = (
        "__weakref__", "_fds", "_held", "_paths", "_series", "_sizes", "columns", "day",
        "identity", "keys", "names",
    )  # fmt: skip

    def __init__(
        self,
        directory: str,
        series: Series,
        day: int,
        opened: Mapping[str, tuple[int, os.stat_result]],
        sizes: Mapping[str, int],
    ) -> None:
        self.day = day
        self.columns = {column: place for place, column in enumerate(opened)}
        self.keys: tuple[_Key, ...] = tuple(_key(status) for _, status in opened.values())
        self.identity: object = self.keys
        self._series = series
        self._fds = tuple(fd for fd, _ in opened.values())
        self._held = _Descriptors(self._fds)
        self._sizes = tuple(sizes[column] for column in opened)
        self._paths = tuple(f"{directory}/{file_name(column, day)}" for column in opened)
        self.names = frozenset(file_name(column, day).encode() for column in opened)

    def __len__(self) -> int:
        """Descriptors."""
        return len(self._fds)

    def measure(self) -> int | None:
        """The aligned records now; None where a name has gone or leads to another file."""
        aligned = None
        for path, key, size in zip(self._paths, self.keys, self._sizes, strict=True):
            try:
                status = os.lstat(path)
            except OSError:
                return None
            if (status.st_dev, status.st_ino) != key:
                return None
            count = status.st_size // size
            if aligned is None or count < aligned:
                aligned = count
        return aligned

    def measure_opened(self) -> int:
        """The aligned records of these files now, wherever their names lead meanwhile.

        The end of a file is asked for by lseek(2): fstat(2) takes three times as long in Python.
        Nobody else uses the offsets.
        """
        return min(
            os.lseek(fd, 0, os.SEEK_END) // size
            for fd, size in zip(self._fds, self._sizes, strict=True)
        )

    def read(self, column: str, first: int, count: int) -> bytes:
        """The bytes of `count` records from `first`; blocks.

        Raises:
            DataChangedError: the file ends before that.
            DataError: it cannot be read.
        """
        place = self.columns[column]
        size = self._sizes[place]
        return read_exactly(self._fds[place], first * size, count * size)

    def read_now(self, files: OpenFiles, column: str, first: int, count: int) -> bytes | None:
        """The same bytes, if that takes no waiting and all of them are there."""
        place = self.columns[column]
        size = self._sizes[place]
        data = bytearray(count * size)
        is_read = files.residency.read_now(self._fds[place], first * size, memoryview(data))
        return bytes(data) if is_read else None

    def sources(self, files: OpenFiles, columns: Sequence[str], stop: int) -> list[DayFile]:
        """The files of `columns` as sources of segments; for the event loop's thread.

        Raises:
            DataChangedError: one has less than `stop` records.
            DataError: the system cannot tell of a file.
            OverloadError: it has no descriptor left.
        """
        found = []
        for column in columns:
            place = self.columns[column]
            fd = self._fds[place]
            name = file_name(column, self.day)
            try:
                status = os.fstat(fd)
                if status.st_size < stop * self._sizes[place]:
                    raise DataChangedError("a day file is shorter than it was")
                day_file = DayFile(files, self._series, name, status, is_closed=False)
                files.adopt(day_file, os.dup(fd))
            except OSError as error:
                raise data_error(error) from error
            found.append(day_file)
        return found

    def time_file(self, aligned: int) -> TimeFile:
        """The times of the aligned records, to be bisected."""
        return TimeFile(self._fds[self.columns[TIME_COLUMN]], aligned)


class Look(NamedTuple):
    """What was seen of a day; `opened` are its files, where it has all that are asked for.

    `directory` is the stamp of the series' directory, None where it proves nothing: names may have
    changed since, or a later day has files and no records yet. `lacking` are the days before the
    later one, this one among them, that have files and lack a column: who goes on leaves them out.
    """

    sight: Sight
    opened: LiveDay | None
    directory: Stamp | None
    lacking: tuple[int, ...] = ()


class Follower:
    """Looks at the days below one data root. Safe to use from several threads."""

    def __init__(self, root: str, files: OpenFiles, dtypes: Dtypes) -> None:
        self._root = root
        self._files = files
        self._dtypes = dtypes
        self._catalog = Catalog(LISTED_NAMES_MAX)

    def directory(self, series: Series) -> str:
        """The path of the directory of a series."""
        return os.path.join(self._root, *series)

    def expect(self, series: Series) -> None:
        """Nothing: each look asks the file system."""

    def check(self, followed: Followed) -> None:
        """Assure that there is something to follow. A series without any day is waited for.

        Raises:
            NotFoundError: the exchange, symbol or type does not exist, or no day has a column.
            DataError: a directory cannot be read.
        """
        series = followed.series
        with open_series(self._root, series) as directory_fd:
            listing = self._listing(series, directory_fd)
            has = {column: listing.has_column(column, directory_fd) for column in followed.columns}
        for column in followed.columns:
            if listing.days and not has[column]:
                raise NotFoundError(f"column {column}: no day of {series.symbol} has it")

    def newest(self, followed: Followed) -> Cursor:
        """The cursor behind all aligned records there are.

        That is on the newest day that has some, else on the newest day, else on that of the clock.

        Raises:
            NotFoundError: the series is gone.
            DataError: a directory or a file cannot be read.
            OverloadError: the newest day is being replaced.
        """
        sizes = self._sizes(followed)
        with open_series(self._root, followed.series) as directory_fd:
            listing = self._listing(followed.series, directory_fd)
            for day in reversed(listing.days):
                is_whole = has_files(listing, day, sizes)
                aligned = aligned_records(directory_fd, day, sizes) if is_whole else None
                if aligned:
                    return Cursor(day, aligned)
                if is_replaced(directory_fd, day):
                    raise _replacing(day)
        return Cursor(listing.days[-1] if listing.days else int(time.time()) // DAY_S, 0)

    def first_at(self, followed: Followed, start_s: int) -> Cursor:
        """The cursor before the first record with time >= `start_s`, a unix second.

        Behind all records of its day where there is none yet, or no file can have that time.

        Raises:
            NotFoundError: the series is gone.
            DataError: a file cannot be read, or the times that were read are not sorted.
            OverloadError: the day is being replaced.
        """
        day = min(day_of(start_s), LAST_DAY)
        sizes = self._sizes(followed)
        with open_series(self._root, followed.series) as directory_fd:
            opened, aligned = self._opened(directory_fd, followed.series, day, sizes)
            if opened is None:
                if is_replaced(directory_fd, day):  # all of it would come
                    raise _replacing(day)
                opened, aligned = self._opened(directory_fd, followed.series, day, sizes)
        if opened is None or aligned is None:
            return Cursor(day, 0)
        try:
            return Cursor(day, lower_bound(opened.time_file(aligned), start_s))
        except UnsortedError as error:
            path = f"{self.directory(followed.series)}/{file_name(TIME_COLUMN, day)}"
            cause = UnsortedError(f"{path}: {error}")
            raise DataError(f"the times of {day_label(day)} are not sorted") from cause

    def reaching(self, followed: Followed, cursor: Cursor) -> None:
        """Nothing: see `expect`."""

    def look(self, followed: Followed, day: int, known: Look | None = None) -> Look:
        """Look at `day`; `known` is what was seen before, and returned if nothing has changed.

        A series that is gone has no days.

        Raises:
            DataError: a directory or a file cannot be read.
            OverloadError: there are no descriptors left.
        """
        if known is not None and self._is_same(followed, known):
            return known
        sizes = self._sizes(followed)
        try:
            with open_series(self._root, followed.series) as directory_fd:
                return self._look(directory_fd, followed.series, day, sizes, known)
        except NotFoundError:
            return Look(Sight(day, None, None, None), None, None)
        except OSError as error:
            raise data_error(error) from error

    def _is_same(self, followed: Followed, known: Look) -> bool:
        """Whether a look would see the same: a few lstat(2)."""
        if known.directory is None or known.sight.later is not None:
            return False
        try:
            status = os.lstat(self.directory(followed.series))
        except OSError:
            return False
        if stamp_of(status) != known.directory:
            return False
        return known.opened is None or known.opened.measure() == known.sight.aligned

    def _look(
        self,
        directory_fd: int,
        series: Series,
        day: int,
        sizes: Mapping[str, int],
        known: Look | None,
    ) -> Look:
        begun_ns = time.time_ns()
        listing = self._listing(series, directory_fd)
        later = later_day(directory_fd, listing, day, LAST_DAY, sizes)
        if later is not None:
            passed = listing.between(day + 1, later - 1)
            later = next((each for each in passed if is_replaced(directory_fd, each)), later)
        while later is not None:
            # A day between may have got its first records before `later` got its own.
            listing = self._listing(series, directory_fd)
            between = later_day(directory_fd, listing, day, later - 1, sizes)
            if between is None:
                break
            later = between
        opened, aligned = self._opened(directory_fd, series, day, sizes)
        if opened is None and later is not None:
            if is_replaced(directory_fd, day):  # its readers would go on behind it
                raise DataError(f"the day {day_label(day)} is being replaced")
            opened, aligned = self._opened(directory_fd, series, day, sizes)
        if opened is not None and known is not None and known.opened is not None:
            opened = known.opened if known.opened.keys == opened.keys else opened
        proves = listing.stamp.changed_ns < begun_ns - RACY_NS and (
            not listing.days or listing.days[-1] <= day
        )
        identity = None if opened is None else opened.identity
        stamp = listing.stamp if proves else None
        left_out = [] if later is None else lacking(listing, day, later - 1, sizes)
        return Look(Sight(day, aligned, identity, later), opened, stamp, tuple(left_out))

    def _sizes(self, followed: Followed) -> dict[str, int]:
        wanted = dict.fromkeys((TIME_COLUMN, *followed.columns))
        return {column: self._dtypes.of(column).nbytes for column in wanted}

    def _listing(self, series: Series, directory_fd: int) -> Listing:
        try:
            return self._catalog.listing(series, directory_fd)
        except OSError as error:
            raise data_error(error) from error

    def _opened(
        self, directory_fd: int, series: Series, day: int, sizes: Mapping[str, int]
    ) -> tuple[LiveDay | None, int | None]:
        """The files of a day and their aligned records; None where a file is missing.

        A day whose files are just being replaced is not missing: its readers would go on behind it.

        Raises:
            DataError: the files changed faster than they could be read.
        """
        for _ in range(_ATTEMPTS):
            opened = self._open(directory_fd, series, day, sizes)
            if opened is None:
                return None, None
            aligned = opened.measure()
            if aligned is not None:
                return opened, aligned
        raise DataError("the day files changed faster than they could be read")

    def _open(
        self, directory_fd: int, series: Series, day: int, sizes: Mapping[str, int]
    ) -> LiveDay | None:
        """The files of a day; None where one is missing."""
        opened: dict[str, tuple[int, os.stat_result]] = {}
        try:
            for column in sizes:
                opened[column] = open_file(directory_fd, file_name(column, day))
        except BaseException as error:
            for fd, _ in opened.values():
                close_file(fd)
            if isinstance(error, FileNotFoundError):
                return None
            raise
        return LiveDay(self.directory(series), series, day, opened, sizes)


def _replacing(day: int) -> OverloadError:
    return OverloadError(f"the day {day_label(day)} is being replaced; try again")


def _key(status: os.stat_result) -> _Key:
    return status.st_dev, status.st_ino
