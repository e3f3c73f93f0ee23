"""`zerocopy check-config`: would `serve` start with this, and what does it come to?

Owns one table of options, for a person, and the same for programs. It starts nothing and binds
nothing.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from zerocopy.commands.shared import ServeConfigOption, read_config

if TYPE_CHECKING:
    from zerocopy.config.load import Config

_PASSWORD: Final = re.compile(r"([a-z][a-z0-9+.-]*://[^/?#@]*:).*@")
"""What a URL has for the eyes of its server alone."""


def check_config(
    config: ServeConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Read configuration, certificate and keys as `serve` would, and print what they come to.

    Exit code 1 where an option, the certificate or the key file would stop `serve`; ports are not
    tried. A data root that cannot be read is told of only: `serve` waits for it.
    """
    loaded = read_config(config)
    rows = _rows(loaded)
    if as_json:
        import orjson

        typer.echo(
            orjson.dumps({key: {"value": value, "from": origin} for key, value, origin in rows})
        )
    elif sys.stdout.isatty():
        _print_table(loaded, rows)
    else:
        for row in rows:
            typer.echo("\t".join("" if cell is None else str(cell) for cell in row))
    _check_files(loaded)
    if not as_json:
        typer.echo(f"The configuration is right ({loaded.path or 'no file, defaults'}).")


def _rows(loaded: Config) -> list[tuple[str, object, str]]:
    """Option, value, and where that comes from."""
    from zerocopy.config.load import OPTIONS

    values = {
        key: getattr(getattr(loaded, option.table), option.key) for key, option in OPTIONS.items()
    }
    values = {
        key: _PASSWORD.sub(r"\1***@", value) if isinstance(value, str) else value
        for key, value in values.items()
    }
    values |= {f"columns.{column}": dtype for column, dtype in loaded.columns.items()}
    origins = loaded.origins
    return [
        (key, value, "default" if (origin := origins.get(key)) is None else origin.label)
        for key, value in values.items()
    ]


def _print_table(loaded: Config, rows: list[tuple[str, object, str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"profile {loaded.profile}"
    table = Table("option", "value", "from", title=title, title_justify="left")
    for key, value, origin in rows:
        table.add_row(key, "" if value is None else escape(str(value)), escape(origin))
    Console().print(table)


def _check_files(loaded: Config) -> None:
    """Check the files that the configuration names.

    Raises:
        ConfigError: the certificate or a file of `[auth]` cannot be used.
    """
    from zerocopy.access.keys import permission_warning, read_keys
    from zerocopy.supervise.access_share import check_auth
    from zerocopy.supervise.certificate import PemCopies, validity_warning
    from zerocopy.supervise.readiness import config_fault

    if loaded.listeners().tls_port is not None:
        PemCopies(loaded.tls.cert_path, loaded.tls.key_path).close()
        warning = validity_warning(loaded.tls.cert_path)
        if warning is not None:
            typer.echo(f"zerocopy: {warning}", err=True)
    keys_path = loaded.auth.keys_path
    if keys_path is not None:
        read_keys(keys_path)
        warning = permission_warning(keys_path)
        if warning is not None:
            typer.echo(f"zerocopy: {warning}", err=True)
    check_auth(loaded)
    if loaded.store_url is not None:
        from zerocopy.supervise.compose_store import open_store

        open_store(loaded)
    fault = config_fault(loaded)
    if fault is not None:
        typer.echo(f"zerocopy: [data] path: {loaded.root} cannot be read: {fault}", err=True)
