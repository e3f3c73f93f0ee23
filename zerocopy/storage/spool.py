"""Computed bodies: unlinked files under a budget of bytes, which leave like any other file.

Owns the budget and the descriptors. A body lies in a memfd, or in a file without a name below a
directory. Once no response holds it, its descriptor waits to be closed by a thread: to give back
some hundred megabytes takes milliseconds, which the event loop does not have. Threads that compute
write, each its own body; the lock is theirs alone.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataError, OverloadError
from zerocopy.core.plan import BODIES_MAX, Segment, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zerocopy.storage.residency import Residency

_FULL = "the server has no room to compute the answer; try again"


class Spool:
    """At most `bytes_max` bytes of bodies together, below `path` or in memory where it is None.

    `give_up` is called where there is no room: it drops a body that no response needs, or is False.
    Bodies below `path` are in the page cache as `residency` tells.
    """

    def __init__(
        self,
        bytes_max: int,
        path: str | None,
        residency: Residency,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._bytes_max = bytes_max
        self._path = path
        self._give_up = give_up
        self._lock = threading.Lock()
        self.residency = None if path is None else residency
        # Bytes by descriptor, until it is closed. One operation of a dict or a deque is atomic, so
        # neither the event loop nor a destructor needs the lock.
        self._bytes_by_fd: dict[int, int] = {}
        self._dropped = deque[int]()

    @property
    def nbytes(self) -> int:
        """The bytes of all bodies there are."""
        return sum([*self._bytes_by_fd.values()])

    @property
    def has_dropped(self) -> bool:
        """Whether there is something to close."""
        return bool(self._dropped)

    def open(self) -> SpooledBody:
        """A new body, empty; blocks.

        Raises:
            OverloadError: descriptors or memory are short.
        """
        with self._lock:
            self._make_room(0, 1)
            try:
                if self._path is None:
                    fd = os.memfd_create("zerocopy", os.MFD_CLOEXEC)
                else:
                    fd = os.open(self._path, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise OverloadError(_FULL) from error
            self._bytes_by_fd[fd] = 0
        return SpooledBody(self, fd)

    def reserve(self, fd: int, count: int) -> None:
        """So many bytes more for a body; blocks.

        Raises:
            OverloadError: they are above the budget.
        """
        with self._lock:
            self._make_room(count, 0)
            self._bytes_by_fd[fd] += count

    def drop(self, fd: int) -> None:
        """A body is gone; for its destructor."""
        self._dropped.append(fd)

    def close_dropped(self) -> None:
        """Close what is gone and give back its bytes; blocks, for any thread."""
        while self._dropped:
            try:
                fd = self._dropped.popleft()
            except IndexError:  # another thread was faster
                return
            del self._bytes_by_fd[fd]  # first: the number is free once it is closed
            os.close(fd)

    def give_up_one(self) -> bool:
        """Drop one body that is kept, for the disk is full below the budget; False if none is."""
        with self._lock:
            is_given_up = self._give_up()
            self.close_dropped()
        return is_given_up

    def _make_room(self, count: int, bodies: int) -> None:
        self.close_dropped()
        while self.nbytes + count > self._bytes_max or len(self._bytes_by_fd) + bodies > BODIES_MAX:
            if not self._give_up():
                raise OverloadError(_FULL)
            self.close_dropped()


class SpooledBody:
    """One body; a `Source` once it is written."""

    __slots__ = ("_fd", "_spool", "nbytes")

    def __init__(self, spool: Spool, fd: int) -> None:
        self._spool = spool
        self._fd = fd
        self.nbytes = 0

    def __del__(self) -> None:
        self.drop()

    def drop(self) -> None:
        """It is not needed; nobody may use it any more."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._spool.drop(fd)

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            OverloadError: the budget, or the disk, is full.
        """
        self._spool.reserve(self._fd, len(data))
        self.nbytes += len(data)
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except OSError as error:
                if error.errno != errno.ENOSPC or not self._spool.give_up_one():
                    raise OverloadError(_FULL) from error

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
        """All of them in memory, or as many as the page cache has; see `Source`."""
        assert 0 <= offset <= self.nbytes - count, "bytes that are there"
        residency = self._spool.residency
        return count if residency is None else residency.resident(self._fd, offset, count)

    def read_in(self, offset: int, count: int, is_unwanted: Callable[[], bool]) -> int:
        """Have the page cache hold `count` bytes from `offset`; how many it did not. Blocks.

        Raises:
            DataError: they cannot be read.
        """
        residency = self._spool.residency
        if residency is None:
            return 0
        return residency.read_in(self._fd, offset, count, is_unwanted)

    def view(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; see `Source`."""
        return self.read(offset, count)

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """Copy from `offset` on; see `Source`."""
        spread(self.read(offset, sum(map(len, targets))), targets)


class Draft:
    """A body that is being written: its first bytes in memory, the rest in `spool`.

    So a small one needs no file, and a large one leaves like a response of day files: some bytes
    with its head, then segments.
    """

    def __init__(self, spool: Spool, memory_bytes_max: int) -> None:
        self._spool = spool
        self._memory_bytes_max = memory_bytes_max
        self._first: list[bytes] = []
        self._first_nbytes = 0
        self._body: SpooledBody | None = None

    def write(self, data: bytes) -> None:
        """Append `data`; blocks.

        Raises:
            OverloadError: the budget, the disk, or descriptors are short.
        """
        if self._body is None:
            if self._first_nbytes + len(data) <= self._memory_bytes_max:
                self._first.append(data)
                self._first_nbytes += len(data)
                return
            self._body = self._spool.open()
        self._body.write(data)

    def discard(self) -> None:
        """It is not finished; an error that tells why may live on, and with it this object."""
        if self._body is not None:
            self._body.drop()

    def finish(self) -> tuple[bytes, tuple[Segment, ...]]:
        """What is in memory, and the segments after it."""
        body = self._body
        segments = () if body is None else (Segment(body, 0, body.nbytes),)
        return b"".join(self._first), segments
