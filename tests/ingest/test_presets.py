"""Each preset over a made file of its kind: the day files equal the rows, read by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.ingest.by_hand import Row, files_of, found_in, import_

if TYPE_CHECKING:
    from pathlib import Path

MS, US = 10**6, 10**3
T = 1_735_689_600_000  # 2025-01-01 in milliseconds


class Made(NamedTuple):
    """A file: its name, its preset, its text, and what must come of it."""

    name: str
    preset: str
    text: str
    series: tuple[str, str, str]
    rows: list[Row]
    options: tuple[str, ...] = ()
    nanos: bool = True


def kline(ns: int, price: str, volume: str, count: int) -> Row:
    """A candle of one price."""
    prices = dict.fromkeys(("open", "high", "low", "close"), price)
    return Row(ns, {**prices, "volume": volume, "count": count})


def trade(ns: int, price: str, size: str, side: int) -> Row:
    """A trade."""
    return Row(ns, {"price": price, "size": size, "side": side})


def quote(ns: int, bid: str, ask: str, *sizes: str) -> Row:
    """The best prices, and how much there is where that is told."""
    told = dict(zip(("bid_size", "ask_size"), sizes, strict=False))
    return Row(ns, {"best_bid": bid, "best_ask": ask, **told})


def level(ns: int, side: int, price: str, size: str) -> Row:
    """A level of an order book."""
    return Row(ns, {"side": side, "price": price, "size": size})


MADE = [
    Made(
        "ETHUSDT-1m-2025-01.csv",
        "binance-klines",
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
        "taker_buy_quote_volume,ignore\n"
        f"{T},1.5,1.5,1.5,1.5,10,{T + 59_999},15,3,1,1,0\n"
        f"{T + 60_000},2.5,2.5,2.5,2.5,20,{T + 119_999},50,4,1,1,0\n",
        ("binance", "ETHUSDT", "BARS"),
        [kline(T * MS, "1.5", "10", 3), kline((T + 60_000) * MS, "2.5", "20", 4)],
        nanos=False,
    ),
    Made(
        "BTCUSDT_PERP-trades-2025-01-01.csv",
        "binance-trades",
        f"1,100.5,2,201,{T + 7},true\n2,100.25,1,100,{T + 8},false\n",
        ("binance-cm", "BTCUSDT_PERP", "TRADES"),
        [trade((T + 7) * MS, "100.5", "2", 1), trade((T + 8) * MS, "100.25", "1", 0)],
        options=("--exchange=binance-cm",),
    ),
    Made(
        "LTCUSDT-trades-2025-01-01.csv",
        "binance-trades",
        f"1,100.5,2,201,{T}000007,True,True\n2,100.25,1,100,{T}000008,False,True\n",
        ("binance", "LTCUSDT", "TRADES"),
        [trade(T * MS + 7, "100.5", "2", 1), trade(T * MS + 8, "100.25", "1", 0)],
        options=("--time=time:ns",),
    ),
    Made(
        "BNBUSDT-aggTrades-2025-01.csv",
        "binance-aggtrades",
        f"5,0.5,7,1,2,{T}001,TRUE,TRUE\n6,0.25,8,3,3,{T}002,FALSE,TRUE\n",
        ("binance", "BNBUSDT", "TRADES"),
        [trade(T * MS + US, "0.5", "7", 1), trade(T * MS + 2 * US, "0.25", "8", 0)],
    ),
    Made(
        "SOLUSDT-bookTicker-2025-01-01.csv",
        "binance-booktickers",
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,"
        f"event_time\n9,10.5,1,11.5,2,{T + 1},{T + 3}\n10,10.25,3,11.25,4,{T + 2},{T + 3}\n",
        ("binance", "SOLUSDT", "MD"),
        [
            quote((T + 1) * MS, "10.5", "11.5", "1", "2"),
            quote((T + 2) * MS, "10.25", "11.25", "3", "4"),
        ],
    ),
    Made(
        "made.csv",
        "tardis-trades",
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        f"deribit,BTC-PERPETUAL,{T}000,{T}009,a,buy,100.5,10\n"
        f"deribit,BTC-PERPETUAL,{T}001,{T}008,b,sell,100.25,20\n",
        ("deribit", "BTC-PERPETUAL", "TRADES"),
        [trade(T * MS, "100.5", "10", 0), trade(T * MS + US, "100.25", "20", 1)],
    ),
    Made(
        "made.csv",
        "tardis-quotes",
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount\n"
        f"ftx,BTC-PERP,{T}000,{T}009,1,11.5,10.5,2\nftx,BTC-PERP,{T}001,{T}009,,,10.25,4\n",
        ("ftx", "BTC-PERP", "MD"),
        [
            quote(T * MS, "10.5", "11.5", "2", "1"),
            quote(T * MS + US, "10.25", "nan", "4", "nan"),
        ],
    ),
    Made(
        "made.csv",
        "tardis-book",
        "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,"
        "bids[0].amount,asks[1].price,asks[1].amount,bids[1].price,bids[1].amount\n"
        f"okex,X-Y,{T}000,{T}009,11,1,10,2,12,3,9,4\nokex,X-Y,{T}001,{T}009,11,5,10,6,,,9,8\n",
        ("okex", "X-Y", "BOOK"),
        [
            *(level(T * MS, 0, "10", "2"), level(T * MS, 0, "9", "4")),
            *(level(T * MS, 1, "11", "1"), level(T * MS, 1, "12", "3")),
            *(level(T * MS + US, 0, "10", "6"), level(T * MS + US, 0, "9", "8")),
            level(T * MS + US, 1, "11", "5"),
        ],
    ),
    Made(
        "made.csv",
        "tardis-book",
        "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
        f"okex,X-Z,{T}000,{T}009,true,bid,10,2\nokex,X-Z,{T}001,{T}009,false,ask,11,0\n",
        ("okex", "X-Z", "BOOK"),
        [level(T * MS, 0, "10", "2"), level(T * MS + US, 1, "11", "0")],
    ),
    Made(
        "made.csv",
        "databento",
        "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,"
        "ts_in_delta,sequence,symbol\n"
        f"{T}000009,{T}000001,0,1,5,T,A,0,100500000000,7,0,0,1,ESH5\n"
        f"{T}000009,{T}000002,0,1,5,T,B,0,100.250000000,8,0,0,2,ESH5\n",
        ("cme", "ESH5", "TRADES"),
        [trade(T * MS + 1, "100.5", "7", 1), trade(T * MS + 2, "100.25", "8", 0)],
        options=("--exchange=cme",),
    ),
    Made(
        "made.csv",
        "databento",
        "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,"
        "ts_in_delta,sequence,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,symbol\n"
        f"{T}000009,{T}000001,1,1,5,A,B,0,10,7,0,0,1,10500000000,11500000000,1,2,1,1,ESM5\n"
        f"{T}000009,{T}000002,1,1,5,A,B,0,10,7,0,0,1,{2**63 - 1},11250000000,0,4,1,1,ESM5\n",
        ("cme", "ESM5", "MD"),
        [
            quote(T * MS + 1, "10.5", "11.5", "1", "2"),
            quote(T * MS + 2, "nan", "11.25", "0", "4"),
        ],
        options=("--exchange=cme",),
    ),
    Made(
        "made.csv",
        "databento",
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol\n"
        "2025-01-01T00:00:00.000000000Z,33,1,5,1.500000000,2.500000000,0.500000000,"
        "1.250000000,9,NQH5\n",
        ("cme", "NQH5", "BARS"),
        [Row(T * MS, {"open": "1.5", "high": "2.5", "low": "0.5", "close": "1.25", "volume": "9"})],
        options=("--exchange=cme",),
        nanos=False,
    ),
    Made(
        "EURUSD-2025-01.csv",
        "truefx",
        "EUR/USD,20250101 00:00:00.123,1.03125,1.0625\nEUR/USD,20250101 00:00:01.000,1.125,1.25\n",
        ("truefx", "EURUSD", "MD"),
        [quote((T + 123) * MS, "1.03125", "1.0625"), quote((T + 1000) * MS, "1.125", "1.25")],
    ),
    Made(
        "DAT_ASCII_EURUSD_T_202407.csv",
        "histdata",
        # Midsummer, and still five hours behind UTC.
        "20240701 000000660,1.03125,1.0625,0\n20240701 000001000,1.125,1.25,0\n",
        ("histdata", "EURUSD", "MD"),
        [
            quote(1_719_810_000_660 * MS, "1.03125", "1.0625"),
            quote(1_719_810_001_000 * MS, "1.125", "1.25"),
        ],
    ),
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: f"{made.preset}-{made.series[1]}")
def test_preset_gives_what_its_file_says(tmp_path: Path, made: Made) -> None:
    """Value for value."""
    file = tmp_path / made.name
    file.write_text(made.text, encoding="utf-8")
    root = tmp_path / "root"
    done = import_(root, file, f"--preset={made.preset}", *made.options)
    assert (done.code, done.err) == (0, "")
    assert found_in(root, *made.series) == files_of(made.rows, nanos=made.nanos)


def test_trades_without_a_side_are_mapped_without_it(tmp_path: Path) -> None:
    """Databento's N is neither; the type is still that of the columns, which were taken for MD."""
    file = tmp_path / "made.csv"
    text = f"ts_event,side,price,size,symbol\n{T}000001,N,100500000000,7,ESH5\n"
    file.write_text(text, encoding="utf-8")
    options = ("--preset=databento", "--exchange=cme")
    assert "line 2: side: 'n' is no side" in import_(tmp_path / "root", file, *options).err
    mapped = ("--map=price=price", "--map=size=size")
    assert import_(tmp_path / "root", file, *options, *mapped).code == 0
    rows = [Row(T * MS + 1, {"price": "100.5", "size": "7"})]
    assert found_in(tmp_path / "root", "cme", "ESH5", "TRADES") == files_of(rows)
    file.write_text(text.replace("side", "agent"), encoding="utf-8")
    done = import_(tmp_path / "root", file, *options, "--map=price=price")
    assert "which type? --type" in done.err


def test_dbn_is_read_by_its_own_library(tmp_path: Path) -> None:
    """Trades as Databento encodes them, its metadata in front."""
    dbn = pytest.importorskip("databento_dbn", reason="databento-dbn is not installed")
    metadata = dbn.Metadata(
        dataset="GLBX.MDP3",
        start=T * MS,
        stype_in=dbn.SType("raw_symbol"),
        stype_out=dbn.SType("instrument_id"),
        schema=dbn.Schema("trades"),
        symbols=["ESH5"],
        partial=[],
        not_found=[],
        mappings=[],
    )
    records = [
        dbn.TradeMsg(
            publisher_id=1,
            instrument_id=5,
            ts_event=T * MS + at,
            price=(100 + at) * 10**9,
            size=at,
            action=dbn.Action("T"),
            side=dbn.Side(side),
            depth=0,
            ts_recv=T * MS + at,
        )
        for at, side in ((1, "A"), (2, "B"))
    ]
    file = tmp_path / "trades.dbn"
    file.write_bytes(bytes(metadata) + b"".join(map(bytes, records)))
    root = tmp_path / "root"
    done = import_(root, file, "--preset=databento", "--exchange=cme", "--symbol=ESH5")
    assert (done.code, done.err) == (0, "")
    rows = [trade(T * MS + 1, "101", "1", 1), trade(T * MS + 2, "102", "2", 0)]
    assert found_in(root, "cme", "ESH5", "TRADES") == files_of(rows)
    file.write_bytes(file.read_bytes()[:-7])
    done = import_(root, file, "--preset=databento", "--exchange=cme", "--symbol=CUT")
    assert done.code == 1
    assert "trades.dbn: is cut off within a record" in done.err
    assert found_in(root, "cme", "CUT", "TRADES") == {}
