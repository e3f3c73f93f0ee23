"""A server, as `get`, `bars` and `tail` ask it.

Owns what the options mean: where the server is, and type and columns where they were left out; and
how an error of the client becomes one of the command line. It must never know where answers go.
"""

from __future__ import annotations

import contextlib
import difflib
import getpass
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from zerocopy.client.errors import BadRequest, Error, NotFound
from zerocopy.client.fetch import Fetcher
from zerocopy.client.options import read_options
from zerocopy.client.requests import Call, Series, catalog_call, series, symbols_call
from zerocopy.client.stop import Stop
from zerocopy.core.errors import ZerocopyError
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

URL_DEFAULT = "http://127.0.0.1:8080"
"""Where `zerocopy demo` serves."""

TIMEOUT_S = 30.0
"""Of a connection, and of any silence."""

COLUMNS_MAX = 32
"""What one request may name."""

_OPTIONS = {"start": "--from", "end": "--to", "start and end": "--from and --to"}
"""The client's words for what the command line calls otherwise."""

_WORD = re.compile(rf"({'|'.join(sorted(_OPTIONS, key=len, reverse=True))})(?=: )")

_DATE_DIGITS = 8
"""20250131: the basic form of ISO 8601."""

_YEAR = re.compile(r"(19[7-9]|20[0-9])[0-9]")
"""As unix seconds it would be half an hour after midnight in 1970, which nobody means."""

_ARGUMENT = re.compile(r"\b(ca|key)=")

_SHOWN = (
    "zerocopy: other users of this machine see the key of --key: use --key -, which reads it from "
    "standard input, or ZEROCOPY_KEY"
)

Result = TypeVar("Result")


def every_column(names: list[str]) -> str:
    """All columns of a type.

    Raises:
        ZerocopyError: one request may not name so many.
    """
    if len(names) > COLUMNS_MAX:
        raise ZerocopyError(f"there are {len(names)} columns: choose some by --columns")
    return ",".join(names)


class Server:
    """One server; a context manager, which closes its connections."""

    def __init__(self, url: str | None, key: str | None, ca: str | None) -> None:
        url = url or os.environ.get("ZEROCOPY_URL") or URL_DEFAULT
        self.options = read_options(url, key, ca, TIMEOUT_S)
        self.fetcher = Fetcher(self.options)
        self._asked: tuple[str, str] | None = None

    def run(self, call: Call[Result]) -> Result:
        """The result of one request, retried and resumed.

        Raises:
            Error: what the server said, or what the connection did, in the end.
        """
        return self.fetcher.run(call, Stop())

    def catalog(self, symbol: str, exchange: str) -> dict[str, Any]:
        """What there is of each type of a symbol.

        Raises:
            Error: as `run`.
        """
        return self.run(catalog_call(exchange, symbol))["types"]

    def series(
        self,
        symbol: str,
        type_: str | None,
        columns: str | None,
        exchange: str,
        choose: Callable[[list[str]], str] = every_column,
    ) -> Series:
        """The series that is meant; `choose` names the columns where nobody did.

        The catalog is asked only where the type or the columns were left out.

        Raises:
            ZerocopyError: the symbol has several types, or more columns than one request may name.
            Error: as `run`.
        """
        self._asked = symbol, exchange
        if type_ is not None and columns is not None:
            return series(exchange, symbol, type_, columns)
        types = self.catalog(symbol, exchange)
        if type_ is None:
            if len(types) != 1:
                raise ZerocopyError(f"{symbol} has {', '.join(types)}: choose a type by --type")
            [type_] = types
        if type_ not in types:
            raise ZerocopyError(f"{symbol} has no type {type_}: it has {', '.join(types)}")
        if columns is None:
            found = types[type_]["columns"]
            columns = choose([column["name"] for column in found if "days" not in column])
        return series(exchange, symbol, type_, columns)

    def instead(self) -> str:
        """What there is instead of the symbol that `series` was asked for and nobody has there.

        The exchanges that have it, else a symbol of a similar name; "" where neither is, and where
        the symbol is there, so that something else was not found.
        """
        if self._asked is None:
            return ""
        symbol, exchange = self._asked
        try:
            found = self.run(symbols_call(None))
        except Error:
            return ""
        where = [
            name
            for name, entries in found["exchanges"].items()
            if any(entry["symbol"] == symbol for entry in entries)
        ]
        if exchange in where:
            return ""
        if where:
            return f"; {symbol} is on {', '.join(where)}: choose by --exchange"
        near = difflib.get_close_matches(symbol.upper(), found["symbols"], n=1)
        return f"; did you mean {near[0]}?" if near else ""


@contextlib.contextmanager
def asking(url: str | None, key: str | None, ca: str | None) -> Iterator[Server]:
    """A server for the block, whose errors are those of the command line.

    Raises:
        typer.BadParameter: an option is malformed, and nothing was asked.
        ZerocopyError: any other error of the client.
    """
    try:
        server = Server(url, _read_key() if key == "-" else key, ca)
        if key not in {None, "-"}:
            tell(_SHOWN)
        with contextlib.closing(server.fetcher):
            yield server
    except BadRequest as error:
        told = _in_words_of_options(error.detail)
        if error.status is None:
            raise typer.BadParameter(told) from None
        raise ZerocopyError(told) from None
    except NotFound as error:
        raise ZerocopyError(error.detail + server.instead()) from None
    except Error as error:
        if not error.detail and error.__cause__ is not None:
            raise error.__cause__ from None  # of a stream of ours: told as by any command
        raise ZerocopyError(_in_words_of_options(error.detail)) from None


def _read_key() -> str:
    """The first line of standard input; a terminal is asked, and shows nothing of it."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    try:
        return getpass.getpass("Key: ").strip()
    except EOFError:
        return ""


def moment(text: str | None) -> str | int | None:
    """A time as the client takes it: digits alone are unix seconds, but eight are a date.

    Raises:
        BadRequest: it is a year alone.
    """
    if text is not None and _YEAR.fullmatch(text):
        raise BadRequest(f"start and end: {text} must be a date such as {text}-01-01, not a year")
    is_number = text is not None and text.isascii() and text.isdigit() and len(text) != _DATE_DIGITS
    return int(text) if text is not None and is_number else text


def _in_words_of_options(detail: str) -> str:
    detail = _WORD.sub(lambda found: _OPTIONS[found[1]], detail, count=1)
    return _ARGUMENT.sub(r"--\1", detail)
