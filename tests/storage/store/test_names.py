"""`StoreNames`: the names of a store, in the words and with the scopes of those on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.standin import error_reply
from tests.storage.store.bench import LIST_S, Clock, store_of
from zerocopy.core.errors import NotFoundError, StoreError
from zerocopy.storage.store.listings import Listings
from zerocopy.storage.store.names import StoreNames
from zerocopy.storage.symbols.names import LocalNames
from zerocopy.storage.symbols.walk import SymbolRecency
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

    from tests.standin import Standin

FILES = {
    "coinbase/A/MD/time.01.01.25.bin": 100,
    "coinbase/A/deep/er/time.01.01.25.bin": 300,
    "coinbase/B/MD/time.01.01.25.bin": 200,
    "coinbase/B/stray.bin": 250,
    "coinbase/C/MD/.hidden.bin": 900,
    "coinbase/D/MD/notes.txt": 900,
    "coinbase/stray.bin": 900,
    "kraken/A/MD/time.01.01.25.bin": 400,
    ".tmp/A/MD/time.01.01.25.bin": 900,
}


def names(bucket: Standin, path: Path, clock: Clock) -> StoreNames:
    """Those of one worker."""
    return StoreNames(store_of(bucket), str(path), LIST_S, clock)


def fill(bucket: Standin) -> None:
    """What lies there."""
    for name, modified_s in FILES.items():
        bucket.put(f"p/{name}", b"abcd", modified_s)


def test_symbols_are_those_of_every_key(bucket: Standin, tmp_path: Path) -> None:
    """Newest first, by the newest file at any depth; what no query could spell is left out."""
    bucket.page = 2
    fill(bucket)
    clock = Clock()
    known = names(bucket, tmp_path, clock)
    expected = {
        "coinbase": [SymbolRecency("A", 300), SymbolRecency("B", 250)],
        "kraken": [SymbolRecency("A", 400)],
    }
    assert known.listed() == expected
    assert known.listed("kraken") == {"kraken": expected["kraken"]}
    assert known.listed("none") == {"none": []}
    before = len(bucket.requests)
    assert names(bucket, tmp_path, clock).listed() == expected
    assert len(bucket.requests) == before


def test_scope_sees_what_it_would_see_on_disk(bucket: Standin, tmp_path: Path) -> None:
    """A hidden exchange, symbol or type is as if it were not there."""
    for name, modified_s in FILES.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"abcd")
        bucket.put(f"p/{name}", b"abcd", int(path.stat().st_mtime))
        assert modified_s
    stored, local = names(bucket, tmp_path, Clock()), LocalNames(str(tmp_path / "root"))
    for hidden in ("kraken", "A", "MD", "deep", "none"):
        for exchange in (None, "kraken", "coinbase"):

            def is_seen(*parts: str | None, hidden: str = hidden) -> bool:
                return hidden not in parts

            found, expected = (
                {
                    name: {entry.symbol for entry in entries}
                    for name, entries in each.listed(exchange, is_seen).items()
                }
                for each in (stored, local)
            )
            assert found == expected, (hidden, exchange)


@pytest.mark.parametrize(
    "asked", [("none",), ("none", "A"), ("coinbase", "none"), ("kraken", "A"), ("kraken",)]
)
def test_what_does_not_exist_is_said_in_the_words_of_files(
    bucket: Standin, tmp_path: Path, asked: tuple[str, ...]
) -> None:
    """Else the words would tell a hidden name from one that is not there."""
    fill(bucket)
    for name in FILES:
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
    said = []
    for each in (names(bucket, tmp_path, Clock()), LocalNames(str(tmp_path / "root"))):
        try:
            each.check(*asked)
            said.append("")
        except NotFoundError as error:
            said.append(error.detail)
    assert said[0] == said[1]


def test_names_that_nobody_has_are_asked_for_once(bucket: Standin, tmp_path: Path) -> None:
    """In `list_s`."""
    fill(bucket)
    clock = Clock()
    known = names(bucket, tmp_path, clock)
    for _ in range(3):
        with pytest.raises(NotFoundError, match="symbol none"):
            known.check("coinbase", "none")
    assert len(bucket.requests) == 2
    clock.now_s += LIST_S
    with pytest.raises(NotFoundError):
        known.check("coinbase", "none")
    assert len(bucket.requests) == 4


def test_last_names_hold_while_the_store_is_away(bucket: Standin, tmp_path: Path) -> None:
    """In this process and in the next; what was never asked is an error."""
    fill(bucket)
    clock = Clock()
    known = names(bucket, tmp_path, clock)
    expected = known.listed()
    assert known.types("coinbase", "A") == ["MD", "deep"]
    Listings(known._store, str(tmp_path), LIST_S, clock).of(Series("coinbase", "A", "MD"))
    clock.now_s += LIST_S
    bucket.fault = lambda _method, _key: error_reply(500, "InternalError")
    for each in (known, names(bucket, tmp_path, clock)):
        assert each.listed() == expected
        assert each.types("coinbase", "A") == ["MD"]
        with pytest.raises(StoreError):
            each.types("coinbase", "NEVER")
