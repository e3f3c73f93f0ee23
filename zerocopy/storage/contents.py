"""What a symbol has on disk: its types, their columns and days, and from when until when.

Owns the reading of that from listings and from the first and last record of `time`. It blocks on
the disk and so runs in threads. Nothing is kept but the listings, each of which is proved again.
"""

from __future__ import annotations

import datetime as dt
import os
from collections import Counter
from typing import TYPE_CHECKING, NotRequired, TypedDict

from zerocopy.core.errors import NotFoundError
from zerocopy.core.layout import TIME_COLUMN, file_name, is_name
from zerocopy.storage.catalog import Catalog
from zerocopy.storage.dayfile import TimeFile
from zerocopy.storage.tree import (
    Series,
    close_file,
    data_error,
    open_file,
    open_series,
    open_symbol,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.core.layout import Dtypes
    from zerocopy.storage.catalog import Listing

LISTED_NAMES_MAX = 500_000
"""File names of kept listings, some tens of MB: those of plans are kept by the planner."""

_ATTEMPTS = 3
"""How often a series is looked at anew if a file vanishes meanwhile."""

_EPOCH = dt.date(1970, 1, 1)


class ColumnContents(TypedDict):
    """A column; `days` only where not every day has it."""

    name: str
    dtype: str
    record_size: int
    days: NotRequired[int]


class TypeContents(TypedDict):
    """A type; times are unix seconds, days are ISO 8601."""

    columns: list[ColumnContents]
    days: int
    first_day: str
    last_day: str
    first_time: int | None
    last_time: int | None
    missing_days: list[str]


class SymbolContents(TypedDict):
    """The document of /api/catalog."""

    exchange: str
    symbol: str
    types: dict[str, TypeContents]


class Contents:
    """What the symbols below one data root have. Safe to use from several threads."""

    def __init__(self, root: str, dtypes: Dtypes) -> None:
        self._root = root
        self._dtypes = dtypes
        self._catalog = Catalog(LISTED_NAMES_MAX)

    def of(self, exchange: str, symbol: str, type_: str | None = None) -> SymbolContents:
        """The document of /api/catalog, of all types or of one, true as of this call.

        Raises:
            NotFoundError: the exchange, the symbol or the type does not exist.
            DataError: a directory or a file cannot be read.
        """
        types: dict[str, TypeContents] = {}
        for name in self._types(exchange, symbol) if type_ is None else [type_]:
            try:
                found = self._series(Series(exchange, symbol, name))
            except NotFoundError:
                if type_ is not None:
                    raise
                continue  # removed since it was listed
            except OSError as error:
                raise data_error(error) from error
            if found is not None:
                types[name] = found
        return {"exchange": exchange, "symbol": symbol, "types": types}

    def _types(self, exchange: str, symbol: str) -> list[str]:
        with open_symbol(self._root, exchange, symbol) as directory_fd:
            try:
                with os.scandir(directory_fd) as entries:
                    return sorted(
                        entry.name
                        for entry in entries
                        if is_name(entry.name) and entry.is_dir(follow_symlinks=False)
                    )
            except OSError as error:
                raise data_error(error) from error

    def _series(self, series: Series) -> TypeContents | None:
        """Read the contents of one type. Returns None if it has no day file.

        Raises:
            OSError: its directory cannot be read.
        """
        with open_series(self._root, series) as directory_fd:
            for attempt in range(1, _ATTEMPTS + 1):
                listing = self._catalog.listing(series, directory_fd)
                if not listing.days:
                    return None
                try:
                    first_s = _first_time(directory_fd, listing, listing.days, last=False)
                    last_s = _first_time(directory_fd, listing, reversed(listing.days), last=True)
                    break
                except FileNotFoundError:
                    if attempt == _ATTEMPTS:
                        raise
        return type_contents(listing, self._dtypes, first_s, last_s)


def type_contents(
    listing: Listing, dtypes: Dtypes, first_s: int | None, last_s: int | None
) -> TypeContents:
    """What a type has: from a listing that is not empty, and its first and last time."""
    first_day, last_day = listing.days[0], listing.days[-1]
    there = set(listing.days)
    return {
        "columns": _columns(listing, dtypes),
        "days": len(listing.days),
        "first_day": _iso(first_day),
        "last_day": _iso(last_day),
        "first_time": first_s,
        "last_time": last_s,
        "missing_days": [_iso(day) for day in range(first_day, last_day) if day not in there],
    }


def _columns(listing: Listing, dtypes: Dtypes) -> list[ColumnContents]:
    """Those that every day has, then those that some days have; `time` first, then by name."""
    days = Counter(column for day in listing.days for column in listing.columns_of(day))
    every: list[ColumnContents] = []
    some: list[ColumnContents] = []
    for column in sorted(days, key=lambda name: (name != TIME_COLUMN, name)):
        dtype = dtypes.of(column)
        told: ColumnContents = {"name": column, "dtype": dtype.name, "record_size": dtype.nbytes}
        if days[column] == len(listing.days):
            every.append(told)
        else:
            some.append({**told, "days": days[column]})
    return every + some


def _first_time(
    directory_fd: int, listing: Listing, days: Iterable[int], *, last: bool
) -> int | None:
    """The first time of the first of `days` that has a record, or its last; None without any.

    Raises:
        FileNotFoundError: a file vanished; the listing is out of date.
    """
    for day in days:
        if TIME_COLUMN not in listing.columns_of(day):
            continue
        fd, status = open_file(directory_fd, file_name(TIME_COLUMN, day))
        try:
            count = status.st_size // 4
            if count:
                return TimeFile(fd, count).at(count - 1 if last else 0)
        finally:
            close_file(fd)
    return None


def _iso(day: int) -> str:
    return (_EPOCH + dt.timedelta(day)).isoformat()
