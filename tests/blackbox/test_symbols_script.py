"""A script about symbols as a user would write it: http.client, json and nothing else."""

from __future__ import annotations

import http.client
import json
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.server import ForkedServer, RunningServer, write_column

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3_600
YEAR_2025_S = 1_738_281_600


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two exchanges; some symbols were written just now, some long ago."""
    root = tmp_path_factory.mktemp("data")
    now_s = int(time.time())
    modified = {
        "coinbase/BTC-USD/MD": now_s - 10,
        "coinbase/ETH-USD/MD": now_s - 2 * HOUR_S,
        "coinbase/ETH-USD/TRADES": now_s - 30,
        "coinbase/OLD-USD/MD": YEAR_2025_S,
        "binance/BTC-USD/MD": now_s - 3 * HOUR_S,
        "binance/tAAVE:USD/TRADES": now_s - 20,
    }
    for folder, modified_s in modified.items():
        path = f"{root}/{folder}/time.31.01.25.bin"
        write_column(path, [YEAR_2025_S], "I")
        os.utime(path, (modified_s, modified_s))
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """The command over that root."""
    with ForkedServer(root) as running:
        yield running


def fetch_symbols(server: RunningServer, exchange: str | None = None) -> dict[str, Any]:
    """What a user's script does."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    path = "/api/symbols" if exchange is None else f"/api/symbols?exchange={exchange}"
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    document: dict[str, Any] = json.load(response)
    connection.close()
    return document


def test_list_the_symbols(server: RunningServer) -> None:
    """Every symbol once and sorted; by exchange, with the newest first."""
    document = fetch_symbols(server)
    assert document["symbols"] == ["BTC-USD", "ETH-USD", "OLD-USD", "tAAVE:USD"]
    by_exchange = {
        exchange: [entry["symbol"] for entry in entries]
        for exchange, entries in document["exchanges"].items()
    }
    assert by_exchange == {
        "binance": ["tAAVE:USD", "BTC-USD"],
        "coinbase": ["BTC-USD", "ETH-USD", "OLD-USD"],
    }


def test_filter_by_exchange(server: RunningServer) -> None:
    """Only that exchange's symbols, in both lists."""
    document = fetch_symbols(server, "binance")
    assert document["symbols"] == ["BTC-USD", "tAAVE:USD"]
    assert list(document["exchanges"]) == ["binance"]


def test_unknown_exchange(server: RunningServer) -> None:
    """No error to handle: the lists are empty."""
    document = fetch_symbols(server, "mtgox")
    assert document == {"symbols": [], "exchanges": {"mtgox": []}}


def test_updated_in_the_last_hour(server: RunningServer) -> None:
    """`last_update` is unix seconds, so a script can compare it with its clock."""
    threshold_s = time.time() - HOUR_S
    recent = sorted(
        (exchange, entry["symbol"])
        for exchange, entries in fetch_symbols(server)["exchanges"].items()
        for entry in entries
        if entry["last_update"] >= threshold_s
    )
    assert recent == [("binance", "tAAVE:USD"), ("coinbase", "BTC-USD"), ("coinbase", "ETH-USD")]


def test_last_update_date_is_last_update_for_people(server: RunningServer) -> None:
    """Both say the same moment, in UTC."""
    for entries in fetch_symbols(server)["exchanges"].values():
        for entry in entries:
            date, clock, zone = entry["last_update_date"].split(" ")
            assert zone == "UTC"
            moment = datetime.fromisoformat(f"{date}T{clock}+00:00")
            assert moment.timestamp() == entry["last_update"]


def test_a_listed_symbol_can_be_asked_for(server: RunningServer) -> None:
    """From the list to the data: every name works once it is encoded."""
    for exchange, entries in fetch_symbols(server)["exchanges"].items():
        for entry in entries:
            name = "".join(f"%{byte:02x}" for byte in entry["symbol"].encode())
            for type_ in ("MD", "TRADES"):
                answer = server.get(
                    f"/api/data?exchange={exchange}&symbol={name}&type={type_}"
                    f"&start=0&end={YEAR_2025_S}&columns=time"
                )
                if answer.status == 404:
                    assert "type" in json.loads(answer.content)["detail"]
                    continue
                assert answer.content.endswith(YEAR_2025_S.to_bytes(4, "little"))


def test_a_symbol_written_now_moves_to_the_front(server: RunningServer, root: Path) -> None:
    """The list is true as of the request: a new record shows in the next one."""
    path = root / "coinbase" / "OLD-USD" / "MD" / "time.31.01.25.bin"
    old = os.stat(path)
    with open(path, "ab") as file:
        file.write(YEAR_2025_S.to_bytes(4, "little"))
    names = [
        entry["symbol"] for entry in fetch_symbols(server, "coinbase")["exchanges"]["coinbase"]
    ]
    assert names == ["OLD-USD", "BTC-USD", "ETH-USD"]
    os.truncate(path, old.st_size)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
