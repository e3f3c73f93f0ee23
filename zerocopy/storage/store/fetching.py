"""Files of the store on their way into the cache: one at a time for whoever waits, others ahead.

Owns the threads that fetch ahead. A `StoredFile` is what a plan keeps of a file: a `DayFile` whose
identity is what the store listed, so that it means the same whether or not it is in the cache yet.
`StoredFiles` opens it for whoever reads, and fetches it where it has to.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError, NotFetchedError, ZerocopyError
from zerocopy.storage.catalog import Stamp
from zerocopy.storage.dayfile import DayFile, Fetched, OpenFiles
from zerocopy.storage.store.tally import Tally
from zerocopy.storage.tree import close_file, data_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.storage.mapping import MappedFiles, Mapping
    from zerocopy.storage.store.cache import CacheDirectory
    from zerocopy.storage.store.objectstore import Entry, ObjectStore
    from zerocopy.storage.tree import Series

AHEAD_FILES_MAX = 64
"""Files of one plan that are fetched ahead at a time."""

_DEVICE = -1
"""No device: a stamp of the store is never that of a file."""


class Sequence:
    """The files of one plan in the order in which they leave; those before `until` were asked for.

    Responses that are kept share it, in several threads: a race costs a look at a file, or two.
    """

    __slots__ = ("files", "until")

    def __init__(self, files: list[StoredFile]) -> None:
        self.files = files
        self.until = 0
        for place, each in enumerate(files):
            each.sequence, each.place = self, place

    def forget(self, day_file: StoredFile) -> None:
        """One of them is not in the cache, so those behind it may not be either."""
        self.until = day_file.place + 1


class StoredFile(DayFile):
    """A day file of the store, at a `place` of the `sequence` of its plan, if it is sent.

    One that `is_spared` is not fetched before it is read.
    """

    __slots__ = ("entry", "is_spared", "place", "sequence")

    def __init__(
        self,
        files: OpenFiles,
        series: Series,
        name: str,
        entry: Entry,
        *,
        is_closed: bool,
        lost: list[str],
    ) -> None:
        # A DayFile is made of what stat(2) told, which nobody has yet.
        self._files = files
        self.series = series
        self.name = name
        self.entry = entry
        told = f"{'/'.join(series)}/{name} {entry}".encode()
        inode = int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big")
        self.stamp = Stamp(inode, _DEVICE, entry.size, entry.modified_ns)
        self.modified_ns = entry.modified_ns
        self.is_closed = is_closed
        self.lost = lost
        self.sequence: Sequence | None = None
        self.place = 0
        self.is_spared = False

    @property
    def key_in_store(self) -> str:
        """Its key, below the prefix."""
        return "/".join((*self.series, self.name))

    def check_kept(self, status: os.stat_result) -> None:
        """Assure that a descriptor shows the copy that was planned; see `DayFile`.

        Raises:
            DataChangedError: it shows another one.
        """
        if status.st_size != self.size or status.st_mtime_ns != self.modified_ns:
            self.lost.append(self.name)  # the plan is not to be used again
            raise DataChangedError("a file of the cache is not the one that was planned")

    def check_reopened(self, status: os.stat_result) -> None:
        """The same: a copy never changes, and its times say what it is a copy of."""
        self.check_kept(status)


class Fetcher:
    """Brings files of `store` into `cache`. Safe to use from several threads."""

    def __init__(
        self,
        store: ObjectStore,
        cache: CacheDirectory,
        *,
        threads: int,
        ahead_bytes_max: int,
        tally: Tally | None = None,
    ) -> None:
        self._store = store
        self.cache = cache
        self._threads = threads
        self._ahead_bytes_max = ahead_bytes_max
        self._tally = tally or Tally()
        self._waiting: queue.SimpleQueue[StoredFile | None] = queue.SimpleQueue()
        self._pending: set[tuple[int, int]] = set()
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()

    def fetch(self, day_file: StoredFile) -> int:
        """A descriptor of its copy, the caller's to close, fetched if it is not in the cache.

        Raises:
            ObjectChangedError: it is gone, or another one by now.
            StoreError: the store is away, or the cache cannot be written.
            DataError: the copy cannot be opened.
        """
        fd = self.open(day_file)
        return self._fill(day_file) if fd is None else fd

    def open(self, day_file: StoredFile) -> int | None:
        """A descriptor of its copy, the caller's to close; None if it is not in the cache.

        Raises:
            DataError: the copy cannot be opened.
        """
        try:
            fd = self.cache.open(day_file.series, day_file.name, day_file.entry)
        except OSError as error:
            raise data_error(error) from error
        if fd is not None:
            self._tally.add(slots.STORE_CACHE_HITS)
        return fd

    def has(self, day_file: StoredFile, *, unchecked: bool = False) -> bool:
        """Whether it is in the cache now; `unchecked`: or will be once it is read through."""
        return self.cache.has(day_file.series, day_file.name, day_file.entry, unchecked=unchecked)

    def fetch_ahead(self, day_file: StoredFile) -> None:
        """Have what is sent next fetched as well, each file once; see `Sequence.forget`."""
        sequence = day_file.sequence
        if sequence is None:
            return
        first = day_file.place + 1
        if sequence.until - first >= AHEAD_FILES_MAX // 2:
            return  # far enough
        nbytes, place = 0, first
        for later in sequence.files[first : first + AHEAD_FILES_MAX]:
            nbytes += 0 if later.is_spared else later.size
            if nbytes > self._ahead_bytes_max:
                break
            if place >= sequence.until and not later.is_spared:
                self.start((later,))
            place += 1
        sequence.until = max(sequence.until, place)

    def start(self, day_files: Iterable[StoredFile]) -> None:
        """Have these fetched by other threads; faults are met again by who needs them."""
        for day_file in day_files:
            with self._lock:
                if day_file.key in self._pending or self.has(day_file):
                    continue
                self._pending.add(day_file.key)
                if len(self._workers) < min(self._threads, len(self._pending)):
                    # They hold nothing that must be given back: a process need not wait for them.
                    worker = threading.Thread(target=self._work, name="fetcher", daemon=True)
                    self._workers.append(worker)
                    worker.start()
            self._waiting.put(day_file)

    def close(self) -> None:
        """Fetch nothing more ahead, and wait for what is on its way."""
        with self._lock:
            workers, self._workers = self._workers, []
        for _ in workers:
            self._waiting.put(None)
        for worker in workers:
            worker.join()

    def _work(self) -> None:
        while True:
            day_file = self._waiting.get()
            if day_file is None:
                return
            try:
                close_file(self._fill(day_file))  # `start` has looked
            except ZerocopyError:
                pass
            finally:
                with self._lock:
                    self._pending.discard(day_file.key)
                del day_file

    def _fill(self, day_file: StoredFile) -> int:
        def read_into(fd: int) -> int | None:
            self._tally.add(slots.STORE_FETCHES)
            try:
                if self._read_rest(day_file, fd):
                    return None
                found = self._store.read_into(day_file.key_in_store, day_file.entry, fd)
            except ZerocopyError:
                self._tally.add(slots.STORE_FAILURES)
                raise
            self._tally.add(slots.STORE_BYTES, day_file.size)
            return found

        return self.cache.fill(day_file.series, day_file.name, day_file.entry, read_into)

    def _read_rest(self, day_file: StoredFile, fd: int) -> bool:
        """Fetch what is new of a file that has grown since; whether that gave the file.

        The copy of its earlier state is taken for its beginning, and its ETag judges that.
        """
        key, entry = day_file.key_in_store, day_file.entry
        if not self._store.is_provable(entry):
            return False
        begin = self.cache.copy_into(fd, day_file.series, day_file.name, entry.size)
        if not begin:
            return False
        is_whole = self._store.read_rest_into(key, entry, fd, begin)
        if is_whole:
            self._tally.add(slots.STORE_BYTES, day_file.size - begin)
        else:
            os.ftruncate(fd, 0)
        return is_whole


class StoredFiles(OpenFiles):
    """Descriptors of copies; what is not in the cache is fetched by the thread that needs it."""

    def __init__(self, fetcher: Fetcher, count_max: int, mapped: MappedFiles | None = None) -> None:
        super().__init__(fetcher.cache.root, count_max, mapped)
        self._fetcher = fetcher

    def descriptor(self, day_file: DayFile) -> int:
        """A descriptor; one of a copy that somebody wrote to is given up. See `OpenFiles`."""
        try:
            return super().descriptor(day_file)
        except DataChangedError:
            entry = self._open.pop(day_file.key, None)
            if entry is not None:
                close_file(entry.fd)
            if self.mapped is not None:
                self.mapped.forget(day_file.stamp)
            raise

    def mapping(self, day_file: DayFile) -> Mapping | None:
        """The mapping of the very copy that is open, and of no earlier one; see `OpenFiles`."""
        found, entry = super().mapping(day_file), self._open.get(day_file.key)
        if found is None or entry is None or os.fstat(entry.fd).st_ino == found.inode:
            return found
        assert self.mapped is not None, "it has the mapping"
        self.mapped.forget(day_file.stamp)
        return None

    def fetch_now(self, day_file: DayFile, directory_fd: int) -> Fetched | None:
        """`fetch` what is in the cache; None if it is not, and then it is on its way."""
        if not isinstance(day_file, StoredFile):
            return super().fetch_now(day_file, directory_fd)
        try:
            fd = self._begin(day_file)
        except ZerocopyError:
            return None  # `fetch` tells why
        if fd is None:
            self._fetcher.start((day_file,))
            return None
        return Fetched(day_file.stamp, fd)

    def fetch(
        self,
        day_file: DayFile,
        lent: Fetched | None = None,
        directory_fd: int | None = None,
        *,
        mapped: bool = True,
    ) -> Fetched:
        """Open a file, and have the next ones fetched; see `OpenFiles`."""
        if lent is None and isinstance(day_file, StoredFile):
            try:
                fd = self._begin(day_file)
                lent = Fetched(day_file.stamp, self._fetcher.fetch(day_file) if fd is None else fd)
            except ZerocopyError as error:
                day_file.lost.append(day_file.name)
                cause = error.__cause__ or error
                raise NotFetchedError("a file of the object store cannot be fetched") from cause
        return super().fetch(day_file, lent, directory_fd, mapped=mapped)

    def _reopen(self, day_file: DayFile, directory_fd: int | None = None) -> int:
        """As `OpenFiles` does; a copy that was not checked since the start is none."""
        fd = super()._reopen(day_file, directory_fd)
        if isinstance(day_file, StoredFile) and not self._fetcher.cache.checks.is_checked(fd):
            close_file(fd)
            day_file.lost.append(day_file.name)
            raise DataChangedError("a file of the cache is another one than was opened")
        return fd

    def _begin(self, day_file: StoredFile) -> int | None:
        """Have what is sent behind it fetched; a descriptor of it if it is in the cache."""
        fd = self._fetcher.open(day_file)
        if fd is None and day_file.sequence is not None:
            day_file.sequence.forget(day_file)
        self._fetcher.fetch_ahead(day_file)
        return fd
