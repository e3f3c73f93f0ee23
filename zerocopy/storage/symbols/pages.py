"""The JSON of /api/symbols, kept in pieces: a change of one symbol writes one piece anew.

Owns the bytes of each symbol, of each exchange and of the whole, and their order. It must never
know where the times come from. The bytes are those of `symbols_document`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from zerocopy.storage.symbols.walk import SymbolRecency, symbol_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class _Listing:
    """One exchange: its symbols, newest first, ties by name."""

    def __init__(self) -> None:
        # (-last_update, symbol, JSON): the order of tuples is that of the response.
        self._entries: list[tuple[int, str, bytes]] = []
        self._by_symbol: dict[str, tuple[int, str, bytes]] = {}
        self.page = b"[]"

    def symbols(self) -> Iterable[str]:
        """The symbols, in no order."""
        return self._by_symbol.keys()

    def update(self, latest_s: Mapping[str, int | None]) -> tuple[bool, bool]:
        """Take the times of some symbols, None for one that is gone.

        Returns whether the page has changed, and whether the set of symbols has.
        """
        by_symbol, count = self._by_symbol, len(self._by_symbol)
        leaving: set[str] = set()
        arriving = []
        is_new = False
        for symbol, last_update_s in latest_s.items():
            entry = by_symbol.get(symbol)
            known_s = None if entry is None else -entry[0]
            if known_s == last_update_s:
                continue
            leaving.add(symbol)
            if last_update_s is None:
                del by_symbol[symbol]
            else:
                is_new = is_new or entry is None
                json = orjson.dumps(symbol_document(SymbolRecency(symbol, last_update_s)))
                by_symbol[symbol] = (-last_update_s, symbol, json)
                arriving.append(by_symbol[symbol])
        if not leaving:
            return False, False
        kept = [entry for entry in self._entries if entry[1] not in leaving]
        # Timsort takes what was in order as one run: this is nearly linear.
        self._entries = sorted(kept + sorted(arriving))
        self.page = b"[%b]" % b",".join([json for _, _, json in self._entries])
        return True, is_new or len(by_symbol) != count


class SymbolPages:
    """The responses for all exchanges and for each, from the times of their symbols."""

    def __init__(self) -> None:
        self._listings: dict[str, _Listing] = {}
        self._symbols = b"[]"
        self._whole = b'{"symbols":[],"exchanges":{}}'
        self._is_whole_old = False

    def update(self, exchange: str, latest_s: Mapping[str, int | None]) -> None:
        """Take the times of some symbols of an exchange, None for one that is gone."""
        listing = self._listings.get(exchange)
        if listing is None:
            listing = self._listings[exchange] = _Listing()
            self._is_whole_old = True
        has_changed, has_other_symbols = listing.update(latest_s)
        if has_other_symbols:
            self._symbols = b""
        self._is_whole_old = self._is_whole_old or has_changed

    def replace(self, exchange: str, latest_s: Mapping[str, int | None] | None) -> None:
        """Take all symbols of an exchange, or None if there is no such exchange any more."""
        if self._listings.pop(exchange, None) is not None:
            self._symbols, self._is_whole_old = b"", True
        if latest_s is not None:
            self.update(exchange, latest_s)

    def document(self, exchange: str | None) -> bytes:
        """The response for all exchanges, or for one, which need not exist."""
        if exchange is not None:
            listing = self._listings.get(exchange)
            symbols, page = (
                (b"[]", b"[]")
                if listing is None
                else (orjson.dumps(sorted(listing.symbols())), listing.page)
            )
            return b'{"symbols":%b,"exchanges":{"%b":%b}}' % (symbols, exchange.encode(), page)
        if self._is_whole_old:
            self._whole = self._write()
            self._is_whole_old = False
        return self._whole

    def _write(self) -> bytes:
        if not self._symbols:
            listings = self._listings.values()
            names = set().union(*(listing.symbols() for listing in listings))
            self._symbols = orjson.dumps(sorted(names))
        # Names of exchanges need no escapes in JSON; see is_name.
        pages = [b'"%b":%b' % (e.encode(), self._listings[e].page) for e in sorted(self._listings)]
        return b'{"symbols":%b,"exchanges":{%b}}' % (self._symbols, b",".join(pages))
