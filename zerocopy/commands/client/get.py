"""`zerocopy get`: the records of a symbol as a file, a table or a stream of csv.

Owns the command and its options; `records.py` fetches and writes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from zerocopy.commands.client.options import (
    CaOption,
    ColumnsOption,
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

NEWEST = 20
"""Records of a table where nobody said which."""


def get(
    symbol: SymbolArgument,
    columns: ColumnsOption = None,
    type_: TypeOption = None,
    exchange: ExchangeOption = "coinbase",
    start: FromOption = None,
    end: ToOption = None,
    last: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=2**32 - 1, help="Only the last N of these records."),
    ] = None,
    output: OutputOption = None,
    format_: FormatOption = None,
    force: ForceOption = False,
    url: UrlOption = None,
    key: KeyOption = None,
    ca: CaOption = None,
) -> None:
    """Get the records of a symbol: as a file, as a table on a terminal, as csv in a pipe.

    A file appears when it is whole. The same command goes on with what broke off:
    after Ctrl-C, a lost connection or a restart of the server.

    Examples:
    zerocopy get BTC-USD --type MD --from 2025-01-01 --to 2025-02-01 -o january.parquet

    zerocopy get BTC-USD --type MD --columns time,price --last 10

    zerocopy get BTC-USD --type TRADES --from 2025-01-31 | head
    """
    from zerocopy.client.progress import showing
    from zerocopy.commands.client import output as out
    from zerocopy.commands.client.asking import asking, moment
    from zerocopy.commands.client.records import Records

    to = destination(output, format_, force=force)
    with asking(url, key, ca) as server, showing(None, symbol) as progress:
        of = server.series(symbol, type_, columns, exchange)
        if to.is_table and last is None and start is None and end is None:
            last = NEWEST
        of = replace(of, last=last)
        asked = Records(server, of, moment(start), moment(end), progress)
        if to.is_table:
            frame = asked.frame()
            out.print_frame(frame)
            out.tell_skipped(frame.skipped)
        elif to.path is not None:
            asked.write_file(to.path, to.format, replaces=to.replaces)
        else:
            with out.standard_output() as file:
                asked.write_stream(to.format, file)
