"""`zerocopy bars`: bars over the records of a symbol, as a file, a table or csv.

Owns the command and its options, and which columns nobody has to name.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from zerocopy.commands.client.options import (
    CaOption,
    ExchangeOption,
    ForceOption,
    FormatOption,
    FromOption,
    KeyOption,
    OutputOption,
    SymbolArgument,
    ToOption,
    TypeOption,
    UrlOption,
    destination,
)
from zerocopy.core.errors import ZerocopyError

OF_BARS: Final = {"open": "open", "high": "high", "low": "low", "close": "close"}
"""Columns of a type whose records are bars already, and what longer ones take of each."""


def bars(
    symbol: SymbolArgument,
    interval: Annotated[
        str | None,
        typer.Option(
            "--interval",
            "-i",
            metavar="TIME",
            help="60, 5m, 4h, 1d, 1w; else the shortest of at most --max-points bars.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="A column, then what to take of it: price, price:open+close, volume:sum; of open "
            "high low close sum mean count ohlc. Else price, or open, high, low and close, and the "
            "sum of volume or size.",
        ),
    ] = None,
    type_: TypeOption = None,
    exchange: ExchangeOption = "coinbase",
    start: FromOption = None,
    end: ToOption = None,
    max_points: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="Bars, where no interval is given.")
    ] = 2_000,
    output: OutputOption = None,
    format_: FormatOption = None,
    force: ForceOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """Get bars over the records of a symbol: a file, a table on a terminal, csv in a pipe.

    Example: zerocopy bars BTC-USD --type MD --interval 1h --from 2025-01-01 -o january.csv
    """
    from zerocopy.client.requests import bars_call
    from zerocopy.commands.client import output as out
    from zerocopy.commands.client.asking import asking, moment
    from zerocopy.commands.client.making import encode

    to = destination(output, format_, force=force)
    with asking(url, key, ca) as server:
        of = server.series(symbol, type_, columns, exchange, _price_and_volume)
        frame = server.run(bars_call(of, moment(start), moment(end), interval, max_points))
        if to.is_table:
            out.print_frame(frame)
        elif to.path is not None:
            with out.appearing(to.path, replaces=to.replaces) as file:
                encode(frame, to.format, file)
        else:
            with out.standard_output() as file:
                encode(frame, to.format, file)
        out.tell_skipped(frame.skipped)


def _price_and_volume(names: list[str]) -> str:
    """What a chart shows of a type that has these columns.

    Raises:
        ZerocopyError: it has no price.
    """
    volume = [f"{name}:sum" for name in ("volume", "size") if name in names]
    if "price" not in names and OF_BARS.keys() <= set(names):
        return ",".join([*(f"{name}:{what}" for name, what in OF_BARS.items()), *volume])
    if "price" not in names:
        raise ZerocopyError(f"no column is called price: choose of {', '.join(names)} by --columns")
    return ",".join(["price", *volume])
