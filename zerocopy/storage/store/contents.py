"""What an object store has: the responses of /api/symbols and /api/catalog from its listings.

Owns no memory: the listings say how long they are believed. It blocks and is for threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from zerocopy.core.errors import StoreError, ZerocopyError
from zerocopy.core.layout import TIME_COLUMN, file_name
from zerocopy.storage.contents import type_contents
from zerocopy.storage.dayfile import TimeFile
from zerocopy.storage.store.fetching import StoredFile
from zerocopy.storage.store.objectstore import ObjectChangedError
from zerocopy.storage.symbols.walk import symbols_document
from zerocopy.storage.tree import Series, close_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.core.layout import Dtypes
    from zerocopy.storage.contents import SymbolContents, TypeContents
    from zerocopy.storage.store.fetching import Fetcher, StoredFiles
    from zerocopy.storage.store.listings import Listings, StoreListing
    from zerocopy.storage.store.names import StoreNames

_ATTEMPTS = 3


class StoreSymbols:
    """The responses of /api/symbols; see `SymbolIndex`."""

    def __init__(self, names: StoreNames) -> None:
        self._names = names
        self.walks = 0
        self.watched_directories = 0

    def documents(self, exchanges: Iterable[str | None]) -> dict[str | None, bytes | ZerocopyError]:
        """The response or the error of each exchange, None for all of them."""
        try:
            return {
                exchange: orjson.dumps(symbols_document(self._names.listed(exchange)))
                for exchange in exchanges
            }
        except ZerocopyError as error:
            return dict.fromkeys(exchanges, error)

    def maintain(self) -> None:
        """Nothing is watched."""

    def close(self) -> None:
        """Nothing is open."""


class StoreContents:
    """The document of /api/catalog; see `Contents`."""

    def __init__(
        self,
        listings: Listings,
        names: StoreNames,
        fetcher: Fetcher,
        files: StoredFiles,
        dtypes: Dtypes,
    ) -> None:
        self._listings = listings
        self._names = names
        self._fetcher = fetcher
        self._files = files
        self._dtypes = dtypes

    def of(self, exchange: str, symbol: str, type_: str | None = None) -> SymbolContents:
        """The document of all types or of one.

        Raises:
            NotFoundError: the exchange, the symbol or the type does not exist.
            StoreError: the store is away, and something that is needed is not here.
        """
        types: dict[str, TypeContents] = {}
        for name in self._names.types(exchange, symbol) if type_ is None else [type_]:
            found = self._series(Series(exchange, symbol, name))
            if found is not None:
                types[name] = found
        if not types:
            self._names.check(exchange, symbol, type_)
        return {"exchange": exchange, "symbol": symbol, "types": types}

    def _series(self, series: Series) -> TypeContents | None:
        wrong: StoreListing | None = None
        changed: Exception | None = None
        for _ in range(_ATTEMPTS):
            listing = self._listings.of(series, newer_than=wrong)
            if not listing.entries:
                return None
            try:
                first_s = self._first_time(series, listing, last=False)
                last_s = self._first_time(series, listing, last=True)
            except ObjectChangedError as error:
                wrong, changed = listing, error
                continue
            return type_contents(listing.days, self._dtypes, first_s, last_s)
        raise StoreError("the object store has other files than it lists; try again") from changed

    def _first_time(self, series: Series, listing: StoreListing, *, last: bool) -> int | None:
        days = listing.days.days
        for day in reversed(days) if last else days:
            if TIME_COLUMN not in listing.days.columns_of(day):
                continue
            entry = listing.entry(TIME_COLUMN, day)
            count = entry.size // 4
            if not count:
                continue
            name = file_name(TIME_COLUMN, day)
            wanted = StoredFile(self._files, series, name, entry, is_closed=False, lost=[])
            fd = self._fetcher.fetch(wanted)
            try:
                return TimeFile(fd, count).at(count - 1 if last else 0)
            finally:
                close_file(fd)
        return None
