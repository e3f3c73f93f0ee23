"""Which bytes of a file are in the page cache: asked without waiting, and read in by threads.

Owns the system calls that tell and that read. It knows neither plans nor connections. What is
found may be dropped by the kernel a moment later; then one call of the event loop waits for it.

cachestat(2) answers in 1.2 µs, for 4 KiB as for 4 MiB, but counts pages that are still being read.
So one byte of each 512 KiB and the last are asked for too, by preadv2(2) with RWF_NOWAIT, which
gives nothing of a page that is not there in full. Alone that call copies (21 µs a MiB), and begins
to read what is missing, for some hundred µs; so it is used alone only where the kernel has no
cachestat(2) (before 6.5) or keeps it to those who may write the file (EPERM, since 6.14).
mincore(2) wants a mapping, takes 19 µs a MiB, and tells those who may not write the file that all
of it is there.

tmpfs knows no RWF_NOWAIT. What is cached there is in memory (the rest is in swap), so cachestat(2)
alone tells.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import TYPE_CHECKING, Protocol

from zerocopy.core.errors import DataChangedError
from zerocopy.storage.tree import close_file, data_error
from zerocopy.storage.watch.mounts import TMPFS, filesystem_type

if TYPE_CHECKING:
    from collections.abc import Callable

NR_CACHESTAT = 451
"""The number of cachestat(2) on every architecture that Linux gives common numbers."""

READ_BYTES = 1_048_576
"""Bytes read by one call: after each a thread looks whether they are still wanted."""

PROBE_BYTES = 524_288
"""One byte of so many is asked for where cachestat(2) says that all are there: 0.7 µs each."""

SCRATCH_BYTES = 65_536
"""Bytes of one preadv2(2) where cachestat(2) does not tell."""

UNKNOWN = -1

_PAGE = mmap.PAGESIZE


class Residency(Protocol):
    """The page cache, as the event loop asks it and threads fill it."""

    def resident(self, fd: int, offset: int, count: int) -> int:
        """How many bytes from `offset` are in memory, at most `count`; 0 if that is unknown.

        Never waits; for the event loop's thread alone.
        """

    def read_now(self, fd: int, offset: int, view: memoryview) -> bool:
        """Fill `view` from `offset` if that takes no waiting. Returns whether it was filled."""

    def read(self, fd: int, offset: int, view: memoryview) -> int:
        """Fill `view` from `offset`. Returns how many of its bytes came from the disk.

        Blocks, and may run in any thread.

        Raises:
            DataChangedError: the file ends before that.
            DataError: the file cannot be read.
            OverloadError: the system is out of memory.
        """

    def read_in(self, fd: int, offset: int, count: int, is_unwanted: Callable[[], bool]) -> int:
        """Read what is missing of `count` bytes from `offset`. Returns how many bytes were missing.

        Blocks, and may run in any thread. Ends once `is_unwanted`, and where the file ends.

        Raises:
            DataError: the file cannot be read.
            OverloadError: the system is out of memory.
        """


class PageCache:
    """The kernel's page cache; `count_cached` is cachestat(2) or what stands for it."""

    def __init__(self, count_cached: Callable[[int, int, int], int] | None = None) -> None:
        self._count_cached = Cachestat() if count_cached is None else count_cached
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))

    def resident(self, fd: int, offset: int, count: int) -> int:
        """How many bytes from `offset` are there; see `Residency`."""
        assert offset >= 0, "an offset inside the file"
        assert count > 0, "something is asked for"
        pages = _pages(offset, count)
        cached = self._count_cached(fd, offset, count)
        if cached == UNKNOWN:
            return self._given_now(fd, offset, count, self._scratch)
        while cached < pages:
            if not cached:
                return 0
            # At most so many pages at the beginning; halved until all of them are there.
            count = min(count, cached * _PAGE - offset % _PAGE, pages // 2 * _PAGE)
            if count <= 0:
                return 0
            pages = _pages(offset, count)
            cached = self._count_cached(fd, offset, count)
        return self._read_through(fd, offset, count)

    def _read_through(self, fd: int, offset: int, count: int) -> int:
        """How many of the bytes, all of which are cached, have been read too."""
        for position in range(0, count, PROBE_BYTES):
            if not self._given_now(fd, offset + position, 1, self._scratch):
                return position
        if not self._given_now(fd, offset + count - 1, 1, self._scratch):
            return max(0, (count - 1) // PROBE_BYTES * PROBE_BYTES)
        return count

    def read_now(self, fd: int, offset: int, view: memoryview) -> bool:
        """Fill `view` if all of it is there; see `Residency`."""
        return self._given_now(fd, offset, len(view), view) == len(view)

    def read(self, fd: int, offset: int, view: memoryview) -> int:
        """Fill `view`; see `Residency`.

        cachestat(2) is not asked afterwards: the attempt has begun to read, and what is on its way
        counts as cached there.
        """
        if self.read_now(fd, offset, view):
            return 0
        try:
            got = os.preadv(fd, (view,), offset)
        except OSError as error:
            raise data_error(error) from error
        # A regular file gives less than asked only at its end (pread(2)).
        if got != len(view):
            raise DataChangedError("a day file is shorter than it was when it was planned")
        return got

    def read_in(self, fd: int, offset: int, count: int, is_unwanted: Callable[[], bool]) -> int:
        """Read what is missing; see `Residency`."""
        try:
            missing = self._missing(fd, offset, count)
            if count <= SCRATCH_BYTES:
                os.pread(fd, count, offset)
            else:
                if missing:
                    # All of it is on its way before the first page is waited for.
                    os.posix_fadvise(fd, offset, count, os.POSIX_FADV_WILLNEED)
                _discard(fd, offset, offset + count, is_unwanted)
        except OSError as error:
            raise data_error(error) from error
        return missing

    def _missing(self, fd: int, offset: int, count: int) -> int:
        cached = self._count_cached(fd, offset, count)
        if cached == UNKNOWN:
            scratch = memoryview(bytearray(min(count, SCRATCH_BYTES)))
            return count - self._given_now(fd, offset, count, scratch)
        return max(0, min(count, (_pages(offset, count) - cached) * _PAGE))

    def _given_now(self, fd: int, offset: int, count: int, scratch: memoryview) -> int:
        """How many of `count` bytes from `offset` preadv2(2) gives without waiting."""
        done, flags = 0, os.RWF_NOWAIT
        while done < count:
            piece = scratch[: count - done]
            try:
                got = os.preadv(fd, (piece,), offset + done, flags)
            except OSError as error:
                # EAGAIN: not there. EOPNOTSUPP: a file system that knows no such thing.
                knows_no_such = flags and error.errno == errno.EOPNOTSUPP
                if not (knows_no_such and self._is_memory(fd, offset, count)):
                    return done
                flags = 0
                continue
            done += got
            if got < len(piece):
                break
        return done

    def _is_memory(self, fd: int, offset: int, count: int) -> bool:
        """Whether the bytes lie on tmpfs, and not in swap."""
        try:
            if filesystem_type(fd) != TMPFS:
                return False
        except OSError:
            return False
        return self._count_cached(fd, offset, count) == _pages(offset, count)


class Cachestat:
    """cachestat(2): how many pages of a range are in the page cache, or UNKNOWN.

    Called without letting go of the interpreter lock, for it waits for nothing: with a thread at
    work each call would cost a turn of that lock.
    """

    def __init__(self) -> None:
        call = ctypes.PyDLL(None)["syscall"]
        call.argtypes = (
            ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint
        )  # fmt: skip
        call.restype = ctypes.c_long
        self._call = call

    def __call__(self, fd: int, offset: int, count: int) -> int:
        """Pages of [offset, offset + count) that are cached, those being read included."""
        span = (ctypes.c_uint64 * 2)(offset, count)
        counts = (ctypes.c_uint64 * 5)()
        # ENOSYS: an old kernel or a sandbox. EPERM: not for us. EOPNOTSUPP: hugetlbfs.
        if self._call(NR_CACHESTAT, fd, ctypes.addressof(span), ctypes.addressof(counts), 0):
            return UNKNOWN
        return int(counts[0])


def _discard(fd: int, offset: int, stop: int, is_unwanted: Callable[[], bool]) -> None:
    """Send a range to /dev/null: sendfile(2) waits for each page and touches none of its bytes.

    Where there is no /dev/null, as in a bare root, the bytes are read, which costs a copy.
    """
    try:
        sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):  # EACCES: it lies on a mount with `nodev`
        while offset < stop and not is_unwanted():
            got = len(os.pread(fd, min(READ_BYTES, stop - offset), offset))
            if not got:
                break
            offset += got
        return
    try:
        while offset < stop and not is_unwanted():
            got = os.sendfile(sink, fd, offset, min(READ_BYTES, stop - offset))
            if not got:
                break
            offset += got
    finally:
        close_file(sink)


def _pages(offset: int, count: int) -> int:
    return (offset + count - 1) // _PAGE - offset // _PAGE + 1
