"""The copies of the cache are checked after a start of the server, in the background.

Owns the thread that reads them, one in all workers, and how much of the disk it takes. Cheap things
come first: a copy of what the last listing does not have is deleted. What is asked for before the
thread has come to it is checked by who asks, see `CacheDirectory.fill`; so nothing waits for it.

The thread is slow by pauses, not by a low priority: with that it could keep the interpreter's lock
for as long as the system lets it wait. What it brought into memory it has the kernel forget.
"""

from __future__ import annotations

import fcntl
import os
import threading
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.layout import parse_file_name
from zerocopy.storage.residency import PageCache
from zerocopy.storage.store.cache import is_copy
from zerocopy.storage.store.tally import Tally
from zerocopy.storage.tree import Series, close_file
from zerocopy.storage.trimming import files_below

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zerocopy.storage.store.cache import CacheDirectory
    from zerocopy.storage.store.listings import Listings
    from zerocopy.storage.store.objectstore import Entry

LOOK_S = 60.0
"""Seconds until a worker looks whether the one that checks has ended."""

FILE_BYTES = 65_536
"""What a file counts for at least: opening a small one is work as well."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class CacheCheck:
    """Checks the copies in `cache`, at most `bytes_per_s_max` of them a second; 0 is none at all.

    `path` is where a lock tells that another process is at it.
    """

    def __init__(
        self,
        cache: CacheDirectory,
        listings: Listings,
        path: str,
        bytes_per_s_max: int,
        tally: Tally | None = None,
    ) -> None:
        self._cache = cache
        self._listings = listings
        self._lock_path = os.path.join(path, "check.lock")
        self._bytes_per_s_max = bytes_per_s_max
        self._tally = tally or Tally()
        self._residency = PageCache()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._listed: tuple[Series, Mapping[str, Entry] | None] | None = None

    @property
    def is_possible(self) -> bool:
        """Whether copies can be checked: their file system keeps attributes."""
        return self._cache.checks.are_kept

    def start(self) -> None:
        """Begin, in a thread that nobody has to wait for."""
        if self._bytes_per_s_max and self.is_possible:
            self._thread = threading.Thread(target=self._work, name="cache check", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def run(self) -> None:
        """Check every copy that was not checked since the start; blocks."""
        for found, status in files_below(self._cache.root):
            if self._stop.is_set():
                return
            if parse_file_name(found.name) is not None:
                self._look(found.path, status)

    def _work(self) -> None:
        try:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # who asks for a copy checks it
        try:
            while not self._is_first(fd):
                if self._stop.wait(LOOK_S):
                    return
            self.run()
            self._stop.wait()  # the lock is kept, or the next worker would look at all again
        finally:
            os.close(fd)

    @staticmethod
    def _is_first(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _look(self, path: str, status: os.stat_result) -> None:
        checks = self._cache.checks
        if checks.is_checked(path):
            return
        *above, name = os.path.relpath(path, self._cache.root).split(os.sep)
        listed = self._listed_of(Series(*above))
        if listed is not None and not (name in listed and is_copy(status, listed[name])):
            self._cache.discard(path, status.st_ino)  # the store has another one by now, or none
            return
        try:
            fd = os.open(path, _READ)
        except OSError:
            return  # it was deleted meanwhile
        try:
            status = os.fstat(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # or what is read ahead would stay
            if checks.check(fd, status.st_size, self._read):
                self._tally.add(slots.STORE_CACHE_CHECKED)
            else:
                if checks.is_noted(fd):
                    self._tally.add(slots.STORE_CACHE_RUINED)
                self._cache.discard(path, status.st_ino)
        finally:
            close_file(fd)
        self._rest(FILE_BYTES - status.st_size)

    def _read(self, fd: int, count: int, offset: int) -> bytes:
        """Read as os.pread does, without a trace in the page cache, and then rest."""
        was_there = self._residency.resident(fd, offset, count)
        piece = os.pread(fd, count, offset)
        if not was_there:
            os.posix_fadvise(fd, offset, count, os.POSIX_FADV_DONTNEED)
        self._rest(len(piece))
        return piece

    def _rest(self, nbytes: int) -> None:
        if nbytes > 0:
            self._stop.wait(nbytes / self._bytes_per_s_max)

    def _listed_of(self, series: Series) -> Mapping[str, Entry] | None:
        if self._listed is None or self._listed[0] != series:
            self._listed = series, self._listings.noted(series)
        return self._listed[1]
