"""Requests of the client: what each method asks for, and what becomes of the answer.

Owns targets and the reading of arguments. `Client` and `AsyncClient` share it; it does no input
and no output.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote, urlencode

from zerocopy.client.errors import BadRequest, UnexpectedAnswer
from zerocopy.client.sinks import ColumnsSink, SmallSink
from zerocopy.client.times import SECONDS_MAX, seconds, span

if TYPE_CHECKING:
    from zerocopy.client.frame import Frame
    from zerocopy.client.sinks import Progress, Sink
    from zerocopy.client.times import TimeLike

Columns: TypeAlias = str | Iterable[str]
"""Names of columns: `"time,price"` or `["time", "price"]`."""

Result = TypeVar("Result")


class SymbolEntry(TypedDict):
    """One symbol of an exchange; `last_update` is in unix seconds."""

    symbol: str
    last_update: int
    last_update_date: str


class Symbols(TypedDict):
    """What the server has: all symbols, and those of each exchange, newest first."""

    symbols: list[str]
    exchanges: dict[str, list[SymbolEntry]]


class Catalog(TypedDict):
    """What there is of one symbol: of each type its columns, days and gaps."""

    exchange: str
    symbol: str
    types: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A target, where its body goes, and what is made of it."""

    target: str
    sink: Sink
    result: Callable[[], Result]
    held: AbstractContextManager[object] = field(default_factory=nullcontext)
    """Entered before the body comes, left when its result is there."""


@dataclass(frozen=True, slots=True)
class Series:
    """What columns of what symbol: as the server has it."""

    exchange: str
    symbol: str
    type: str
    columns: str
    last: int | None = None
    """Only so many records, the newest of what is asked for; None: all."""

    def parameters(self) -> dict[str, str]:
        """As parameters of a query."""
        parameters = {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "type": self.type,
            "columns": self.columns,
        }
        return parameters if self.last is None else parameters | {"last": str(self.last)}


def series(exchange: str, symbol: str, type_: str, columns: Columns) -> Series:
    """The series that the arguments name.

    Raises:
        BadRequest: there are no columns.
    """
    names = columns if isinstance(columns, str) else ",".join(columns)
    if not names:
        raise BadRequest("columns: give at least one, such as 'time,price'")
    return Series(exchange, symbol, type_, names.replace(" ", ""))


def symbols_call(exchange: str | None) -> Call[Symbols]:
    """GET /api/symbols."""
    parameters = {} if exchange is None else {"exchange": exchange}
    return _json_call(target_of("/api/symbols", parameters))


def catalog_call(exchange: str, symbol: str) -> Call[Catalog]:
    """GET /api/catalog."""
    return _json_call(target_of("/api/catalog", {"exchange": exchange, "symbol": symbol}))


def data_call(
    of: Series, start: TimeLike | None, end: TimeLike | None, progress: Progress | None
) -> Call[Frame]:
    """GET /api/data in the format `columns`."""
    return _frame_call("/api/data", of.parameters(), start, end, progress)


def bars_call(
    of: Series,
    start: TimeLike | None,
    end: TimeLike | None,
    interval: int | str | timedelta | None,
    max_points: int,
) -> Call[Frame]:
    """GET /api/bars in the format `columns`."""
    parameters = of.parameters()
    if interval is not None:
        parameters["interval"] = spelled_interval(interval)
    parameters["max_points"] = str(max_points)
    return _frame_call("/api/bars", parameters, start, end, None)


def spelled_interval(interval: int | str | timedelta) -> str:
    """An interval as the server reads it.

    >>> spelled_interval(timedelta(minutes=5)), spelled_interval("4h"), spelled_interval(60)
    ('300', '4h', '60')

    Raises:
        BadRequest: a timedelta of a fraction of a second.
    """
    if isinstance(interval, timedelta):
        count, rest = divmod(interval, timedelta(seconds=1))
        if rest:
            raise BadRequest(f"interval: {interval} must be whole seconds")
        return str(count)
    return str(interval)


def live_target(of: Series, start: TimeLike | None) -> str:
    """GET /api/live, without a cursor."""
    parameters = of.parameters()
    if start is not None:
        parameters["start"] = str(min(seconds("start", start), SECONDS_MAX - 1))
    return target_of("/api/live", parameters)


def target_of(path: str, parameters: dict[str, str]) -> str:
    """A path with a query; commas and colons stay readable."""
    return f"{path}?{urlencode(parameters, safe=',:', quote_via=quote)}" if parameters else path


def span_parameters(first_s: int, stop_s: int) -> dict[str, str]:
    """`start` and `end` of the server, both inclusive, for seconds [first, stop).

    An empty span has no such pair: it is asked for as the last second there is, whose records, if
    there are any, are to be dropped.
    """
    if first_s == stop_s:
        first_s = SECONDS_MAX - 1
        stop_s = SECONDS_MAX
    return {"start": str(first_s), "end": str(stop_s - 1)}


def _frame_call(
    path: str,
    parameters: dict[str, str],
    start: TimeLike | None,
    end: TimeLike | None,
    progress: Progress | None,
) -> Call[Frame]:
    first_s, stop_s = span(start, end)
    sink = ColumnsSink(progress)

    def result() -> Frame:
        layout, memory = sink.result()
        frame = layout.frame(memory)
        return frame[:0] if first_s == stop_s else frame

    return Call(target_of(path, parameters | span_parameters(first_s, stop_s)), sink, result)


def _json_call(target: str) -> Call[Any]:
    sink = SmallSink()

    def result() -> Any:
        try:
            return json.loads(sink.content)
        except (ValueError, RecursionError):
            raise UnexpectedAnswer("the answer is no JSON; is this a zerocopy server?") from None

    return Call(target, sink, result)
