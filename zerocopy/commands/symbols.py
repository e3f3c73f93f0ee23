"""`zerocopy symbols`: the symbols of a data directory, without a server.

Owns the table. The list and its JSON are those of /api/symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.shared import (
    ConfigOption,
    DataOption,
    print_table,
    read_config,
    terminal,
)

if TYPE_CHECKING:
    from zerocopy.config.load import Config
    from zerocopy.storage.store.contents import StoreContents
    from zerocopy.storage.symbols.walk import SymbolRecency


def symbols(
    config: ConfigOption = None,
    data_path: DataOption = None,
    exchange: Annotated[
        str | None, typer.Option("--exchange", "-e", metavar="NAME", help="Only this exchange.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the JSON of /api/symbols instead.")
    ] = False,
    is_long: Annotated[
        bool,
        typer.Option("--long", "-l", help="Types, columns and days; with --json /api/catalog's."),
    ] = False,
) -> None:
    """List the symbols in a data directory, newest first."""
    import orjson

    from zerocopy.core.query import check_name
    from zerocopy.storage.symbols.walk import date_text, symbols_document

    loaded = read_config(config, {"data.path": data_path})
    if exchange is not None:
        check_name("exchange", exchange)
    if is_long:
        _print_catalog(loaded, exchange, as_json=as_json)
        return
    document = symbols_document(listed := _listed(loaded, exchange))
    if as_json:
        typer.echo(orjson.dumps(document))
        return
    rows = (
        (name, entry.symbol, date_text(entry.last_update_s))
        for name, entries in listed.items()
        for entry in entries
    )
    print_table(terminal(), ("exchange", "symbol", "last update (UTC)"), rows)


def _listed(config: Config, exchange: str | None) -> dict[str, list[SymbolRecency]]:
    """The symbols of all exchanges or of one."""
    from zerocopy.storage.symbols.walk import list_symbols

    if config.store_url is None:
        return list_symbols(config.root, exchange)
    from zerocopy.supervise.compose_store import build_stored

    return build_stored(config).names.listed(exchange)


def _print_catalog(config: Config, exchange: str | None, *, as_json: bool) -> None:
    """A row for each type of each symbol, or a line of JSON for each symbol."""
    import orjson

    from zerocopy.core.layout import Dtypes
    from zerocopy.storage.contents import Contents

    contents: Contents | StoreContents = Contents(config.root, Dtypes(config.columns))
    if config.store_url is not None:
        from zerocopy.supervise.compose_store import build_stored

        contents = build_stored(config).contents
    rows: list[tuple[str, ...]] = []
    for name, entries in _listed(config, exchange).items():
        for entry in entries:
            document = contents.of(name, entry.symbol)
            if as_json:
                typer.echo(orjson.dumps(document))
                continue
            for type_, found in document["types"].items():
                days, missing = f"{found['days']:,}", f"{len(found['missing_days']):,}"
                span = found["first_day"], found["last_day"]
                columns = ", ".join(column["name"] for column in found["columns"])
                rows.append((name, entry.symbol, type_, days, missing, *span, columns))
    if not as_json:
        head = ("exchange", "symbol", "type", "days", "missing", "first", "last", "columns")
        print_table(terminal(), head, rows)
