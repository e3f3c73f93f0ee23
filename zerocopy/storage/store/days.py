"""The copies of days of an object store, for who makes roll-ups of them.

A server makes them of what its queries have brought into the cache: a roll-up is not worth a fetch,
which costs more than it saves. `zerocopy rollup` fetches.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zerocopy.core.errors import NotFetchedError
from zerocopy.core.layout import file_name
from zerocopy.storage.rollups import OpenedFile
from zerocopy.storage.store.fetching import StoredFile
from zerocopy.storage.tree import close_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

    from zerocopy.storage.dayfile import DayFile
    from zerocopy.storage.store.fetching import Fetcher, StoredFiles
    from zerocopy.storage.store.listings import Listings
    from zerocopy.storage.tree import Series


class StoredDays:
    """See `DaySource`; with `fetches` what is not in the cache is fetched."""

    def __init__(
        self, listings: Listings, fetcher: Fetcher, files: StoredFiles, *, fetches: bool = False
    ) -> None:
        self._listings = listings
        self._fetcher = fetcher
        self._files = files
        self._fetches = fetches

    def open(
        self, stack: ExitStack, series: Series, day: int, columns: Iterable[str]
    ) -> dict[str, OpenedFile]:
        """The copies of `columns` as the store lists them, open until `stack` is closed.

        Raises:
            NotFetchedError: one is not listed, or not in the cache.
            StoreError: the store is away.
            DataError: a copy cannot be opened.
        """
        listing = self._listings.of(series)
        opened: dict[str, OpenedFile] = {}
        for column in dict.fromkeys(columns):
            name = file_name(column, day)
            entry = listing.entries.get(name)
            if entry is None:
                raise NotFetchedError(f"{name} is not listed")
            wanted = StoredFile(self._files, series, name, entry, is_closed=True, lost=[])
            fd = self._fetcher.fetch(wanted) if self._fetches else self._fetcher.open(wanted)
            if fd is None:
                raise NotFetchedError(f"{name} is not in the cache")
            stack.callback(close_file, fd)
            opened[column] = OpenedFile(fd, wanted.stamp, entry.modified_ns)
        return opened

    def is_same(self, opened: OpenedFile) -> bool:
        """Whether nobody has written to a copy."""
        status = os.fstat(opened.fd)
        return (status.st_size, status.st_mtime_ns) == (opened.stamp.size, opened.changed_ns)

    def spare(self, day_files: Iterable[DayFile]) -> None:
        """Have none of these fetched ahead of a reader."""
        for each in day_files:
            if isinstance(each, StoredFile):
                each.is_spared = True
