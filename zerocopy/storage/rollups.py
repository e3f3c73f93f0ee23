"""The roll-ups of one data root: in memory up to a bound, and in files below a directory.

Owns which roll-up is believed: one that was made of the very files that a plan names. Nothing
depends on a roll-up but time. Used by threads; the lock guards a few dictionary operations and
numbers, never a system call.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.layout import day_label
from zerocopy.storage import rollup_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.counters import Counters
    from zerocopy.storage.rollup_file import Key, Rollup, Wanted

ENTRY_BYTES = 1_100
"""A roll-up in memory beside its rows: by tracemalloc, on CPython 3.11."""

RECORDS_MIN = 32_768
"""Records of a day below which there is no roll-up: they are read as fast, in a third of a
millisecond, and the rows could take as much of the disk as they do."""


class Rollups:
    """Finds and keeps roll-ups; at most `bytes_max` bytes in memory, least recently used dropped.

    `path` is the directory of the files, None for none. `on_unwritable` is told once in a sentence
    if it cannot be written.
    """

    def __init__(
        self,
        *,
        bytes_max: int,
        path: str | None,
        counters: Counters,
        on_unwritable: Callable[[str], None],
    ) -> None:
        self._bytes_max = bytes_max
        self._path = path
        self._counters = counters
        self._on_unwritable = on_unwritable
        self._has_told = False
        self._nbytes = 0
        self._rollups: OrderedDict[Key, Rollup] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_of_use(self) -> bool:
        """Whether anything can be kept at all."""
        return self._bytes_max > 0 or self._path is not None

    def find(self, wanted: Wanted, *, minutes: bool = False) -> Rollup | None:
        """The roll-up of these files, with its minutes where they are asked for; blocks."""
        key = wanted.key
        with self._lock:
            known = self._rollups.get(key)
            if known is not None:
                self._rollups.move_to_end(key)
        if known is not None and not known.is_of(wanted):
            known = None
        if known is not None and (known.minute is not None or not minutes):
            return known
        if self._path is None:
            return None
        path = self._path_of(key)
        if known is None:
            known = rollup_file.read(path)
            if known is None or not known.is_of(wanted):
                return None
        if minutes:
            known = rollup_file.read_minutes(path, known)
        if known is not None:
            self.keep(key, known)
        return known

    def keep(self, key: Key, rollup: Rollup) -> None:
        """Keep in memory, unless it alone is a quarter of all the room there is."""
        with self._lock:
            replaced = self._rollups.pop(key, None)
            if replaced is not None:
                self._nbytes -= ENTRY_BYTES + replaced.nbytes
            if ENTRY_BYTES + rollup.nbytes <= self._bytes_max // 4:
                self._rollups[key] = rollup
                self._nbytes += ENTRY_BYTES + rollup.nbytes
            while self._nbytes > self._bytes_max:
                _, dropped = self._rollups.popitem(last=False)
                self._nbytes -= ENTRY_BYTES + dropped.nbytes
            self._counters[slots.ROLLUP_BYTES] = self._nbytes

    def save(self, key: Key, rollup: Rollup) -> bool:
        """Keep what was just made, in memory and as a file; whether there is one now. Blocks."""
        self.keep(key, rollup)
        self.count(slots.ROLLUPS_MADE)
        if self._path is None:
            return False
        try:
            return rollup_file.write(self._path_of(key), rollup_file.encode(rollup))
        except OSError as error:
            with self._lock:
                has_told, self._has_told = self._has_told, True
            if not has_told:
                self._on_unwritable(f"{self._path}: {error.strerror}; roll-ups are not kept there")
            return False

    def count(self, slot: int, times: int = 1) -> None:
        """Add to one of the counters of roll-ups; only this class writes to them."""
        with self._lock:
            self._counters[slot] += times

    def _path_of(self, key: Key) -> str:
        assert self._path is not None, "asked for files"
        name = f"{key.column}.{day_label(key.day)}.rollup"
        return os.path.join(self._path, *key.series, name)
