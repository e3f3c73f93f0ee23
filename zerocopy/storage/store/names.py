"""Which exchanges, symbols and types the store has; the `Names` of an object store.

Owns the listing of everything that /api/symbols needs, and answers to whether a name exists. Both
are believed as long as any listing. The first is shared by workers and outlives them.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict, defaultdict
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core import counters as slots
from zerocopy.core.errors import NotFoundError, StoreError
from zerocopy.core.layout import is_name
from zerocopy.storage.store.notes import is_young, locked, read_note, write_note
from zerocopy.storage.store.tally import Tally
from zerocopy.storage.symbols.walk import SymbolRecency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zerocopy.storage.store.objectstore import Entry, ObjectStore
    from zerocopy.storage.symbols.walk import IsSeen

FOLDERS_KEPT = 10_000
"""Answers about folders that are kept: those about names that nobody has are many."""

_DEPTH_MIN, _DEPTH_MAX = 2, 10
"""Parts of a key below an exchange that counts for /api/symbols, as deep as a walk goes."""

_NS_PER_S = 1_000_000_000

Newest = dict[str, dict[str, dict[str, int]]]
"""The newest second of each exchange, symbol and type; "" is what lies in no type."""


class _Everything(NamedTuple):
    listed_s: float
    newest: Newest


class StoreNames:
    """The names of `store`, with a copy below `path`. Safe to use from several threads."""

    def __init__(
        self,
        store: ObjectStore,
        path: str,
        list_s: float,
        clock: Callable[[], float] = time.time,
        tally: Tally | None = None,
    ) -> None:
        self._store = store
        self._path = os.path.join(path, "listings")
        self._list_s = list_s
        self._clock = clock
        self._tally = tally or Tally()
        self._folders: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()
        self._everything: _Everything | None = None
        os.makedirs(self._path, exist_ok=True)

    def listed(
        self, exchange: str | None = None, is_seen: IsSeen | None = None
    ) -> dict[str, list[SymbolRecency]]:
        """The symbols of all exchanges or of one; see `Names`.

        The whole store is listed for it: a request for each 1,000 files, every `list_s` at most.

        Raises:
            StoreError: the store is away, and was never listed.
        """
        newest = self._all()
        found: dict[str, list[SymbolRecency]] = {} if exchange is None else {exchange: []}
        for name in sorted(newest) if exchange is None else [exchange]:
            if is_seen is not None and not is_seen(name, None, None):
                continue
            entries = []
            for symbol, types in newest.get(name, {}).items():
                seen = [
                    newest_s
                    for type_, newest_s in types.items()
                    if is_seen is None or (type_ and is_seen(name, symbol, type_))
                ]
                if seen:
                    entries.append(SymbolRecency(symbol, max(seen)))
            found[name] = sorted(entries, key=lambda each: (-each.last_update_s, each.symbol))
        return found

    def check(self, exchange: str, symbol: str | None = None, type_: str | None = None) -> None:
        """Assure that there is an exchange, a symbol on it, and a type of that; see `Names`.

        Raises:
            NotFoundError: there is not; it says which of them.
            StoreError: the store is away, and nobody asked before.
        """
        above = ""
        for field, name in (("exchange", exchange), ("symbol", symbol), ("type", type_)):
            if name is None:
                return
            above = f"{above}/{name}".lstrip("/")
            if not self._folder(above, self._has):
                raise NotFoundError(f"{field} {name}: does not exist")

    def types(self, exchange: str, symbol: str) -> list[str]:
        """The types of a symbol; none if there is no such symbol.

        Raises:
            StoreError: the store is away, and none of them was ever listed.
        """
        try:
            names = self._folder(f"{exchange}/{symbol}/", self._store.folders)
        except StoreError:
            names = self._types_listed(exchange, symbol)
            if not names:
                raise
        return [name for name in names if is_name(name)]

    def _folder(self, folder: str, ask: Callable[[str], list[str]]) -> list[str]:
        """What `ask` answers about a folder, or has answered not long ago."""
        now_s = self._clock()
        listed_s, found = self._folders.get(folder, (-1.0, []))
        if listed_s >= 0 and is_young(listed_s, now_s, self._list_s):
            return found
        self._tally.add(slots.STORE_LISTINGS)
        found = ask(folder.rstrip("/"))
        self._folders[folder] = now_s, found
        while len(self._folders) > FOLDERS_KEPT:
            self._folders.popitem(last=False)
        return found

    def _has(self, folder: str) -> list[str]:
        """One file in a folder, or none."""
        return list(islice(self._store.names(folder), 1))

    def _all(self) -> Newest:
        known = self._everything
        if known is not None and is_young(known.listed_s, self._clock(), self._list_s):
            return known.newest
        path = os.path.join(self._path, ".symbols.json")
        with locked(f"{path}.lock"):
            note = read_note(path)
            kept = known if note is None else _Everything(note["listed_s"], note["newest"])
            if kept is None or not is_young(kept.listed_s, self._clock(), self._list_s):
                listed_s = self._clock()
                self._tally.add(slots.STORE_LISTINGS)
                try:
                    kept = _Everything(listed_s, _newest(self._store.files()))
                except StoreError:
                    if kept is None:
                        raise
                    return kept.newest
                write_note(path, {"listed_s": listed_s, "newest": kept.newest})
            self._everything = kept
            return kept.newest

    def _types_listed(self, exchange: str, symbol: str) -> list[str]:
        """The types of which there is a listing below the cache."""
        try:
            names = os.listdir(os.path.join(self._path, exchange, symbol))
        except OSError:
            return []
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def _newest(found: Iterator[tuple[str, Entry]]) -> Newest:
    newest: defaultdict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for key, entry in found:
        exchange, *rest = key.split("/")
        if not _DEPTH_MIN <= len(rest) <= _DEPTH_MAX or not is_name(exchange):
            continue
        symbol, *between, name = rest
        if not is_name(symbol) or not name.endswith(".bin"):
            continue
        if any(part.startswith(".") for part in rest[1:]):
            continue
        types = newest[exchange].setdefault(symbol, {})
        type_ = between[0] if between else ""
        types[type_] = max(types.get(type_, 0), entry.modified_ns // _NS_PER_S)
    return newest
