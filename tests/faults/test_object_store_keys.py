"""A key sees of an object store what it sees of the same files; hidden is as if missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.stored import CLOSED_S, serving
from tests.server import ForkedServer
from tests.standin import standin
from tests.storage.trees import DAY, DAY_START_S, marks, put, u32
from zerocopy.access.keys import add_key
from zerocopy.core.access import Scope
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from pathlib import Path

SEEN = Series("coinbase", "BTC-USD", "MD")
SERIES = (
    SEEN,
    SEEN._replace(type="TRADES"),
    SEEN._replace(symbol="ETH-USD"),
    SEEN._replace(symbol="ONLY", type="TRADES"),
    SEEN._replace(exchange="kraken"),
)
MISSING = (
    SEEN._replace(type="NONE"),
    SEEN._replace(symbol="NONE"),
    SEEN._replace(exchange="none"),
    Series("none", "NONE", "NONE"),
)


def test_key_gets_the_same_answers_over_a_store_as_over_files(tmp_path: Path) -> None:
    """Bodies and statuses of data, catalog and symbols, of what is seen, hidden and missing."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    root, keys = tmp_path / "root", str(tmp_path / "keys")
    for series in SERIES:
        put(str(root), {"time": u32(DAY_START_S), "price": marks(1)}, DAY, series)
    scope = Scope(exchanges=("coinbase",), symbols=("BTC-*", "ONLY"), types=("MD",))
    fields = {"Authorization": f"Bearer {add_key(keys, 'narrow', scope=scope)}"}
    targets = ["/api/symbols", "/api/symbols?exchange=kraken", "/api/symbols?exchange=coinbase"]
    for exchange, symbol, type_ in (*SERIES, *MISSING):
        names = f"exchange={exchange}&symbol={symbol}"
        targets += [
            f"/api/data?{names}&type={type_}&start=0&end=4294967295&columns=price",
            f"/api/catalog?{names}",
            f"/api/catalog?{names}&type={type_}",
        ]
    with standin() as bucket:
        bucket.upload(root, "p/")
        for name, stored in list(bucket.objects.items()):
            bucket.put(name, stored.content, CLOSED_S)
        with (
            serving(bucket, tmp_path / "cache", ZEROCOPY_AUTH_KEYS_PATH=keys) as stored_server,
            ForkedServer(root, ZEROCOPY_AUTH_KEYS_PATH=keys) as local,
        ):
            assert stored_server.get(targets[0]).status == 401
            for target in targets:
                ours, theirs = (each.get(target, fields=fields) for each in (stored_server, local))
                assert ours.status == theirs.status, target
                if "last_update" not in theirs.content.decode():
                    assert ours.content == theirs.content, target
            listed = stored_server.get("/api/symbols", fields=fields)
            assert listed.content.startswith(b'{"symbols":["BTC-USD"],'), listed.content
            assert "private" in listed.fields["cache-control"]
