"""The options that `get`, `bars` and `tail` share, and where they say that an answer goes.

Owns their words, and that no file is overwritten unasked. `asking.py` knows what is asked. It must
never know a command, and loads nothing that only one of them needs.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from zerocopy.core.errors import ZerocopyError

ENDINGS: Final = {
    ".csv": "csv",
    ".json": "json",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".parquet": "parquet",
    ".npz": "npz",
    ".bin": "columns",
    ".raw": "columns",
}
"""The format that the ending of a name asks for."""

FORMATS: Final = tuple(dict.fromkeys(ENDINGS.values()))
LINE_FORMS: Final = ("text", "csv", "json")

SymbolArgument = Annotated[
    str, typer.Argument(metavar="SYMBOL", help="Such as BTC-USD.", show_default=False)
]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", help="With commas between: time,price. Else all that every day has."
    ),
]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", "-t", metavar="NAME", help="Such as MD; else the symbol's only one."),
]
ExchangeOption = Annotated[
    str, typer.Option("--exchange", "-e", metavar="NAME", help="Such as binance.")
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="The first moment: 2025-01-31, 2025-01-31T09:30:00+01:00 (UTC if no zone is given), "
        "or unix seconds. Else the beginning.",
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", metavar="TIME", help="The end, itself excluded. Else all there is."),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Its name ends in .csv .json .arrow .parquet .npz, or .bin or .raw for the columns "
        "format; - is standard output.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        metavar="NAME",
        help="csv json arrow parquet npz columns; else by the name of the file. Without a file: a "
        "table on a terminal, else csv.",
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the file if there is one.", show_default=False)
]
UrlOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The server; else $ZEROCOPY_URL, http://127.0.0.1:8080."),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="- reads it from standard input; other users of the machine see any other. Else "
        "$ZEROCOPY_KEY, ~/.netrc.",
    ),
]
CaOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="PEM file of the authorities to trust, not the system's."),
]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an answer goes: a table on the terminal, or `format` in a file or standard output."""

    path: str | None
    format: str
    is_table: bool
    replaces: bool = False
    """A file that is there; else it is kept, whenever it came."""


def destination(output: str | None, format_: str | None, *, force: bool) -> Destination:
    """What `--output`, `--format` and `--force` say together, before anything is asked.

    Raises:
        typer.BadParameter: there is no such format, or the ending of the name tells none.
        ZerocopyError: the file exists, and nobody said `--force`; or it cannot be made there.
    """
    path = None if output in {None, "-"} else output
    if format_ is None:
        ending = ".csv" if path is None else os.path.splitext(path)[1].lower()
        format_ = ENDINGS.get(ending)
        if format_ is None:
            raise typer.BadParameter(f"{path}: must end in {' '.join(ENDINGS)}, or say --format")
        if output is None and sys.stdout.isatty():
            return Destination(None, format_, is_table=True)
    elif format_ not in FORMATS:
        raise typer.BadParameter(f"--format: {format_} must be one of {', '.join(FORMATS)}")
    if path is not None:
        if os.path.isdir(path):
            raise ZerocopyError(f"{path}: is a directory; name a file in it")
        if not force:
            refuse_to_overwrite(path)
        folder = os.path.dirname(path) or "."
        if not os.path.isdir(folder):
            raise ZerocopyError(f"{path}: there is no directory {folder}")
    return Destination(path, format_, is_table=False, replaces=force)


def refuse_to_overwrite(path: str) -> None:
    """Say that there is a file, if there is one.

    Raises:
        ZerocopyError: there is.
    """
    if os.path.lexists(path):
        raise ZerocopyError(f"{path}: exists; --force replaces it")


def line_form(named: str | None) -> str:
    """The form of `tail`'s lines: the one that is named, else as standard output is read.

    Raises:
        typer.BadParameter: there is no such form.
    """
    if named is None:
        return "text" if sys.stdout.isatty() else "csv"
    if named not in LINE_FORMS:
        raise typer.BadParameter(f"--format: {named} must be one of {', '.join(LINE_FORMS)}")
    return named
