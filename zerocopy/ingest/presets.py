"""What exchanges and vendors call their columns: a table, one row a preset.

Owns the knowledge of formats that others publish, with its source. It must never read a file.

    Binance     github.com/binance/binance-public-data
    Tardis      docs.tardis.dev/downloadable-csv-files
    Databento   databento.com/docs/schemas-and-data-formats
    TrueFX      truefx.com/truefx-historical-downloads
    HistData    histdata.com/f-a-q/data-files-detailed-specification
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Names = tuple[str, ...]
"""What a column is called in the years and markets of a publisher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of file.

    `positions` are the columns of a file without a header. `columns` says which of them become
    ours. `levels` are the sides of an order book, in one row: each becomes a record.
    """

    type: str
    time: Names
    columns: Mapping[str, Names]
    has_nanos: bool = True
    exchange: str | None = None
    positions: Names = ()
    symbol_column: str | None = None
    exchange_column: str | None = None
    unit: str | None = None  # of the time, where its form is known
    zone: str | None = None  # of times that tell none
    fixed_point: frozenset[str] = frozenset()  # prices that count 1e-9 where they have no dot
    is_wide_book: bool = False


_MAKER = ("is_buyer_maker", "buyer_maker", "isBuyerMaker")

_BINANCE_KLINES = Preset(
    type="BARS",
    exchange="binance",
    time=("open_time", "openTime", "timestamp", "time"),
    has_nanos=False,
    columns={name: (name,) for name in ("open", "high", "low", "close", "volume")}
    | {"count": ("count", "number_of_trades", "trades")},
    positions=(
        *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume"),
        *("count", "taker_buy_volume", "taker_buy_quote_volume", "ignore"),
    ),
)
_BINANCE_TRADES = Preset(
    type="TRADES",
    exchange="binance",
    time=("time", "timestamp", "trade_time"),
    columns={"price": ("price",), "size": ("qty", "quantity", "size"), "side": _MAKER},
    # Spot has is_best_match besides, futures have not.
    positions=("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match"),
)
_BINANCE_AGGTRADES = Preset(
    type="TRADES",
    exchange="binance",
    time=("transact_time", "timestamp", "time"),
    columns={"price": ("price",), "size": ("quantity", "qty", "size"), "side": _MAKER},
    positions=(
        *("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id"),
        *("transact_time", "is_buyer_maker", "is_best_match"),
    ),
)
_BINANCE_BOOKTICKERS = Preset(
    type="MD",
    exchange="binance",
    time=("transaction_time", "transactionTime", "time"),
    columns={
        "best_bid": ("best_bid_price",),
        "best_ask": ("best_ask_price",),
        "bid_size": ("best_bid_qty",),
        "ask_size": ("best_ask_qty",),
    },
    positions=(
        *("update_id", "best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty"),
        *("transaction_time", "event_time"),
    ),
)
_TARDIS_TRADES = Preset(
    type="TRADES",
    time=("timestamp",),
    unit="us",
    symbol_column="symbol",
    exchange_column="exchange",
    columns={"price": ("price",), "size": ("amount",), "side": ("side",)},
)
_TARDIS_QUOTES = Preset(
    type="MD",
    time=("timestamp",),
    unit="us",
    symbol_column="symbol",
    exchange_column="exchange",
    columns={
        "best_bid": ("bid_price",),
        "best_ask": ("ask_price",),
        "bid_size": ("bid_amount",),
        "ask_size": ("ask_amount",),
    },
)
_TARDIS_BOOK = Preset(
    type="BOOK",
    time=("timestamp",),
    unit="us",
    symbol_column="symbol",
    exchange_column="exchange",
    columns={"side": ("side",), "price": ("price",), "size": ("amount",)},
    is_wide_book=True,
)
_DATABENTO_PRICES = frozenset({"price", "bid_px_00", "ask_px_00", "open", "high", "low", "close"})
_DATABENTO_TRADES = Preset(
    type="TRADES",
    time=("ts_event",),
    unit="ns",
    symbol_column="symbol",
    columns={"price": ("price",), "size": ("size",), "side": ("side",)},
    fixed_point=_DATABENTO_PRICES,
)
_DATABENTO_QUOTES = Preset(
    type="MD",
    time=("ts_event",),
    unit="ns",
    symbol_column="symbol",
    columns={
        "best_bid": ("bid_px_00",),
        "best_ask": ("ask_px_00",),
        "bid_size": ("bid_sz_00",),
        "ask_size": ("ask_sz_00",),
    },
    fixed_point=_DATABENTO_PRICES,
)
_DATABENTO_BARS = Preset(
    type="BARS",
    time=("ts_event",),
    unit="ns",
    symbol_column="symbol",
    has_nanos=False,
    columns={name: (name,) for name in ("open", "high", "low", "close", "volume")},
    fixed_point=_DATABENTO_PRICES,
)
_TRUEFX = Preset(
    type="MD",
    exchange="truefx",
    time=("timestamp", "time", "datetime"),
    zone="UTC",
    symbol_column="pair",
    columns={"best_bid": ("bid",), "best_ask": ("ask",)},
    positions=("pair", "timestamp", "bid", "ask"),
)
_HISTDATA = Preset(
    type="MD",
    exchange="histdata",
    time=("datetime",),
    # Eastern Standard Time all year; POSIX counts west of Greenwich with a plus.
    zone="Etc/GMT+5",
    columns={"best_bid": ("bid",), "best_ask": ("ask",)},
    positions=("datetime", "bid", "ask", "volume"),
)

PRESETS: Mapping[str, tuple[Preset, ...]] = {
    "binance-klines": (_BINANCE_KLINES,),
    "binance-trades": (_BINANCE_TRADES,),
    "binance-aggtrades": (_BINANCE_AGGTRADES,),
    "binance-booktickers": (_BINANCE_BOOKTICKERS,),
    "tardis-trades": (_TARDIS_TRADES,),
    "tardis-quotes": (_TARDIS_QUOTES,),
    "tardis-book": (_TARDIS_BOOK,),
    "databento": (_DATABENTO_QUOTES, _DATABENTO_BARS, _DATABENTO_TRADES),
    "truefx": (_TRUEFX,),
    "histdata": (_HISTDATA,),
}
"""Each preset with the kinds of file it may meet; the first whose columns are all there is meant.

Databento's mbp-1 and tbbo carry a trade's price and size beside the quote, so quotes come first.
"""
