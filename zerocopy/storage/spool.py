"""Computed bodies: unlinked files under a budget of bytes, which leave like any other file.

Owns the budget and the descriptors. A body lies in a memfd, or in a file without a name below a
directory, and is gone when the last response that holds it is. Threads write, one for each body;
the event loop sends.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from zerocopy.core.errors import DataError, OverloadError


class Spool:
    """At most `bytes_max` bytes of bodies together, below `path` or in memory where it is None."""

    def __init__(self, bytes_max: int, path: str | None = None) -> None:
        self._bytes_max = bytes_max
        self._path = path
        self._lock = threading.Lock()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """The bytes of all bodies there are."""
        return self._nbytes

    def open(self) -> SpooledBody:
        """A new body, empty.

        Raises:
            OverloadError: descriptors or memory are short.
        """
        try:
            if self._path is None:
                fd = os.memfd_create("zerocopy", os.MFD_CLOEXEC)
            else:
                fd = os.open(self._path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OverloadError("the server has no room to compute the answer") from error
        return SpooledBody(self, fd)

    def reserve(self, count: int) -> None:
        """So many bytes more.

        Raises:
            OverloadError: they are above the budget.
        """
        with self._lock:
            if self._nbytes + count > self._bytes_max:
                raise OverloadError("the server has no room to compute the answer; try again")
            self._nbytes += count

    def release(self, count: int) -> None:
        """So many bytes are gone."""
        with self._lock:
            self._nbytes -= count


class SpooledBody:
    """One body; a `Source` once it is written. It gives its bytes back when it is dropped."""

    __slots__ = ("_fd", "_spool", "nbytes")

    def __init__(self, spool: Spool, fd: int) -> None:
        self._spool = spool
        self._fd = fd
        self.nbytes = 0

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self._fd)
        self._spool.release(self.nbytes)

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            OverloadError: the budget, or the disk, is full.
        """
        self._spool.reserve(len(data))
        self.nbytes += len(data)
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError as error:
            raise OverloadError("the server has no room to compute the answer") from error

    def fileno(self) -> int:
        """Its descriptor; see `Source`."""
        return self._fd

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; see `Source`."""
        try:
            data = os.pread(self._fd, count, offset)
        except OSError as error:
            raise DataError("a computed answer cannot be read") from error
        assert len(data) == count, "nobody else can shorten it"
        return data

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of them: what was just written is in memory; see `Source`."""
        assert 0 <= offset <= self.nbytes - count, "bytes that are there"
        return count

    def view(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; see `Source`."""
        return self.read(offset, count)
