"""The roll-ups of one data root: in memory up to a bound, and in files below a directory.

Owns which roll-up is believed: one that was made of the very files that a plan names. Nothing
depends on a roll-up but time. A `DaySource` tells where these files come from. Used by threads; the
lock guards a few dictionary operations and numbers, never a system call.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zerocopy.core import counters as slots
from zerocopy.core.layout import file_name
from zerocopy.storage.catalog import Stamp, stamp_of
from zerocopy.storage.rollup_directory import NOTED_S, RollupDirectory
from zerocopy.storage.tree import close_file, open_file, open_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import ExitStack

    from zerocopy.core.counters import Counters
    from zerocopy.storage.dayfile import DayFile
    from zerocopy.storage.rollup_file import Key, Rollup, Wanted
    from zerocopy.storage.tree import Series

ENTRY_BYTES = 1_100
"""A roll-up in memory beside its rows: by tracemalloc, on CPython 3.11."""

RECORDS_MIN = 32_768
"""Records of a day below which there is no roll-up: they are read as fast, in a third of a
millisecond, and the rows could take as much of the disk as they do."""


class OpenedFile(NamedTuple):
    """A descriptor, what it is of, and when that last changed, in unix nanoseconds."""

    fd: int
    stamp: Stamp
    changed_ns: int


class DaySource(Protocol):
    """Opens the files of a day for who makes roll-ups."""

    def open(
        self, stack: ExitStack, series: Series, day: int, columns: Iterable[str]
    ) -> dict[str, OpenedFile]:
        """The files of `columns`, open until `stack` is closed; blocks.

        Raises:
            NotFoundError: there is no such series.
            DataError: a file cannot be opened.
            OverloadError: it cannot be had now.
            OSError: a file is not there.
        """

    def is_same(self, opened: OpenedFile) -> bool:
        """Whether a file is still what was opened."""

    def spare(self, day_files: Iterable[DayFile]) -> None:
        """Roll-ups have what a plan wants of these files: nobody need bring them here."""


class TreeDays:
    """The day files below `root`; see `DaySource`."""

    def __init__(self, root: str) -> None:
        self._root = root

    def open(
        self, stack: ExitStack, series: Series, day: int, columns: Iterable[str]
    ) -> dict[str, OpenedFile]:
        """The files of `columns`, open until `stack` is closed."""
        directory_fd = stack.enter_context(open_series(self._root, series))
        opened: dict[str, OpenedFile] = {}
        for column in dict.fromkeys(columns):
            fd, status = open_file(directory_fd, file_name(column, day))
            stack.callback(close_file, fd)
            changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
            opened[column] = OpenedFile(fd, stamp_of(status), changed_ns)
        return opened

    def is_same(self, opened: OpenedFile) -> bool:
        """Whether nothing of a file has changed."""
        return stamp_of(os.fstat(opened.fd)) == opened.stamp

    def spare(self, day_files: Iterable[DayFile]) -> None:
        """They are here."""


@dataclass(slots=True)
class _Kept:
    """A roll-up in memory, and when its file was last told to be used (monotonic seconds)."""

    rollup: Rollup
    noted_s: float


class Rollups:
    """Finds and keeps roll-ups; at most `bytes_max` bytes in memory, least recently used dropped.

    `path` is the directory of the files, None for none; it holds at most `disk_bytes_max` bytes.
    `on_unwritable` is told once in a sentence if it cannot be written.
    """

    def __init__(
        self,
        *,
        bytes_max: int,
        path: str | None,
        disk_bytes_max: int,
        counters: Counters,
        on_unwritable: Callable[[str], None],
    ) -> None:
        self._bytes_max = bytes_max
        self._path = path
        self._directory = None if path is None else RollupDirectory(path, disk_bytes_max)
        self._counters = counters
        self._on_unwritable = on_unwritable
        self._has_told = False
        self._nbytes = 0
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_of_use(self) -> bool:
        """Whether anything can be kept at all."""
        return self._bytes_max > 0 or self._directory is not None

    def find(self, wanted: Wanted, *, minutes: bool = False) -> Rollup | None:
        """The roll-up of these files, with its minutes where they are asked for; blocks."""
        known = self._known(wanted)
        if known is not None and (known.minute is not None or not minutes):
            return known
        if self._directory is None:
            return None
        key = wanted.key
        if known is None:
            known = self._directory.read(wanted)
        if known is not None and minutes:
            known = self._directory.read_minutes(key, known)
        if known is not None:
            self._directory.note_use(key)
            self.keep(key, known)
        return known

    def _known(self, wanted: Wanted) -> Rollup | None:
        """What memory has of these files; tells now and then that its file is used, too."""
        now_s = time.monotonic()
        with self._lock:
            kept = self._kept.get(wanted.key)
            if kept is None or not kept.rollup.is_of(wanted):
                return None
            self._kept.move_to_end(wanted.key)
            is_due = now_s - kept.noted_s > NOTED_S
            if is_due:
                kept.noted_s = now_s
        if is_due and self._directory is not None:
            self._directory.note_use(wanted.key)
        return kept.rollup

    def keep(self, key: Key, rollup: Rollup) -> None:
        """Keep in memory, unless it alone is a quarter of all the room there is."""
        with self._lock:
            replaced = self._kept.pop(key, None)
            if replaced is not None:
                self._nbytes -= ENTRY_BYTES + replaced.rollup.nbytes
            if ENTRY_BYTES + rollup.nbytes <= self._bytes_max // 4:
                self._kept[key] = _Kept(rollup, time.monotonic())
                self._nbytes += ENTRY_BYTES + rollup.nbytes
            while self._nbytes > self._bytes_max:
                _, dropped = self._kept.popitem(last=False)
                self._nbytes -= ENTRY_BYTES + dropped.rollup.nbytes
            self._counters[slots.ROLLUP_BYTES] = self._nbytes

    def save(self, key: Key, rollup: Rollup) -> bool:
        """Keep what was just made, in memory and as a file; whether there is one now. Blocks."""
        self.keep(key, rollup)
        self.count(slots.ROLLUPS_MADE)
        if self._directory is None:
            return False
        try:
            is_written = self._directory.write(key, rollup)
        except OSError as error:
            with self._lock:
                has_told, self._has_told = self._has_told, True
            if not has_told:
                self._on_unwritable(f"{self._path}: {error.strerror}; roll-ups are not kept there")
            return False
        if self._directory.is_due:
            self.trim()
        return is_written

    def trim(self) -> None:
        """Delete files that were not used for longest, until the rest is bounded; blocks."""
        if self._directory is None:
            return
        nbytes, deleted = self._directory.trim()
        with self._lock:
            self._counters[slots.ROLLUP_FILE_BYTES] = nbytes
            self._counters[slots.ROLLUP_FILES_DELETED] += deleted

    def count(self, slot: int, times: int = 1) -> None:
        """Add to one of the counters of roll-ups; only this class writes to them."""
        with self._lock:
            self._counters[slot] += times
