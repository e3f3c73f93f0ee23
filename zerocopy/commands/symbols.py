"""`zerocopy symbols`: the symbols of a data directory, without a server.

Owns the table. The list and its JSON are those of /api/symbols.
"""

from __future__ import annotations

from typing import Annotated

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    DataOption,
    print_table,
    read_config,
    terminal,
)


def symbols(
    config: ConfigOption = None,
    data_path: DataOption = None,
    exchange: Annotated[
        str | None, typer.Option("--exchange", "-e", metavar="NAME", help="Only this exchange.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON of /api/symbols instead.")
    ] = False,
) -> None:
    """List the symbols in a data directory, newest first."""
    import orjson

    from zerocopy.core.query import check_name
    from zerocopy.storage.symbols.walk import date_text, list_symbols, symbols_document

    loaded = read_config(config, {"data.path": data_path})
    if exchange is not None:
        check_name("exchange", exchange)
    document = symbols_document(listed := list_symbols(loaded.data.path, exchange))
    if as_json:
        typer.echo(orjson.dumps(document))
        return
    rows = (
        (name, entry.symbol, date_text(entry.last_update_s))
        for name, entries in listed.items()
        for entry in entries
    )
    print_table(terminal(), ("exchange", "symbol", "last update (UTC)"), rows)
