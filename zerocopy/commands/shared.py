"""What commands share: options, the reading of the configuration, and tables.

Owns each option that several commands have. It must never know a command.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.progress import Progress

    from zerocopy.config.load import Config

PIPE_WIDTH = 10_000
"""Columns of a table that goes to no terminal: nothing is broken or cut there."""

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        help="config.toml to read; else $ZEROCOPY_CONFIG, ./config.toml, "
        "/etc/zerocopy/config.toml, else defaults.",
    ),
]
ServeConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", metavar="FILE", help="As for `serve`.")
]
"""The same option for commands that read what `serve` reads: the help text is shorter."""

DataOption = Annotated[
    str | None,
    typer.Option("--data-path", "-d", metavar="DIR", help="Root of the day files: data.path."),
]
TlsOption = Annotated[
    bool | None,
    typer.Option("--tls/--plain", help="HTTP/2 over TLS, or plain HTTP/1.1: server.use_tls."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Worker processes; 0: one a core; server.workers."),
]


def read_config(path: str | None, flags: Mapping[str, object] | None = None) -> Config:
    """The configuration of the file, the environment and `flags`, which have dotted keys.

    Raises:
        ConfigError: one line that names the place, the key and what would be right.
    """
    from zerocopy.config.load import load

    return load(path, environ=os.environ, flags=flags)


def local_root(config: Config) -> str:
    """The data root, for a command that reads or writes its files in place.

    Raises:
        ConfigError: it is an object store.
    """
    from zerocopy.core.errors import ConfigError

    if config.store_url is not None:
        raise ConfigError(f"[data] path: {config.store_url} is an object store: name a directory")
    return config.data.path


def terminal() -> Console:
    """Standard output, for text that a person reads; long lines are not wrapped."""
    from rich.console import Console

    return Console(soft_wrap=True)


def counting(things: str, console: Console, *, is_left: bool = True) -> Progress:
    """A bar that counts `things`, which is left there at its end; none where nobody looks."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    shown = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(things),
        TimeRemainingColumn(),
    )
    is_hidden = not console.is_terminal
    return Progress(*shown, console=console, disable=is_hidden, transient=not is_left)


def print_table(console: Console, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below the names of their columns; in a pipe each on one line, whole.

    On a terminal the last column, which has most text, is broken where it is too narrow.
    """
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in head[:-1]:
        table.add_column(name, no_wrap=True)
    table.add_column(head[-1], overflow="fold")
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
