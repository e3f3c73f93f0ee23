"""The page cache of a simulated machine: pages are missing in any order, and some go again.

Owns what is missing of which file, in tiny pages. It stands in the place of
`zerocopy.storage.residency.PageCache` and keeps account of bytes that were sent although they were
missing: the event loop would have waited for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.errors import DataChangedError
from zerocopy.storage.tree import data_error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from random import Random

PAGE_BYTES = 64
PAGES_AT_ONCE = 4
EVICTED = 0.1
"""How often a page goes when the cache is asked, in a world that is short of memory."""


class FakePageCache:
    """`identify` tells the file of a descriptor and its size; `enter` is the gate of each call.

    `read` is pread(2).
    """

    def __init__(
        self,
        rng: Random,
        *,
        cold: float,
        evicts: bool,
        identify: Callable[[int], tuple[Hashable, int]],
        enter: Callable[[str], None],
        read: Callable[[int, int, int], bytes],
    ) -> None:
        self._rng = rng
        self._cold = cold
        self._evicts = evicts
        self._identify = identify
        self._enter = enter
        self._read = read
        self._missing: dict[Hashable, set[int]] = {}
        self.waited_for: list[int] = []  # pages that were sent although they were missing
        self.read_pages = 0

    def resident(self, fd: int, offset: int, count: int) -> int:
        """How many bytes from `offset` are there."""
        file, size = self._identify(fd)
        missing = self._of(file, size)
        if self._evicts and self._rng.random() < EVICTED:
            missing.add(self._rng.randrange(size // PAGE_BYTES + 1))
        for page in _pages(offset, count):
            if page in missing:
                return max(0, page * PAGE_BYTES - offset)
        return count

    def read_now(self, fd: int, offset: int, view: memoryview) -> bool:
        """Fill `view`, if all of it is there."""
        if self.resident(fd, offset, len(view)) < len(view):
            return False
        try:
            data = self._read(fd, len(view), offset)
        except OSError:
            return False
        view[: len(data)] = data
        return len(data) == len(view)

    def read(self, fd: int, offset: int, view: memoryview) -> int:
        """Fill `view`; how many of its bytes were missing."""
        missing = len(view) - self.resident(fd, offset, len(view))
        try:
            data = self._read(fd, len(view), offset)
        except OSError as error:
            raise data_error(error) from error
        if len(data) != len(view):
            raise DataChangedError("shorter than it was")
        view[:] = data
        return missing

    def read_in(self, fd: int, offset: int, count: int, is_unwanted: Callable[[], bool]) -> int:
        """Read pages in, some at a time; others may act in between."""
        file, size = self._identify(fd)
        missing = self._of(file, size)
        wanted = sorted(missing.intersection(_pages(offset, count)))
        for first in range(0, len(wanted), PAGES_AT_ONCE):
            if is_unwanted():
                break
            try:
                self._enter("readahead")
            except OSError as error:
                raise data_error(error) from error
            read = wanted[first : first + PAGES_AT_ONCE]
            missing.difference_update(read)
            self.read_pages += len(read)
        return len(wanted) * PAGE_BYTES

    def touch(self, file: Hashable, size: int, offset: int, count: int) -> None:
        """Bytes are used by the event loop, which must not wait for them."""
        if count <= 0:
            return
        missing = self._of(file, size)
        found = missing.intersection(_pages(offset, count))
        missing.difference_update(found)
        if not self._evicts:
            self.waited_for += sorted(found)

    def fill(self, file: Hashable, size: int, offset: int, count: int) -> None:
        """Bytes are read by a thread, which may wait."""
        self._of(file, size).difference_update(_pages(offset, max(count, 1)))

    def _of(self, file: Hashable, size: int) -> set[int]:
        if file not in self._missing:
            pages = range(size // PAGE_BYTES + 1)
            self._missing[file] = {page for page in pages if self._rng.random() < self._cold}
        return self._missing[file]


def _pages(offset: int, count: int) -> range:
    return range(offset // PAGE_BYTES, (offset + count - 1) // PAGE_BYTES + 1)
