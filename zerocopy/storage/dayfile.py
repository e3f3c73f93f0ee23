"""One column of one day on disk, and the bounded cache of their descriptors.

Owns descriptors of day files, and decides what is mapped: files of closed days only.
A `DayFile` is what a plan keeps of a file: its identity, not a descriptor. A sender asks for the
descriptor in each turn and uses it before yielding to the event loop. So nothing is in flight when
the cache closes one, and ten thousand stalled transfers hold no descriptor at all. If a file was
evicted and is no longer the same, reopening notices it and the transfer is aborted.

`OpenFiles` belongs to the event loop's thread and takes no lock; planning threads open and map
files of their own and hand them over.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError, ZerocopyError
from zerocopy.core.plan import spread
from zerocopy.storage.catalog import stamp_of
from zerocopy.storage.pread import read_exactly, read_into
from zerocopy.storage.residency import PageCache
from zerocopy.storage.tree import Series, close_file, data_error, open_file, open_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.storage.catalog import Stamp
    from zerocopy.storage.mapping import MappedFiles, Mapping
    from zerocopy.storage.residency import Residency

assert sys.byteorder == "little", "records are little-endian and are viewed in place"

_U32 = struct.Struct("<I")
_SWEEPS_KEPT = 2
_SWEEPS_KEPT_OPEN_DAY = 180
"""A descriptor unused for this many sweeps is closed, so deleted files free their blocks. One of an
open day is kept for long: once its file has grown, a transfer that needs it cannot do without.
"""


class DayFile:
    """The `Source` of a segment: a file as it was when the plan was made.

    `size` is in bytes, `modified_ns` in unix nanoseconds. One that `is_closed` belongs to a closed
    day and must not differ at all; one of an open day may grow while its descriptor is kept.
    `lost` is shared by all files of a plan: the names of those that could not be opened again.
    """

    __slots__ = ("_files", "is_closed", "lost", "modified_ns", "name", "series", "stamp")

    def __init__(
        self,
        files: OpenFiles,
        series: Series,
        name: str,
        status: os.stat_result,
        *,
        is_closed: bool,
        lost: list[str] | None = None,
    ) -> None:
        self._files = files
        self.series = series
        self.name = name
        self.stamp = stamp_of(status)
        self.modified_ns = status.st_mtime_ns
        self.is_closed = is_closed
        self.lost = [] if lost is None else lost

    @property
    def size(self) -> int:
        """The file's size in bytes when it was planned."""
        return self.stamp.size

    @property
    def key(self) -> tuple[int, int]:
        """Device and inode: no other file can have them while a descriptor of this one is open."""
        return self.stamp.device, self.stamp.inode

    def fileno(self) -> int:
        """A descriptor valid until the caller yields; see `Source`."""
        return self._files.descriptor(self)

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; see `Source`."""
        return read_exactly(self.fileno(), offset, count)

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:
        """How many bytes are open, mapped if they are to be, and in memory; see `Source`."""
        return self._files.ready(self, offset, count, mapped=mapped)

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """The bytes of the mapping, or read where there is none; see `Source`.

        Checks the file on each call, because reading a mapping past the file's end raises SIGBUS.
        """
        fd = self._files.descriptor(self)
        mapping = self._files.mapping(self)
        if mapping is None:
            return read_exactly(fd, offset, count)
        return mapping.view(offset, count)

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """Copy from the mapping, or by preadv(2) where there is none; see `Source`."""
        fd = self._files.descriptor(self)
        mapping = self._files.mapping(self)
        if mapping is None:
            read_into(fd, offset, targets)
        else:
            spread(mapping.view(offset, sum(map(len, targets))), targets)

    def check_now(self, fd: int) -> None:
        """Assure that a descriptor of it still shows what was planned; see `check_kept`.

        Raises:
            DataChangedError: it does not.
            DataError: the file system cannot tell.
        """
        try:
            status = os.fstat(fd)
        except OSError as error:
            raise data_error(error) from error
        self.check_kept(status)

    def check_kept(self, status: os.stat_result) -> None:
        """Assure that a descriptor that was kept open still shows what was planned.

        The times of an open day's file are no evidence: the kernel moves them before it moves the
        size, so a reader can see the new time beside the old size.

        Raises:
            DataChangedError: the file is shorter, or was closed and differs.
        """
        same = status.st_size >= self.size
        if self.is_closed:
            same = status.st_size == self.size and status.st_mtime_ns == self.modified_ns
        if not same:
            raise DataChangedError("a day file changed while its records were being sent")

    def check_reopened(self, status: os.stat_result) -> None:
        """Assure that a file opened anew is the planned one.

        Its inode proves nothing: without a descriptor the number may have gone to a new file. So
        nothing may differ, and an open day's file that grew meanwhile cannot be told from another.

        Raises:
            DataChangedError: it differs.
        """
        if stamp_of(status) != self.stamp:
            raise DataChangedError("a day file changed while it was not kept open")


class Fetched:
    """A thread's descriptor and mapping of a file. Closes the descriptor unless it is taken.

    `unmappable`: mapping was tried and failed, so the file is to be read.
    """

    __slots__ = ("fd", "mapping", "stamp", "unmappable")

    def __init__(self, stamp: Stamp, fd: int, mapping: Mapping | None = None) -> None:
        self.fd: int | None = fd
        self.stamp = stamp
        self.mapping = mapping
        self.unmappable = False

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor unless it was taken."""
        if (fd := self.take()) is not None:
            close_file(fd)

    def take(self) -> int | None:
        """The descriptor, now the caller's to close; None from the second call on."""
        fd, self.fd = self.fd, None
        return fd


class _Entry:
    """A descriptor, the sweep during which it was last used, and whether its day is closed."""

    __slots__ = ("fd", "is_closed", "used")

    def __init__(self, fd: int, used: int, *, is_closed: bool) -> None:
        self.fd = fd
        self.used = used
        self.is_closed = is_closed


class OpenFiles:
    """Descriptors of day files by identity; at most `count_max`, least recently used closed.

    Files of closed days are mapped into `mapped`, which it sweeps and closes too; without one,
    nothing is mapped.
    """

    def __init__(
        self,
        root: str,
        count_max: int,
        mapped: MappedFiles | None = None,
        residency: Residency | None = None,
    ) -> None:
        assert count_max > 0, "at least the file being sent is open"
        self.root = root
        self.mapped = mapped
        self.residency = PageCache() if residency is None else residency
        self._count_max = count_max
        self._sweep = 0
        # By device and inode; see `DayFile.key`.
        self._open: OrderedDict[tuple[int, int], _Entry] = OrderedDict()

    def __len__(self) -> int:
        """How many descriptors are open."""
        return len(self._open)

    def descriptor(self, day_file: DayFile) -> int:
        """A descriptor of `day_file`, opened if need be, and checked against it.

        Raises:
            DataChangedError: the file changed since it was planned.
            DataError: it cannot be opened.
            OverloadError: the system is out of memory.
        """
        key = day_file.key
        entry = self._open.get(key)
        if entry is None:
            fd = self._reopen(day_file)
            self.adopt(day_file, fd)
            return fd
        self._touch(key, entry)
        day_file.check_now(entry.fd)
        return entry.fd

    def adopt(self, day_file: DayFile, fd: int) -> None:
        """Take over a descriptor that a planning thread opened; a second one is closed."""
        key = day_file.key
        known = self._open.get(key)
        if known is not None:
            close_file(fd)
            self._touch(key, known)
            return
        if len(self._open) >= self._count_max:
            self._evict()
        self._open[key] = _Entry(fd, self._sweep, is_closed=day_file.is_closed)

    def mapping(self, day_file: DayFile) -> Mapping | None:
        """The mapping of a closed day's file, if the pool has it."""
        if self.mapped is None or not day_file.is_closed:
            return None
        return self.mapped.get(day_file.stamp)

    def ready(self, day_file: DayFile, offset: int, count: int, *, mapped: bool) -> int:
        """How many bytes from `offset` are open, mapped if they are to be, and in memory."""
        entry = self._open.get(day_file.key)
        if entry is None or (mapped and self._wants_mapping(day_file)):
            return 0
        return self.residency.resident(entry.fd, offset, count)

    def lend(self, day_file: DayFile) -> Fetched | None:
        """A descriptor of its own for a thread, and the mapping, of a file that is kept open."""
        if (entry := self._open.get(day_file.key)) is None:
            return None
        try:
            return Fetched(day_file.stamp, os.dup(entry.fd), self.mapping(day_file))
        except OSError as error:
            raise data_error(error) from error

    def fetch(
        self,
        day_file: DayFile,
        lent: Fetched | None = None,
        directory_fd: int | None = None,
        *,
        mapped: bool = True,
    ) -> Fetched:
        """Open a file that was not lent, and map it where it is to be; blocks, in any thread.

        `directory_fd` is that of its series, which is opened where it is None.

        Raises:
            DataChangedError: it changed since it was planned, or cannot be opened.
        """
        fetched = lent or Fetched(day_file.stamp, self._reopen(day_file, directory_fd))
        assert fetched.fd is not None, "not taken yet"
        pool = self.mapped if mapped and fetched.mapping is None else None
        if pool is not None and self._wants_mapping(day_file):
            try:
                fetched.mapping = pool.map(fetched.fd, day_file.stamp, day_file.check_reopened)
            except DataChangedError:
                # One that was replaced or renamed is still whole where it is kept open: it is read.
                # If it is closed by the time that it is viewed, that raises this again.
                if lent is None:
                    fetched.close()
                    raise
            fetched.unmappable = fetched.mapping is None
        return fetched

    def fetch_now(self, day_file: DayFile, directory_fd: int) -> Fetched | None:
        """`fetch` what is to be read and not mapped; None if it is not on this machine."""
        return self.fetch(day_file, None, directory_fd, mapped=False)

    def keep(self, day_file: DayFile, fetched: Fetched) -> None:
        """Take over the descriptor and the mapping that `fetch` made."""
        assert fetched.stamp == day_file.stamp, "fetched for this file"
        if (fd := fetched.take()) is not None:
            self.adopt(day_file, fd)
        if self.mapped is None:
            return
        if fetched.mapping is not None:
            self.mapped.keep(fetched.mapping)
        elif fetched.unmappable and self._wants_mapping(day_file):
            self.mapped.give_up(day_file.stamp)

    def sweep(self) -> None:
        """Close what was not used since the sweep before the last; called by a coarse timer."""
        if self.mapped is not None:
            self.mapped.sweep()
        self._sweep += 1
        for key, entry in list(self._open.items()):
            kept = _SWEEPS_KEPT if entry.is_closed else _SWEEPS_KEPT_OPEN_DAY
            if self._sweep - entry.used > kept:
                del self._open[key]
                close_file(entry.fd)

    def close(self) -> None:
        """Close every descriptor and drop every mapping."""
        if self.mapped is not None:
            self.mapped.close()
        while self._open:
            close_file(self._open.popitem()[1].fd)

    def _wants_mapping(self, day_file: DayFile) -> bool:
        """Any thread may ask, see `MappedFiles.wants`."""
        return self.mapped is not None and day_file.is_closed and self.mapped.wants(day_file.stamp)

    def _touch(self, key: tuple[int, int], entry: _Entry) -> None:
        entry.used = self._sweep
        self._open.move_to_end(key)

    def _evict(self) -> None:
        """Close the least recently used file of a closed day; of an open day only if all are."""
        key = next((key for key, e in self._open.items() if e.is_closed), next(iter(self._open)))
        close_file(self._open.pop(key).fd)

    def _reopen(self, day_file: DayFile, directory_fd: int | None = None) -> int:
        try:
            if directory_fd is not None:
                fd, status = open_file(directory_fd, day_file.name)
            else:
                with open_series(self.root, day_file.series) as opened_fd:
                    fd, status = open_file(opened_fd, day_file.name)
        except (OSError, ZerocopyError) as error:
            day_file.lost.append(day_file.name)
            cause = error.__cause__ or error
            raise DataChangedError("a day file can no longer be opened") from cause
        try:
            day_file.check_reopened(status)
        except DataChangedError:
            close_file(fd)
            raise
        return fd


class TimeFile:
    """The `TimeColumn` of an open file: `count` u32 records from its start.

    `first_s` and `last_s` are the times of the first and the last record, once they were asked for.
    """

    __slots__ = ("_count", "_fd", "first_s", "last_s")

    def __init__(self, fd: int, count: int) -> None:
        self._fd = fd
        self._count = count
        self.first_s = self.last_s = -1

    def __len__(self) -> int:
        """How many whole records are searched."""
        return self._count

    def at(self, index: int) -> int:
        """The time of one record, in unix seconds."""
        assert 0 <= index < self._count, "an index inside the column"
        second: int = _U32.unpack(read_exactly(self._fd, index * 4, 4))[0]
        if index == 0:
            self.first_s = second
        if index == self._count - 1:
            self.last_s = second
        return second

    def window(self, first: int, stop: int) -> list[int]:
        """The times of the records [first, stop)."""
        assert 0 <= first <= stop <= self._count, "a window inside the column"
        return memoryview(read_exactly(self._fd, first * 4, (stop - first) * 4)).cast("I").tolist()
