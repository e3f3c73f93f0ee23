"""Which files the store has: listings of series.

Owns how long a listing is believed, and the copy of each below the cache: workers share it, and it
outlives them. When the store is away the last one is given, and says that it is old. One call at a
time lists a series, the others wait for it.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections import OrderedDict, defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import StoreError
from zerocopy.core.layout import TIME_COLUMN, file_name, parse_file_name
from zerocopy.storage.catalog import Listing, Stamp
from zerocopy.storage.store.notes import is_young, locked, read_note, write_note
from zerocopy.storage.store.objectstore import Entry
from zerocopy.storage.store.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zerocopy.storage.store.objectstore import ObjectStore
    from zerocopy.storage.tree import Series

NAMES_MAX = 1_000_000
"""File names of listings that are kept in memory, of some 200 bytes each."""

_NAMES_OF_NONE = 8
"""File names that take as much memory as a listing without any: those of series nobody has."""

_NO_STAMP = Stamp(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class StoreListing:
    """The day files of a series: `days` as any listing has them, `entries` by file name.

    `listed_s` is the unix second before which the store was asked. `is_old`: it could not be asked
    again.
    """

    days: Listing
    entries: dict[str, Entry]
    listed_s: float
    is_old: bool = False

    def entry(self, column: str, day: int) -> Entry:
        """The file of a column and a day, which is there."""
        return self.entries[file_name(column, day)]


@dataclass(slots=True)
class _Memory:
    """Listings by series, the least recently used forgotten first."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    listings: OrderedDict[Series, StoreListing] = field(default_factory=OrderedDict)
    names: int = 0

    def get(self, series: Series) -> StoreListing | None:
        with self.lock:
            known = self.listings.get(series)
            if known is not None:
                self.listings.move_to_end(series)
            return known

    def keep(self, series: Series, listing: StoreListing) -> None:
        with self.lock:
            replaced = self.listings.pop(series, None)
            self.names += _cost(listing) - (_cost(replaced) if replaced else 0)
            self.listings[series] = listing
            while self.names > NAMES_MAX and len(self.listings) > 1:
                self.names -= _cost(self.listings.popitem(last=False)[1])


class Listings:
    """What `store` holds, kept below `path`. Safe to use from several threads; all calls block."""

    def __init__(
        self,
        store: ObjectStore,
        path: str,
        list_s: float,
        clock: Callable[[], float] = time.time,
        tally: Tally | None = None,
    ) -> None:
        self._store = store
        self._tally = tally or Tally()
        self._path = os.path.join(path, "listings")
        self._list_s = list_s
        self._clock = clock
        self._memory = _Memory()
        os.makedirs(self._path, exist_ok=True)

    def of(
        self, series: Series, newer_than: StoreListing | None = None, *, after_s: float = -1.0
    ) -> StoreListing:
        """The listing of a series, at most `list_s` old unless the store is away.

        With `newer_than`, which was found to be wrong, the store is asked again. So it is where it
        was not asked after the unix second `after_s`.

        Raises:
            StoreError: the store is away, and the series was never listed.
        """
        if newer_than is not None:
            after_s = max(after_s, newer_than.listed_s)
        known = self._memory.get(series)
        if known is not None and self._is_good(known, after_s):
            return known
        with self._locked(series):
            kept = _last(self._read(series), known)
            if kept is not None and self._is_good(kept, after_s):
                self._memory.keep(series, kept)
                return kept
            try:
                listing = self._list(series)
                if kept is not None and _has_new_days(listing, kept):
                    # One that was put meanwhile may be listed with a file from before.
                    listing = self._list(series)
            except StoreError:
                if kept is None:
                    raise
                return StoreListing(kept.days, kept.entries, kept.listed_s, is_old=True)
            self._memory.keep(series, listing)
            return listing

    def noted(self, series: Series) -> dict[str, Entry] | None:
        """The files of a series as last listed, however long ago; asks nobody. None if never."""
        found = self._read(series)
        return None if found is None else found.entries

    def is_current(self, series: Series, listing: StoreListing) -> bool:
        """Whether `listing` is what `of` would give without asking the store."""
        return self._memory.get(series) is listing and self._is_good(listing, -1.0)

    def _list(self, series: Series) -> StoreListing:
        listed_s = self._clock()
        self._tally.add(slots.STORE_LISTINGS)
        prefix = "/".join(series)
        entries = {
            key[len(prefix) + 1 :]: entry
            for key, entry in self._store.files(prefix)
            if parse_file_name(key[len(prefix) + 1 :]) is not None
        }
        if entries:  # or names that nobody has could fill the disk
            with suppress(OSError):  # then memory has to do
                os.makedirs(os.path.dirname(self._path_of(series)), exist_ok=True)
            write_note(self._path_of(series), {"listed_s": listed_s, "entries": entries})
        return StoreListing(_days_of(entries), entries, listed_s)

    def _read(self, series: Series) -> StoreListing | None:
        found = read_note(self._path_of(series))
        if found is None:
            return None
        known = self._memory.get(series)
        if known is not None and known.listed_s == found["listed_s"]:
            return known
        entries = {name: Entry(*values) for name, values in found["entries"].items()}
        return StoreListing(_days_of(entries), entries, found["listed_s"])

    def _is_good(self, listing: StoreListing, after_s: float) -> bool:
        return listing.listed_s > after_s and is_young(
            listing.listed_s, self._clock(), self._list_s
        )

    def _path_of(self, series: Series) -> str:
        return os.path.join(self._path, series.exchange, series.symbol, f"{series.type}.json")

    @contextmanager
    def _locked(self, series: Series) -> Iterator[None]:
        """Hold off other threads and processes that would list the same series."""
        place = zlib.crc32("/".join(series).encode()) % 64
        # Names that nobody has make no files: a few locks serve all series.
        with locked(os.path.join(self._path, f".{place}.lock")):
            yield


def _has_new_days(listing: StoreListing, known: StoreListing) -> bool:
    """Whether a day has a `time`, which is put last, that it had not."""
    times = (name for name in listing.entries if name.startswith(f"{TIME_COLUMN}."))
    return any(listing.entries[name] != known.entries.get(name) for name in times)


def _last(one: StoreListing | None, other: StoreListing | None) -> StoreListing | None:
    """The later listing: a full disk keeps an old copy."""
    if one is None or (other is not None and other.listed_s > one.listed_s):
        return other
    return one


def _cost(listing: StoreListing) -> int:
    return len(listing.entries) + _NAMES_OF_NONE


def _days_of(entries: dict[str, Entry]) -> Listing:
    columns_by_day: defaultdict[int, list[str]] = defaultdict(list)
    for name in entries:
        parsed = parse_file_name(name)
        if parsed is not None:
            columns_by_day[parsed[1]].append(parsed[0])
    return Listing({day: frozenset(names) for day, names in columns_by_day.items()}, _NO_STAMP)
