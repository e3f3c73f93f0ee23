"""One column of one day on disk, and the bounded cache of their descriptors.

Owns descriptors of day files. A `DayFile` is what a plan keeps of a file: its identity, not a
descriptor. Whoever sends asks for the descriptor anew each turn and uses it before yielding to the
event loop, so nothing is ever in flight when the cache closes one, and ten thousand stalled
transfers hold no descriptor at all. A file that was evicted and is no longer the same is noticed on
reopening and aborts the transfer.

`OpenFiles` belongs to the event loop's thread and takes no lock; planning threads open files of
their own and hand them over.
"""

from __future__ import annotations

import os
import struct
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError, ZerocopyError
from zerocopy.storage.catalog import stamp_of
from zerocopy.storage.tree import Series, data_error, open_file, open_series

if TYPE_CHECKING:
    from collections.abc import Sequence

assert sys.byteorder == "little", "records are little-endian and are viewed in place"

_U32 = struct.Struct("<I")
_SWEEPS_KEPT = 2
_SWEEPS_KEPT_OPEN_DAY = 180
"""A descriptor unused for this many sweeps is closed, so deleted files free their blocks. One of an
open day is kept for long: once its file has grown, a transfer that needs it cannot do without.
"""


class DayFile:
    """The `Source` of a segment: a file as it was when the plan was made.

    `size` is in bytes, `modified_ns` in unix nanoseconds. A `sealed` file belongs to a closed day
    and must not differ at all; one of an open day may grow while its descriptor is kept.
    """

    __slots__ = ("_files", "modified_ns", "name", "sealed", "series", "stamp")

    def __init__(
        self, files: OpenFiles, series: Series, name: str, status: os.stat_result, *, sealed: bool
    ) -> None:
        self._files = files
        self.series = series
        self.name = name
        self.stamp = stamp_of(status)
        self.modified_ns = status.st_mtime_ns
        self.sealed = sealed

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

    def check_kept(self, status: os.stat_result) -> None:
        """Assure that a descriptor that was kept open still shows what was planned.

        The times of an open day's file are no evidence: the kernel moves them before it moves the
        size, so a reader can see the new time beside the old size.

        Raises:
            DataChangedError: the file is shorter, or was closed and differs.
        """
        same = status.st_size >= self.size
        if self.sealed:
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


class _Entry:
    """A descriptor, the sweep during which it was last used, and whether its day is closed."""

    __slots__ = ("fd", "sealed", "used")

    def __init__(self, fd: int, used: int, *, sealed: bool) -> None:
        self.fd = fd
        self.used = used
        self.sealed = sealed


class OpenFiles:
    """Descriptors of day files by identity; at most `count_max`, least recently used closed."""

    def __init__(self, root: str, count_max: int) -> None:
        assert count_max > 0, "at least the file being sent is open"
        self.root = root
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
        """
        key = day_file.key
        entry = self._open.get(key)
        if entry is None:
            fd = self._reopen(day_file)
            self.adopt(day_file, fd)
            return fd
        self._touch(key, entry)
        day_file.check_kept(os.fstat(entry.fd))
        return entry.fd

    def adopt(self, day_file: DayFile, fd: int) -> None:
        """Take over a descriptor that a planning thread opened; a second one is closed."""
        key = day_file.key
        known = self._open.get(key)
        if known is not None:
            os.close(fd)
            self._touch(key, known)
            return
        if len(self._open) >= self._count_max:
            self._evict()
        self._open[key] = _Entry(fd, self._sweep, sealed=day_file.sealed)

    def sweep(self) -> None:
        """Close what was not used since the sweep before the last; called by a coarse timer."""
        self._sweep += 1
        for key, entry in list(self._open.items()):
            kept = _SWEEPS_KEPT if entry.sealed else _SWEEPS_KEPT_OPEN_DAY
            if self._sweep - entry.used > kept:
                del self._open[key]
                os.close(entry.fd)

    def close(self) -> None:
        """Close every descriptor."""
        while self._open:
            _, entry = self._open.popitem()
            os.close(entry.fd)

    def _touch(self, key: tuple[int, int], entry: _Entry) -> None:
        entry.used = self._sweep
        self._open.move_to_end(key)

    def _evict(self) -> None:
        """Close the least recently used file of a closed day; of an open day only if all are."""
        key = next((key for key, e in self._open.items() if e.sealed), next(iter(self._open)))
        os.close(self._open.pop(key).fd)

    def _reopen(self, day_file: DayFile) -> int:
        try:
            with open_series(self.root, day_file.series) as directory_fd:
                fd, status = open_file(directory_fd, day_file.name)
        except (FileNotFoundError, ZerocopyError) as error:
            raise DataChangedError("a day file can no longer be opened") from error
        try:
            day_file.check_reopened(status)
        except DataChangedError:
            os.close(fd)
            raise
        return fd


def read_exactly(fd: int, offset: int, count: int) -> bytes:
    """`count` bytes of a descriptor from `offset`, by pread(2).

    Raises:
        DataChangedError: the file ends before that.
        DataError: the read fails.
    """
    try:
        data = os.pread(fd, count, offset)
    except OSError as error:
        raise data_error(error) from error
    # A regular file gives less than asked only at its end (pread(2)).
    if len(data) != count:
        raise DataChangedError("a day file is shorter than it was when it was planned")
    return data


class TimeFile:
    """The `TimeColumn` of an open file: `count` u32 records from its start."""

    __slots__ = ("_count", "_fd")

    def __init__(self, fd: int, count: int) -> None:
        self._fd = fd
        self._count = count

    def __len__(self) -> int:
        """How many whole records are searched."""
        return self._count

    def at(self, index: int) -> int:
        """The time of one record, in unix seconds."""
        assert 0 <= index < self._count, "an index inside the column"
        second: int = _U32.unpack(read_exactly(self._fd, index * 4, 4))[0]
        return second

    def window(self, first: int, stop: int) -> Sequence[int]:
        """The times of the records [first, stop)."""
        assert 0 <= first <= stop <= self._count, "a window inside the column"
        return memoryview(read_exactly(self._fd, first * 4, (stop - first) * 4)).cast("I")
