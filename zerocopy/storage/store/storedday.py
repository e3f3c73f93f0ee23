"""The copies of one day that live streams read.

Owns what it means that a day is continued by another: an object is replaced as a whole, so one that
grew is another file, and begins with all the bytes that readers may have read of the first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zerocopy.core.layout import file_name
from zerocopy.storage.live.following import LiveDay
from zerocopy.storage.store.fetching import StoredFile
from zerocopy.storage.tree import data_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zerocopy.storage.dayfile import DayFile, OpenFiles
    from zerocopy.storage.store.objectstore import Entry
    from zerocopy.storage.tree import Series

Keys = tuple[tuple[int, int], ...]

_CHUNK_BYTES = 1 << 20


class StoredDay(LiveDay):
    """The copies of the asked columns of one day, `entries` of the store; see `LiveDay`.

    `keys` are those of the day that it continues, so that its readers go on. `line` is what
    knows which that is; it is only held here, so that it is kept while somebody reads the day.
    """

    __slots__ = ("entries", "line")

    def __init__(
        self,
        directory: str,
        series: Series,
        day: int,
        opened: Mapping[str, tuple[int, os.stat_result]],
        sizes: Mapping[str, int],
        *,
        entries: Mapping[str, Entry],
        line: object,
    ) -> None:
        super().__init__(directory, series, day, opened, sizes)
        self.entries = entries
        self.line = line
        self.name_by(tuple((entry.modified_ns, entry.size) for entry in entries.values()))

    def name_by(self, keys: Keys) -> None:
        """Be the same files to readers as those of `keys`."""
        self.keys = self.identity = keys

    def begins_with(self, other: StoredDay, count: int) -> bool:
        """Whether the first `count` records are those of `other`; blocks.

        Raises:
            OSError: a copy cannot be read.
        """
        for column, place in self.columns.items():
            if self.entries[column] == other.entries[column]:
                continue
            fds = self._fds[place], other._fds[other.columns[column]]
            nbytes = count * self._sizes[place]
            for offset in range(0, nbytes, _CHUNK_BYTES):
                piece = min(_CHUNK_BYTES, nbytes - offset)
                mine, its = (os.pread(fd, piece, offset) for fd in fds)
                if mine != its or len(mine) != piece:
                    return False
        return True

    def sources(self, files: OpenFiles, columns: Sequence[str], stop: int) -> list[DayFile]:
        """See `LiveDay.sources`. They are those that a plan would have."""
        found: list[DayFile] = []
        for column in columns:
            place, name = self.columns[column], file_name(column, self.day)
            entry = self.entries[column]
            assert entry.size >= stop * self._sizes[place], "its aligned records are of its listing"
            stored = StoredFile(files, self._series, name, entry, is_closed=False, lost=[])
            try:
                files.adopt(stored, os.dup(self._fds[place]))
            except OSError as error:
                raise data_error(error) from error
            found.append(stored)
        return found
