"""/api/symbols over the wire: who is listed, in which order, and always as of the request."""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.contract.site import Site, serve, serve_all
from tests.storage.trees import append, marks, path_of, put, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.contract.transports import Transport
    from tests.server import RunningServer

BTC = Series("coinbase", "BTC-USD", "MD")
MODIFIED_S = 1_738_326_923


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """Two exchanges with three symbols, and much that is none."""
    root = str(tmp_path_factory.mktemp("market"))
    for number, names in enumerate(
        (
            BTC,
            ("coinbase", "ETH-USD", "MD"),
            ("coinbase", "ETH-USD", "TRADES"),
            ("kraken", "^X", "MD"),
        )
    ):
        for path in put(root, {"time": u32(1), "price": marks(1)}, series=Series(*names)).values():
            os.utime(path, (MODIFIED_S + number, MODIFIED_S + number))
    os.makedirs(os.path.join(root, "coinbase/EMPTY/MD"))
    os.makedirs(os.path.join(root, "nothing"))
    put(root, {"time": b""}, series=Series(".hidden", "X", "MD"))
    put(root, {"time": b""}, series=Series("coinbase", ".hidden", "MD"))
    put(root, {"time": b""}, series=Series("coinbase", "bad name", "MD"))
    os.symlink("BTC-USD", os.path.join(root, "coinbase/LINKED"))
    os.symlink("coinbase", os.path.join(root, "linked"))
    for plain in ("notes.bin", "coinbase/notes.bin", "coinbase/BTC-USD/MD/notes.txt"):
        with open(os.path.join(root, plain), "wb"):
            pass
    with serve_all(root) as server:
        yield root, server


@pytest.fixture
def market(transport: Transport, traded: tuple[str, RunningServer]) -> Site:
    """The server over it, by one transport."""
    return Site(*traded, transport)


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, RunningServer]]:
    """A root without exchanges, and its server."""
    root = str(tmp_path_factory.mktemp("nothing"))
    with serve_all(root) as server:
        yield root, server


def test_symbols_is_the_document_of_the_contract(market: Site) -> None:
    """Compact JSON: newest first inside an exchange, `symbols` sorted and unique."""
    answer = market.ask("/api/symbols")
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/json"
    assert answer.content == (
        b'{"symbols":["BTC-USD","ETH-USD","^X"],"exchanges":{"coinbase":['
        b'{"symbol":"ETH-USD","last_update":1738326925,'
        b'"last_update_date":"2025-01-31 12:35:25 UTC"},'
        b'{"symbol":"BTC-USD","last_update":1738326923,'
        b'"last_update_date":"2025-01-31 12:35:23 UTC"}],'
        b'"kraken":[{"symbol":"^X","last_update":1738326926,'
        b'"last_update_date":"2025-01-31 12:35:26 UTC"}],'
        b'"nothing":[]}}'
    )
    assert json.loads(answer.content) == market.expected_symbols()


@pytest.mark.parametrize(
    "exchange", ["coinbase", "kraken", "nothing", "nowhere", "notes.bin", "x" * 64]
)
def test_symbols_of_one_exchange(market: Site, exchange: str) -> None:
    """Only that one; an unknown one or a file gives empty lists and 200."""
    answer = market.ask(f"/api/symbols?exchange={exchange}")
    document = json.loads(answer.content)
    assert answer.status == 200
    assert list(document["exchanges"]) == [exchange]
    assert document == market.expected_symbols(exchange)


def test_symbols_of_an_unknown_exchange_are_empty_lists(market: Site) -> None:
    """The literal bytes; a link to an exchange is none."""
    for name in ("nowhere", "linked"):
        answer = market.ask(f"/api/symbols?exchange={name}&x=1")
        assert answer.status == 200
        assert answer.content == b'{"symbols":[],"exchanges":{"%s":[]}}' % name.encode()


def test_symbols_may_not_be_kept_by_caches(market: Site) -> None:
    """Always true as of the request means that no cache may answer in our place."""
    control = market.ask("/api/symbols").fields["cache-control"]
    assert "no-cache" in control or "no-store" in control


def test_symbols_follow_every_change_at_once(site: Site, series: Series) -> None:
    """Hundreds of touches, then an append, a new symbol and a removed one."""
    venue, symbol = f"venue-{series.symbol}", series.symbol
    path = put(site.root, {"time": u32(1)}, series=Series(venue, symbol, "MD"))["time"]
    with site.session() as session:

        def recency() -> dict[str, int]:
            document = json.loads(session.request(f"/api/symbols?exchange={venue}").content)
            assert document == site.expected_symbols(venue)
            return {entry["symbol"]: entry["last_update"] for entry in document["exchanges"][venue]}

        for modified_s in range(MODIFIED_S, MODIFIED_S + 300):
            os.utime(path, (modified_s, modified_s))
            assert recency()[symbol] == modified_s
        before_s = int(time.time()) - 1
        append(path, u32(2))
        assert before_s <= recency()[symbol] <= time.time()
        added = Series(venue, f"{symbol}-NEW", "TRADES")
        put(site.root, {"price": b""}, series=added)
        assert added.symbol in recency()
        os.unlink(path_of(site.root, "price", series=added))
        assert added.symbol not in recency()
        shutil.rmtree(os.path.join(site.root, venue, symbol))
        assert symbol not in recency()


def test_symbols_of_an_empty_root_are_empty(
    transport: Transport, nothing: tuple[str, RunningServer]
) -> None:
    """A root without exchanges is no error."""
    empty = Site(*nothing, transport)
    assert empty.ask("/api/symbols").content == b'{"symbols":[],"exchanges":{}}'


def test_symbols_are_walked_once(transport: Transport, tmp_path: Path) -> None:
    """Whatever is appended between requests: the root is read for the first of them only."""
    path = put(str(tmp_path), {"time": u32(1)}, series=BTC)["time"]
    with serve(transport, str(tmp_path)) as site:
        for second in range(5):
            os.utime(path, (MODIFIED_S + second, MODIFIED_S + second))
            assert json.loads(site.ask("/api/symbols").content) == site.expected_symbols()
        assert site.server.metric("zerocopy_symbol_walks_total") == 1
        assert site.server.metric("zerocopy_watched_directories") == 4
