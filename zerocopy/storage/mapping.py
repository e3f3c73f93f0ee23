"""Files of closed days, mapped read-only, and the bounded pool of them.

Owns mappings. A thread maps a whole file; the event loop's thread keeps the mapping. It is never
unmapped by hand: the pool drops its reference and CPython unmaps when the last view is gone, so
bytes on their way stay readable whatever is evicted.

Reading past the end of a file that shrank raises SIGBUS. So the file is checked before each view is
taken, in the same turn; see `DayFile.view`.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError
from zerocopy.storage.catalog import stamp_of
from zerocopy.storage.libc.memlock import address_of

if TYPE_CHECKING:
    from zerocopy.storage.catalog import Stamp
    from zerocopy.storage.libc.memlock import MemoryLocks

Check = Callable[[os.stat_result], object]
"""Raises `DataChangedError` where a file is not the one that was planned."""

_SWEEPS_KEPT = 2
"""A mapping unused for this many sweeps is dropped, so deleted files free their blocks."""


class Mapping:
    """One file mapped from its first byte to its last, locked as far as the budget goes.

    `stamp` is the file's identity, `inode` its number, `locked_bytes` whole pages or 0. mmap keeps
    a duplicate of the descriptor, so the caller's may be closed. `check` raises where a file has
    not that identity; without one it must have that very stamp.

    Raises:
        DataChangedError: the descriptor's file is not the one of `stamp`.
        OSError: it cannot be mapped (mmap(2)).
    """

    __slots__ = ("_address", "_locks", "_view", "inode", "locked_bytes", "stamp")

    def __init__(
        self, fd: int, stamp: Stamp, locks: MemoryLocks, check: Check | None = None
    ) -> None:
        assert stamp.size > 0, "mmap(2) refuses to map nothing"
        try:
            mapped = mmap.mmap(fd, stamp.size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except ValueError:  # longer than the file
            raise DataChangedError("a day file is shorter than it was planned") from None
        try:
            status = os.fstat(fd)
            _check(status, stamp, check)
        except BaseException:
            mapped.close()
            raise
        self.stamp = stamp
        self.inode = status.st_ino
        self._view = memoryview(mapped)
        address = address_of(mapped)
        self.locked_bytes = locks.lock(address, stamp.size)
        if self.locked_bytes:
            # On the mmap, not on self: views outlive self. It runs after munmap(2), which unlocks.
            weakref.finalize(mapped, locks.give_back, self.locked_bytes).atexit = False
        self._address = address
        self._locks = locks

    @property
    def nbytes(self) -> int:
        """The length in bytes, that of the file when it was mapped."""
        return self._view.nbytes

    def populate(self, offset: int, count: int) -> None:
        """Fill the page tables of a range, so that the event loop takes no fault; for threads."""
        assert offset + count <= self.nbytes, "inside the mapping"
        first = offset // mmap.PAGESIZE * mmap.PAGESIZE
        self._locks.populate(self._address + first, offset + count - first)

    def view(self, offset: int, count: int) -> memoryview:
        """The `count` bytes from `offset`; they stay mapped for as long as the view is held.

        Raises:
            DataChangedError: the mapping ends before that.
        """
        assert offset >= 0, "an offset inside the file"
        if offset + count > self._view.nbytes:
            raise DataChangedError("a day file is shorter than it was when it was planned")
        return self._view[offset : offset + count]


def _check(status: os.stat_result, stamp: Stamp, check: Check | None) -> None:
    if check is not None:
        check(status)
    elif stamp_of(status) != stamp:
        raise DataChangedError("a day file changed before it was mapped")


class _Entry:
    """A mapping and the sweep during which it was last used."""

    __slots__ = ("mapping", "used")

    def __init__(self, mapping: Mapping, used: int) -> None:
        self.mapping = mapping
        self.used = used


class MappedFiles:
    """Mappings by the stamp of their file; at most `count_max`, least recently used dropped.

    Belongs to the event loop's thread and takes no lock; only `map` and `wants` are for any thread.
    """

    def __init__(self, count_max: int, locks: MemoryLocks) -> None:
        assert count_max > 0, "at least one file is mapped"
        self._count_max = count_max
        self._locks = locks
        self._sweep = 0
        self._mapped: OrderedDict[Stamp, _Entry] = OrderedDict()
        # What could not be mapped, and the sweep during which that was found: not tried again soon.
        self._failed: dict[Stamp, int] = {}
        self._mapped_bytes = 0

    def __len__(self) -> int:
        """How many files the pool keeps mapped."""
        return len(self._mapped)

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the files in the pool."""
        return self._mapped_bytes

    @property
    def locked_bytes(self) -> int:
        """Bytes locked now, in whole pages, views that outlive the pool's reference included."""
        return self._locks.locked_bytes

    def wants(self, stamp: Stamp) -> bool:
        """Whether the file is to be mapped: it is not, has bytes, and did not fail of late.

        Any thread may ask; all but the event loop's may get a result that is a moment old.
        """
        return stamp.size > 0 and stamp not in self._mapped and stamp not in self._failed

    def map(self, fd: int, stamp: Stamp, check: Check | None = None) -> Mapping | None:
        """Map and lock the file of a descriptor; None where the system refuses.

        Blocks where the kernel cannot lock on fault; for threads.

        Raises:
            DataChangedError: the file is not the one of `stamp`.
        """
        try:
            return Mapping(fd, stamp, self._locks, check)
        except OSError:
            # ENOMEM, EMFILE, ENODEV, EPERM (mmap(2)): pread(2) does as well, or tells why not.
            return None

    def get(self, stamp: Stamp) -> Mapping | None:
        """The mapping of that very file, if the pool has it."""
        entry = self._mapped.get(stamp)
        if entry is None:
            return None
        entry.used = self._sweep
        self._mapped.move_to_end(stamp)
        return entry.mapping

    def keep(self, mapping: Mapping) -> None:
        """Take over a mapping; a second one of the same file is let go."""
        if self.get(mapping.stamp) is not None:
            return
        if len(self._mapped) >= self._count_max:
            self._drop(next(iter(self._mapped)))
        self._mapped[mapping.stamp] = _Entry(mapping, self._sweep)
        self._mapped_bytes += mapping.nbytes
        self._failed.pop(mapping.stamp, None)

    def give_up(self, stamp: Stamp) -> None:
        """Remember that a file cannot be mapped; it is wanted again after a few sweeps."""
        if len(self._failed) >= self._count_max:
            del self._failed[next(iter(self._failed))]
        self._failed[stamp] = self._sweep

    def forget(self, stamp: Stamp) -> None:
        """Drop the mapping of a file whose bytes are not to be sent, if there is one."""
        if stamp in self._mapped:
            self._drop(stamp)

    def sweep(self) -> None:
        """Drop what was not used since the sweep before the last; called by a coarse timer."""
        self._sweep += 1
        oldest = self._sweep - _SWEEPS_KEPT
        for stamp in [stamp for stamp, entry in self._mapped.items() if entry.used < oldest]:
            self._drop(stamp)
        self._failed = {stamp: since for stamp, since in self._failed.items() if since >= oldest}

    def close(self) -> None:
        """Drop every mapping; what is in flight stays mapped until it is sent."""
        for stamp in list(self._mapped):
            self._drop(stamp)
        self._failed.clear()

    def _drop(self, stamp: Stamp) -> None:
        self._mapped_bytes -= self._mapped.pop(stamp).mapping.nbytes
