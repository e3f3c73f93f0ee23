"""Documents that are cut as text: the same as cutting what they mean."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.core.access import Scope
from zerocopy.service.guard.scoped import cut_catalog, cut_symbols
from zerocopy.storage.symbols.walk import SymbolRecency, symbols_document

NAMES = st.sampled_from(["A", "BTC-USD", "BTC-EUR", "tAAVE:USD", "^GSPC", "a&b=c#~@+", "symbol"])
ENTRIES = st.builds(SymbolRecency, NAMES, st.integers(-9, 2**40))
LISTED = st.dictionaries(NAMES, st.lists(ENTRIES, unique_by=lambda entry: entry.symbol))
PATTERNS = st.lists(
    st.sampled_from(["*", "A", "BTC-*", "t*", "^*", "none", "s?mbol"]), min_size=1, max_size=3
).map(tuple)


def naive(document: Any, scope: Scope, asked: str | None) -> Any:
    """What the document means, cut by hand."""
    exchanges = {
        exchange: [entry for entry in listed if scope.allows(exchange, entry["symbol"])]
        for exchange, listed in document["exchanges"].items()
        if scope.allows(exchange) or exchange == asked
    }
    names = {entry["symbol"] for listed in exchanges.values() for entry in listed}
    return {"symbols": sorted(names), "exchanges": exchanges}


@given(LISTED, PATTERNS, PATTERNS, st.none() | NAMES)
def test_symbols_are_cut_as_what_they_mean(
    listed: dict[str, list[SymbolRecency]],
    exchanges: tuple[str, ...],
    symbols: tuple[str, ...],
    asked: str | None,
) -> None:
    """Byte for byte what would be written of what may be seen."""
    document = symbols_document(listed)
    scope = Scope(exchanges, symbols)
    cut = cut_symbols(orjson.dumps(document), scope, asked)
    assert cut == orjson.dumps(naive(document, scope, asked))


@each("types", [(), ("MD",), ("MD", "TRADES")])
def test_catalog_is_cut_by_types(types: tuple[str, ...]) -> None:
    """All else stays as it is."""
    document = {"exchange": "e", "symbol": "s", "types": {name: {"days": 1} for name in types}}
    cut = orjson.loads(cut_catalog(orjson.dumps(document), Scope(types=("M*",))))
    assert cut == {**document, "types": {name: {"days": 1} for name in types if name == "MD"}}
