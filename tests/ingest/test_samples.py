"""Real files of exchanges and vendors: the day files, /api/data and /api/bars equal the source."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from tests.ingest.by_hand import SAMPLES, Row, csv_rows, files_of, found_in, import_, ns_of
from tests.naive_bars import naive_bars_answer
from tests.server import ForkedServer, RunningServer
from tests.table import case

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
pytestmark = pytest.mark.skipif(
    not SAMPLES, reason="the samples lie beside the project, and are not here"
)

KLINES = "open_time,open,high,low,close,volume,close_time,quote,count,base,taker,ignore"


class Sample(NamedTuple):
    """A file, what to type for it, and what must come of it, found by hand."""

    name: str
    arguments: tuple[str, ...]
    series: tuple[str, str, str]
    rows: list[Row]
    nanos: bool = True


def klines(name: str, per_s: int) -> list[Row]:
    """Binance's candles."""
    columns = ("open", "high", "low", "close", "volume", "count")
    return [
        Row(ns_of(row["open_time"], per_s), {column: row[column] for column in columns})
        for row in csv_rows(os.path.join(SAMPLES, name), KLINES)
    ]


@cache
def samples() -> list[Sample]:
    """Each file of the folder."""
    ada = "binance-spot-klines-ADABTC-1m-2021-11-27.csv"
    doge = "binance-spot-klines-DOGEUSDT-1s-2025-01-01.csv"
    agg = "binance-um-aggTrades-BTCUSDT-2023-05.csv"
    parquet = "binance-BTCUSDT-trades.parquet"
    trades, quotes = "tardis-trades-bitmex-XBTUSD.csv", "tardis-quotes-huobi-BTC-USD.csv"
    truefx, cme = "truefx-USDJPY-ticks.csv", "cme-6EH4-1min-bars.csv.gz"
    agg_rows = [
        Row(
            ns_of(row["transact_time"], 1000),
            {
                "price": row["price"],
                "size": row["quantity"],
                "side": int(row["is_buyer_maker"] == "true"),
            },
        )
        for row in csv_rows(os.path.join(SAMPLES, agg))
    ]
    parquet_rows = [
        Row(
            int(row["timestamp"].timestamp() * 1000 + 0.5) * 1_000_000,
            {
                "price": row["price"],
                "size": row["quantity"],
                "side": int(row["buyer_maker"] == "True"),
            },
        )
        for row in pq.read_table(os.path.join(SAMPLES, parquet)).to_pylist()
    ]
    trade_rows = [
        Row(
            ns_of(row["timestamp"], 10**6),
            {"price": row["price"], "size": row["amount"], "side": int(row["side"] == "sell")},
        )
        for row in csv_rows(os.path.join(SAMPLES, trades))
    ]
    theirs = {"best_bid": "bid_price", "best_ask": "ask_price"}
    theirs |= {"bid_size": "bid_amount", "ask_size": "ask_amount"}
    quote_rows = [
        Row(ns_of(row["timestamp"], 10**6), {ours: row[name] for ours, name in theirs.items()})
        for row in csv_rows(os.path.join(SAMPLES, quotes))
    ]
    truefx_rows = [
        Row(
            micros(row["timestamp"]) * 1000,
            {"best_bid": float(row["bid"]), "best_ask": float(row["ask"])},
        )
        for row in csv_rows(os.path.join(SAMPLES, truefx))
    ]
    with gzip.open(os.path.join(SAMPLES, cme), "rt", encoding="utf-8") as file:
        lines = [line.strip().split(",") for line in file][1:]
    bars = ("open", "high", "low", "close", "volume")
    cme_rows = [
        Row(micros(f"{line[0]}+00:00") * 1000, dict(zip(bars, map(float, line[1:]), strict=True)))
        for line in lines
    ]
    maps = tuple(f"--map={name}={name}" for name in bars)
    mapped = ("--exchange=cme", "--type=BARS", *maps)
    klines_ = ("--preset=binance-klines",)
    return [
        Sample(ada, klines_, ("binance", "ADABTC", "BARS"), klines(ada, 1000), nanos=False),
        Sample(doge, klines_, ("binance", "DOGEUSDT", "BARS"), klines(doge, 10**6), nanos=False),
        Sample(agg, ("--preset=binance-aggtrades",), ("binance", "BTCUSDT", "TRADES"), agg_rows),
        Sample(
            parquet,
            ("--preset=binance-trades", "--exchange=parquet"),
            ("parquet", "BTCUSDT", "TRADES"),
            parquet_rows,
        ),
        Sample(trades, ("--preset=tardis-trades",), ("bitmex", "XBTUSD", "TRADES"), trade_rows),
        Sample(quotes, ("--preset=tardis-quotes",), ("huobi-dm-swap", "BTC-USD", "MD"), quote_rows),
        Sample(truefx, ("--preset=truefx",), ("truefx", "USDJPY", "MD"), truefx_rows),
        Sample(cme, mapped, ("cme", "6EH4", "BARS"), cme_rows),
    ]


def micros(text: str) -> int:
    """Unix microseconds of ISO 8601, exactly."""
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds


@pytest.fixture(scope="module", name="root")
def fixture_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root into which each sample has been imported, as a user would."""
    root = tmp_path_factory.mktemp("samples")
    for sample in samples():
        done = import_(root, os.path.join(SAMPLES, sample.name), *sample.arguments)
        assert (done.code, done.err) == (0, ""), sample.name
    return root


@pytest.fixture(scope="module", name="server")
def fixture_server(root: Path) -> Iterator[RunningServer]:
    """One server for all of them."""
    with ForkedServer(root, USE_TLS="false") as server:
        yield server


def test_day_files_equal_a_conversion_by_hand(root: Path) -> None:
    """Value for value, and nothing besides."""
    for sample in samples():
        with case(sample.name):
            assert len(sample.rows) > 2
            assert found_in(root, *sample.series) == files_of(sample.rows, nanos=sample.nanos)


def test_server_answers_with_the_values_of_the_source(root: Path, server: RunningServer) -> None:
    """/api/data has each row's values in order; /api/bars are those of a naive count."""
    for sample in samples():
        with case(sample.name):
            check_answers(root, server, sample)


def check_answers(root: Path, server: RunningServer, sample: Sample) -> None:
    """Of one file."""
    exchange, symbol, type_ = sample.series
    ordered = sorted(sample.rows, key=lambda row: row.ns)
    name = next(iter(ordered[0].values))
    series = f"symbol={symbol}&type={type_}&exchange={exchange}&start=0&end=4294967295"
    answer = server.get(f"/api/data?{series}&columns=time,{name}")
    header, _, body = answer.content.partition(b"\n")
    assert [each["num_records"] for each in json.loads(header)["columns"]] == [len(ordered)] * 2
    times, values = np.split(np.frombuffer(body, "<u4"), 2)
    assert times.tolist() == [row.ns // 10**9 for row in ordered]
    wanted = np.array([float(row.values[name]) for row in ordered], "<f4")
    assert values.view("<f4").tolist() == wanted.tolist()
    bars = server.get(f"/api/bars?{series}&columns={name}&interval=1h").content
    assert bars == naive_bars_answer(
        str(root), *sample.series, 0, 4_294_967_295, f"{name}:ohlc", "1h"
    )
