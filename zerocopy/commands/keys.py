"""`zerocopy keys`: make API keys, list them, revoke them.

Owns the options and what is printed. The file and its form are those of `access/keys.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from zerocopy.commands.shared import ConfigOption, print_table, read_config, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.access.keys import Entry

keys = typer.Typer(
    help="Make API keys, list them, revoke them. A server that runs knows within two seconds.",
    no_args_is_help=True,
)

FileOption = Annotated[
    str | None,
    typer.Option("--file", "-f", metavar="FILE", help="The key file; else auth.keys_path."),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="What logs and metrics call the key.")
]


def _patterns(long: str, short: str, what: str) -> typer.models.OptionInfo:
    help_ = f"{what} that it may see; * and ? as in a shell; may be repeated."
    option: typer.models.OptionInfo = typer.Option(long, short, metavar="PATTERN", help=help_)
    return option


def _limit(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(min=1, metavar="N", help=what)
    return option


@keys.command()
def add(
    name: NameArgument,
    file: FileOption = None,
    config: ConfigOption = None,
    exchange: Annotated[list[str] | None, _patterns("--exchange", "-e", "Exchanges")] = None,
    symbol: Annotated[list[str] | None, _patterns("--symbol", "-s", "Symbols")] = None,
    type_: Annotated[list[str] | None, _patterns("--type", "-t", "Types")] = None,
    requests_per_s: Annotated[int | None, _limit("Requests a second.")] = None,
    bytes_per_day: Annotated[int | None, _limit("Bytes of content a day (UTC).")] = None,
    streams: Annotated[int | None, _limit("Live streams at once.")] = None,
) -> None:
    """Make a key and print it, once, as the last word. The file keeps its hash alone.

    The file is made where there is none, readable by its owner alone. Without patterns the key may
    see everything; without limits those of the configuration hold.
    """
    from zerocopy.access.keys import add_key, revoke_key
    from zerocopy.core.access import EVERYTHING, Scope

    path = _path(file, config)
    shown = (tuple(patterns) if patterns else EVERYTHING for patterns in (exchange, symbol, type_))
    key = add_key(
        path,
        name,
        scope=Scope(*shown),
        requests_per_s=requests_per_s,
        bytes_per_day=bytes_per_day,
        streams=streams,
    )
    try:
        typer.echo(f"The key of {name}, shown this once: {key}")
        sys.stdout.flush()
    except OSError:
        revoke_key(path, name)  # nobody has seen it, and nobody ever would
        raise


@keys.command("list")
def list_(
    file: FileOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the keys by name: since when, what each may see, its limits."""
    from zerocopy.access.keys import read_keys

    entries = read_keys(_path(file, config))
    if as_json:
        import orjson

        typer.echo(orjson.dumps({"keys": [_document(entry) for entry in entries]}))
        return
    head = ("name", "created", "exchanges", "symbols", "types", "limits")
    print_table(terminal(), head, [_row(entry) for entry in entries])


@keys.command()
def revoke(name: NameArgument, file: FileOption = None, config: ConfigOption = None) -> None:
    """Take a key out of the file. Servers refuse it, and end its live streams, in two seconds."""
    from zerocopy.access.keys import revoke_key

    revoke_key(_path(file, config), name)
    typer.echo(f"Revoked the key of {name}.")


def _path(file: str | None, config: str | None) -> str:
    path = file or read_config(config).auth.keys_path
    if path is None:
        raise typer.BadParameter("say --file FILE, or set [auth] keys_path in the configuration")
    return path


def _document(entry: Entry) -> dict[str, object]:
    """What there is to tell of a key; its hash would be of use to nobody."""
    return {
        "name": entry.name,
        "created": entry.created,
        "exchanges": entry.exchanges,
        "symbols": entry.symbols,
        "types": entry.types,
        "requests_per_s": entry.requests_per_s,
        "bytes_per_day": entry.bytes_per_day,
        "streams": entry.streams,
    }


def _row(entry: Entry) -> Sequence[str]:
    limits = (
        (entry.requests_per_s, "request", "/s"),
        (entry.bytes_per_day, "byte", "/day"),
        (entry.streams, "stream", ""),
    )
    told = [
        f"{count:,} {unit}{'' if count == 1 else 's'}{window}"
        for count, unit, window in limits
        if count is not None
    ]
    patterns = (" ".join(each) for each in (entry.exchanges, entry.symbols, entry.types))
    return (entry.name, entry.created, *patterns, ", ".join(told))
