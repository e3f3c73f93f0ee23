"""Which symbols exist and when each was last written: the response of /api/symbols.

Owns the walk over the whole root, through directory descriptors that follow no link, and the form
of the response. It blocks on the disk and so runs in threads. `watched.py` gets the same without a
walk if the kernel reports changes; the walk is what its tests compare it with.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.layout import is_name
from zerocopy.storage.tree import close_file, data_error, open_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEPTH_MAX = 8
"""Directories below a symbol that are searched; the layout needs one."""

FIRST_S, LAST_S = -62_135_596_800, 253_402_300_799
"""0001-01-01 00:00:00 and 9999-12-31 23:59:59 UTC."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class SymbolRecency(NamedTuple):
    """A symbol and the newest modification of a `.bin` below it, in unix seconds."""

    symbol: str
    last_update_s: int


IsSeen = Callable[[str, str | None, str | None], bool]
"""Whether an exchange, a symbol of it, or a type of that may be seen; see `core.access.Scope`."""


def list_symbols(
    root: str, exchange: str | None = None, is_seen: IsSeen | None = None
) -> dict[str, list[SymbolRecency]]:
    """Exchanges in order of name; in each its symbols, newest first, ties by name.

    Only `exchange` if it is given, with an empty list if it does not exist. Names that no query
    could spell, plain files, links, and symbols without any `.bin` are left out. With `is_seen`
    what is hidden is as if it were not there, and so is what lies in no type.

    Raises:
        DataError: the root or a directory below it cannot be read.
    """
    assert exchange is None or is_name(exchange), "whoever takes it from outside checks it"
    exchanges: dict[str, list[SymbolRecency]] = {} if exchange is None else {exchange: []}
    try:
        with open_root(root) as root_fd:
            for name in sorted(_directories(root_fd)) if exchange is None else [exchange]:
                if is_seen is not None and not is_seen(name, None, None):
                    continue
                fd = open_directory(name, root_fd)
                if fd is None:
                    continue
                try:
                    exchanges[name] = _list_exchange(fd, name, is_seen)
                finally:
                    close_file(fd)
    except OSError as error:
        raise data_error(error) from error
    return exchanges


def symbols_document(exchanges: dict[str, list[SymbolRecency]]) -> dict[str, object]:
    """The JSON object of /api/symbols, in the key order of the contract."""
    return {
        "symbols": sorted({entry.symbol for entries in exchanges.values() for entry in entries}),
        "exchanges": {
            exchange: [symbol_document(entry) for entry in entries]
            for exchange, entries in exchanges.items()
        },
    }


def symbol_document(entry: SymbolRecency) -> dict[str, object]:
    """The JSON object of one symbol, in the key order of the contract."""
    return {
        "symbol": entry.symbol,
        "last_update": entry.last_update_s,
        "last_update_date": f"{date_text(entry.last_update_s)} UTC",
    }


def date_text(time_s: int) -> str:
    """A unix second as a date with a year of four digits; beyond them the first or last one.

    A file system may keep any 64-bit number, and every writer of a file may set it.
    """
    year, month, day, hour, minute, second, *_ = time.gmtime(min(max(time_s, FIRST_S), LAST_S))
    return f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"


def _list_exchange(exchange_fd: int, exchange: str, is_seen: IsSeen | None) -> list[SymbolRecency]:
    entries = []
    for symbol in _directories(exchange_fd):
        if is_seen is not None and not is_seen(exchange, symbol, None):
            continue
        fd = open_directory(symbol, exchange_fd)
        if fd is None:
            continue
        try:
            if is_seen is None:
                newest_s = _newest_modification(fd, DEPTH_MAX)
            else:
                types = [name for name in _directories(fd) if is_seen(exchange, symbol, name)]
                newest_s = _newest_below(fd, types, DEPTH_MAX)
        finally:
            close_file(fd)
        if newest_s is not None:
            entries.append(SymbolRecency(symbol, newest_s))
    return sorted(entries, key=lambda entry: (-entry.last_update_s, entry.symbol))


def _directories(directory_fd: int) -> Iterator[str]:
    with os.scandir(directory_fd) as entries:
        names = [e.name for e in entries if is_name(e.name) and e.is_dir(follow_symlinks=False)]
    return iter(names)


def open_directory(name: str, parent_fd: int) -> int | None:
    """A descriptor of a directory, or None if it went away, is none, or is closed to us.

    `lost+found` is a legal name, and only root may look into it.
    """
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent_fd)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _newest_modification(directory_fd: int, depth: int) -> int | None:
    newest_s: int | None = None
    below = []
    with os.scandir(directory_fd) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            elif entry.name.endswith(".bin") and entry.is_file(follow_symlinks=False):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stat.S_ISREG(status.st_mode):
                    continue  # it was a file when its name was read
                modified_s = status.st_mtime_ns // 1_000_000_000
                newest_s = modified_s if newest_s is None else max(newest_s, modified_s)
    below_s = _newest_below(directory_fd, below, depth)
    if newest_s is None or below_s is None:
        return below_s if newest_s is None else newest_s
    return max(newest_s, below_s)


def _newest_below(directory_fd: int, names: Iterable[str], depth: int) -> int | None:
    newest_s: int | None = None
    for name in names if depth else ():
        fd = open_directory(name, directory_fd)
        if fd is None:
            continue
        try:
            found_s = _newest_modification(fd, depth - 1)
        finally:
            close_file(fd)
        if found_s is not None:
            newest_s = found_s if newest_s is None else max(newest_s, found_s)
    return newest_s
