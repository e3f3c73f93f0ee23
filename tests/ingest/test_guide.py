"""The examples of docs/record.md, run as they stand, against a feed that breaks off."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from websockets.sync.server import serve

from tests.command_line import environment
from tests.faults.client import poll
from zerocopy.ingest import Recorder
from zerocopy.ingest.verifying.finding import PROBLEMS

if TYPE_CHECKING:
    from websockets.sync.server import ServerConnection

PAGE = Path(__file__).parents[2] / "docs" / "record.md"
AT_MS = 1_748_736_000_000
PART = 400


def block(language: str) -> str:
    """The first block of code in a language."""
    found = re.search(
        rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def column(folder: Path, name: str, dtype: str) -> list[float]:
    """The values of a column of 2025-06-01; none if there is no file yet."""
    path = folder / f"{name}.01.06.25.bin"
    found: list[float] = np.fromfile(path, dtype).tolist() if path.exists() else []
    return found


def test_the_recorder_of_a_feed_records_all_that_it_sends(tmp_path: Path) -> None:
    """Trades out of order by a second, a connection that breaks off, Ctrl-C: nothing is missing."""
    trades: list[dict[str, Any]] = [
        {"ts": AT_MS + at * 10 + (at % 3) * 700, "price": str(at), "size": "0.5", "side": "sell"}
        for at in range(3 * PART)
    ]
    # Pushes all others into the files: then all were received.
    trades.append({"ts": AT_MS + 60_000, "price": "9999", "size": "0.5", "side": "sell"})
    sent, is_over = 0, threading.Event()

    def feed(connection: ServerConnection) -> None:
        nonlocal sent
        some = trades[sent : sent + PART] if sent < 2 * PART else trades[sent:]
        for trade in some:
            connection.send(json.dumps(trade))
        sent += len(some)
        if sent >= len(trades):
            is_over.wait(30)  # the last connection stays open

    with serve(feed, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever).start()
        port = server.socket.getsockname()[1]
        root = tmp_path / "data"
        process = subprocess.Popen(
            [sys.executable, "-c", block("python"), f"ws://127.0.0.1:{port}", str(root)]
        )
        folder = root / "example" / "BTC-USD" / "TRADES"
        try:
            poll(lambda: len(column(folder, "time", "<u4")) == 3 * PART, "all trades but one", 30)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            is_over.set()
            server.shutdown()
    expected = sorted(trades, key=lambda trade: (int(trade["ts"]), int(trade["price"])))
    assert column(folder, "time", "<u4") == [each["ts"] // 1_000 for each in expected]
    assert column(folder, "nanos", "<u4") == [each["ts"] % 1_000 * 10**6 for each in expected]
    assert column(folder, "price", "<f4") == [float(each["price"]) for each in expected]
    assert column(folder, "side", "<u4") == [1] * len(expected)


@pytest.mark.skipif(find_spec("cryptofeed") is None, reason="not installed: cryptofeed")
def test_the_callback_of_cryptofeed_records_what_it_replays(tmp_path: Path) -> None:
    """Its own replay of messages of Binance, in the form in which it captures them."""
    product = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}
    steps = {"PRICE_FILTER": ("tickSize", "0.01"), "LOT_SIZE": ("stepSize", "0.001")}
    filters = [{"filterType": kind, name: step} for kind, (name, step) in steps.items()]
    products = json.dumps({"symbols": [{**product, "filters": filters}]})
    (tmp_path / "BINANCE.0").write_text(
        f"https://api.binance.com/api/v3/exchangeInfo -> 1.0: {products}\n"
        'configuration: {"trades": ["BTC-USDT"]}\n'
    )
    trades = [
        {
            "s": "BTCUSDT",
            "a": at,
            "p": f"{at}.50",
            "q": "0.25",
            "T": AT_MS + at * 700,
            "m": at % 2 > 0,
        }
        for at in range(40)
    ]
    messages = [
        json.dumps({"stream": "btcusdt@aggTrade", "data": each | {"e": "aggTrade"}})
        for each in trades
    ]
    lines = "".join(f"1748736000.1: {message}\n" for message in messages)
    (tmp_path / "BINANCE.ws.1.0").write_text(lines)
    replay = "\n".join(
        [
            block("py").replace('__name__ == "__main__"', "False"),
            "import sys",
            "from cryptofeed.raw_data_collection import playback",
            "config = {'log': {'filename': '/dev/null', 'level': 'WARNING'}}",
            "with recorder_of(sys.argv[1]) as recorder:",
            "    playback('BINANCE', sys.argv[2:], {TRADES: trades_into(recorder)}, config)",
        ]
    )
    captured = [str(tmp_path / name) for name in ("BINANCE.0", "BINANCE.ws.1.0")]
    command = [sys.executable, "-c", replay, str(tmp_path / "data"), *captured]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    folder = tmp_path / "data" / "binance" / "BTC-USDT" / "TRADES"
    assert column(folder, "time", "<u4") == [(AT_MS + at * 700) // 1_000 for at in range(40)]
    assert column(folder, "price", "<f4") == [at + 0.5 for at in range(40)]
    assert column(folder, "side", "<u4") == [at % 2 for at in range(40)]


def test_rows_on_a_pipe_are_recorded_as_the_page_says(tmp_path: Path) -> None:
    """The example of the shell, and what it prints."""
    command = block("sh").replace("zerocopy record", f"{sys.executable} -P -m zerocopy record")
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.strip() in PAGE.read_text("utf-8")
    for symbol, price, nanos in (("BTC-USD", 104_512.5, 123), ("ETH-USD", 2530.25, 456)):
        folder = tmp_path / "data" / "example" / symbol / "TRADES"
        assert column(folder, "price", "<f4") == [price]
        assert column(folder, "nanos", "<u4") == [nanos * 1_000_000]


def test_the_page_names_every_problem() -> None:
    """In its table, with the word of `--json`."""
    named = re.findall(r"^\| `([a-z-]+)` \| ", PAGE.read_text("utf-8"), re.MULTILINE)
    assert sorted(word for word in named if word in PROBLEMS) == sorted(PROBLEMS)


@pytest.mark.parametrize("name", ["unit", "nanos", "reorder_s", "future_s"])
def test_defaults_on_the_page_are_those_of_the_code(name: str) -> None:
    """In brackets behind the option."""
    default = inspect.signature(Recorder).parameters[name].default
    told = f'"{default}"' if isinstance(default, str) else str(default)
    assert f"`{name}` [{told}]" in PAGE.read_text("utf-8")
