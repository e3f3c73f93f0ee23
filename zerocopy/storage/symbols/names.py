"""Which exchanges and symbols there are, for who may see a part of them: under files, by a walk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zerocopy.storage.symbols.walk import list_symbols
from zerocopy.storage.tree import open_exchange, open_symbol

if TYPE_CHECKING:
    from zerocopy.storage.symbols.walk import IsSeen, SymbolRecency


class Names(Protocol):
    """What lists and looks up names; all calls block."""

    def listed(
        self, exchange: str | None = None, is_seen: IsSeen | None = None
    ) -> dict[str, list[SymbolRecency]]:
        """The symbols of all exchanges or of one; see `list_symbols`.

        Raises:
            DataError: they cannot be read.
            StoreError: the object store is away.
        """

    def check(self, exchange: str, symbol: str | None = None) -> None:
        """Assure that there is an exchange, and a symbol on it.

        Raises:
            NotFoundError: there is not; it says which of the two.
            DataError: that cannot be read.
            StoreError: the object store is away.
        """


class LocalNames:
    """The names below a data root."""

    def __init__(self, root: str) -> None:
        self._root = root

    def listed(
        self, exchange: str | None = None, is_seen: IsSeen | None = None
    ) -> dict[str, list[SymbolRecency]]:
        """See `Names`."""
        return list_symbols(self._root, exchange, is_seen)

    def check(self, exchange: str, symbol: str | None = None) -> None:
        """See `Names`."""
        if symbol is None:
            with open_exchange(self._root, exchange):
                return
        with open_symbol(self._root, exchange, symbol):
            return
