"""Appends records to the files of a day, so that a reader beside and a crash at any byte are safe.

Owns the order of writes: each column by one pwrite(2) a piece, `time` last. A record is there once
its time is, and its other columns were there before. So what a crash leaves behind `time` was shown
to nobody and is cut off in place. Where `time` is the longer one (another recorder, a power cut) a
query of other columns was shown its last records: these are cut off by a copy that is renamed,
because a file is never truncated below what a server may be sending.

Files are opened for each piece: one that was replaced or removed meanwhile is seen, and a thousand
series take a thousand descriptors and not six thousand.
"""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import TIME_COLUMN, day_label, file_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from zerocopy.core.layout import Dtypes

PIECE_RECORDS = 1 << 16
"""Records of one write: a crash leaves at most so many behind `time`."""

MULTIPLES_FROM_RECORDS = 64
"""From so many on, a column of just 2, 4 or 8 times the bytes has records of another width."""

_FILE_MODE = 0o644

_logger = logging.getLogger(__name__)


class Writer(Protocol):
    """The one writer of a series, which holds its lock: `ingest.daywriter.SeriesWriter`."""

    name: str

    @property
    def descriptor(self) -> int:
        """The directory of the series."""

    def days(self) -> dict[int, set[str]]:
        """The columns of each day that has files."""

    def read(self, day: int, dtypes: Dtypes) -> dict[str, NDArray[Any]]:
        """The aligned records of a day."""

    def write(self, day: int, columns: Mapping[str, NDArray[Any]]) -> None:
        """Replace the files of a day: write, fsync, rename."""


class _Day(NamedTuple):
    """The day that is appended to: records that are complete, and which file is `time`."""

    day: int
    records: int
    inode: int


class SeriesAppender:
    """The day files of one series that grow. `writer` holds its lock.

    `columns` are written in this order, `time` last.
    """

    def __init__(
        self, writer: Writer, columns: Sequence[str], dtypes: Dtypes, *, syncs_each: bool
    ) -> None:
        assert TIME_COLUMN in columns, "a record has a time"
        self._writer = writer
        self._dtypes = dtypes
        self._others = tuple(name for name in columns if name != TIME_COLUMN)
        self._sizes = {name: dtypes.of(name).nbytes for name in (*self._others, TIME_COLUMN)}
        self._syncs_each = syncs_each
        self._day: _Day | None = None
        self._unsynced: set[int] = set()

    def append(self, day: int, rows: NDArray[Any]) -> None:
        """Append at most `PIECE_RECORDS` records of one day.

        After an `OSError` the same records are to be given again, or more that begin with them:
        they go to the same place.

        Raises:
            IngestError: the day has other columns, cannot be mended, or somebody else writes it.
            OSError: the disk is full, or fails.
        """
        assert 0 < len(rows) <= PIECE_RECORDS, "a piece"
        if self._day is None or self._day.day != day or not self._is_as_left(len(rows)):
            self._day = self._open_day(day)
        self._unsynced.add(day)
        for names in (self._others, (TIME_COLUMN,)):
            for name in names:
                self._write(name, np.ascontiguousarray(rows[name]))
            if self._syncs_each:
                self._sync_day(day, names)
        if self._syncs_each:
            self._unsynced.discard(day)
        self._day = self._day._replace(records=self._day.records + len(rows))

    def sync(self) -> None:
        """Have all that was appended on the disk: fdatasync(2), `time` last.

        Raises:
            OSError: the disk fails.
        """
        for day in sorted(self._unsynced):
            self._sync_day(day, [*self._sizes])
            self._unsynced.discard(day)

    def newest_s(self) -> int | None:
        """The time of the newest record of the series, in unix seconds; None where there is none.

        Raises:
            OSError: a file cannot be read.
        """
        size = self._sizes[TIME_COLUMN]
        for day in sorted(self._writer.days(), reverse=True):
            try:
                fd = self._open(file_name(TIME_COLUMN, day), os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                records = os.fstat(fd).st_size // size
                if records:
                    return int.from_bytes(os.pread(fd, size, (records - 1) * size), "little")
            finally:
                os.close(fd)
        return None

    # ---- one day

    def _is_as_left(self, count: int) -> bool:
        """Whether `time` is the file, and has the records, that the last piece left.

        A piece that failed may have left some of its times.
        """
        assert self._day is not None, "a day is open"
        status = self._stat(TIME_COLUMN, self._day.day)
        if status is None or status.st_ino != self._day.inode:
            return False
        size, records = self._sizes[TIME_COLUMN], self._day.records
        if not records * size <= status.st_size <= (records + count) * size:
            raise IngestError(
                f"{self._writer.name}: {file_name(TIME_COLUMN, self._day.day)} was changed by "
                "another program; one may write a series"
            )
        return True

    def _open_day(self, day: int) -> _Day:
        """Mend what a crash left of a day; where to go on."""
        present = sorted(self._writer.days().get(day, ()))
        records, torn = {}, {}
        for name, size in self._sizes.items():
            status = self._stat(name, day)
            nbytes = 0 if status is None else status.st_size
            records[name], torn[name] = divmod(nbytes, size)
        complete = records[TIME_COLUMN]
        self._check_columns(day, present, complete)
        self._check_widths(day, records)
        whole = min(records.values())
        if whole < complete:
            columns = self._writer.read(day, self._dtypes)
            self._writer.write(day, {name: columns[name] for name in self._sizes})
            _logger.warning(
                "%s: %d records of %s lack a column; cut off",
                *(self._writer.name, complete - whole, day_label(day)),
            )
        else:
            for name, size in self._sizes.items():
                if records[name] > whole or torn[name]:
                    self._cut(file_name(name, day), whole * size)
        for name in self._sizes:
            if name not in present:
                os.close(self._open(file_name(name, day), os.O_WRONLY | os.O_CREAT))
        if len(present) < len(self._sizes):
            os.fsync(self._writer.descriptor)
        status = self._stat(TIME_COLUMN, day)
        if status is None:
            raise IngestError(f"{self._writer.name}: the files of {day_label(day)} are removed")
        return _Day(day, whole, status.st_ino)

    def _check_columns(self, day: int, present: Sequence[str], complete: int) -> None:
        more = sorted(set(present) - self._sizes.keys())
        missing = sorted(self._sizes.keys() - set(present)) if complete else []
        for names, what in ((more, "has a column that is"), (missing, "lacks a column that is")):
            if names:
                raise IngestError(
                    f"{self._writer.name}: {day_label(day)} {what} "
                    f"{'not ' if names is more else ''}recorded: {', '.join(names)}"
                )

    def _check_widths(self, day: int, records: Mapping[str, int]) -> None:
        """Refuse to cut off what looks like records of another width."""
        complete = records[TIME_COLUMN]
        for name, count in records.items():
            excess = count - complete
            is_multiple = complete >= MULTIPLES_FROM_RECORDS and count in {
                complete * factor for factor in (2, 4, 8)
            }
            is_part = count < complete and complete - count > PIECE_RECORDS
            if excess > PIECE_RECORDS or is_multiple or is_part:
                raise IngestError(
                    f"{self._writer.name}: {file_name(name, day)} has {count} records of "
                    f"{self._sizes[name]} bytes, time has {complete}: too many to cut off; "
                    "is its dtype another in [columns]?"
                )

    def _cut(self, name: str, nbytes: int) -> None:
        fd = self._open(name, os.O_WRONLY)
        try:
            os.ftruncate(fd, nbytes)
        finally:
            os.close(fd)

    def _write(self, name: str, values: NDArray[Any]) -> None:
        assert self._day is not None, "a day is open"
        first = self._day.records
        fd = self._open(file_name(name, self._day.day), os.O_WRONLY)
        try:
            rest, offset = values.view("u1").data, first * self._sizes[name]
            while rest:
                # Short where the disk is full; the next call says so.
                count = os.pwrite(fd, rest, offset)
                rest, offset = rest[count:], offset + count
        finally:
            os.close(fd)

    def _sync_day(self, day: int, columns: Sequence[str]) -> None:
        for name in columns:
            try:
                fd = self._open(file_name(name, day), os.O_RDONLY)
            except FileNotFoundError:
                continue  # removed since
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)

    def _open(self, name: str, flags: int) -> int:
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, _FILE_MODE, dir_fd=self._writer.descriptor)

    def _stat(self, name: str, day: int) -> os.stat_result | None:
        try:
            status = os.stat(
                file_name(name, day), dir_fd=self._writer.descriptor, follow_symlinks=False
            )
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            raise IngestError(f"{self._writer.name}: {file_name(name, day)} is no file")
        return status
