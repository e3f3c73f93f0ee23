"""Finding out what a server has to ask for.

Owns the discovery: symbols from /api/symbols, then of each type the first and the last second by
two ranges of its `time` column, and which of the columns it may have it does have. It reads a few
kilobytes a series, however long that is.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from loadtest.checks import CollectedCheck, StatusCheck, SymbolsCheck
from loadtest.question import U32_MAX, Query, Question, WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loadtest.question import PendingRequest

SERIES_MAX = 200
"""Symbols and types that take part in a run."""

HEAD_BYTES = 64 * 1024
"""Of a `time` column: its header line, with many skipped days in it, and the first record."""

_TIME_BYTES = 4
_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404


@dataclass(frozen=True, slots=True)
class Series:
    """One type of one symbol, with the unix seconds of its first and its last record."""

    exchange: str
    symbol: str
    type_: str
    first_s: int
    last_s: int
    columns: tuple[str, ...]
    """All that are known of, but `time`."""


class Client(Protocol):
    """Whoever can ask one question and wait for its answer."""

    def ask(self, question: Question) -> PendingRequest:
        """Ask and wait."""


class _Seen(CollectedCheck):
    """Any of these statuses; kept, for who asked to look at."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(statuses[0])
        self._statuses = statuses

    @property
    def is_unexpected(self) -> bool:
        return self.status not in self._statuses


class _Exists(StatusCheck):
    """200 or 404, without content."""

    has_content = False

    def __init__(self) -> None:
        super().__init__(_OK)

    @property
    def is_unexpected(self) -> bool:
        return self.status not in {_OK, _NOT_FOUND}


def find_series(
    client: Client, *, types: Sequence[str], columns: Sequence[str], seed: int
) -> list[Series]:
    """At most SERIES_MAX series that have records, chosen by `seed`.

    Raises:
        WrongAnswerError: an answer was not that of the contract.
        OSError: the server cannot be reached.
    """
    symbols = SymbolsCheck()
    _ask(client, Question("discovery", "/api/symbols", symbols))
    names = [
        (exchange, symbol, type_)
        for exchange, listed in sorted(symbols.exchanges.items())
        for symbol in sorted(listed)
        for type_ in types
    ]
    random.Random(seed).shuffle(names)
    return [
        series for name in names[:SERIES_MAX] for series in _find_bounds(client, *name, columns)
    ]


def _find_bounds(
    client: Client, exchange: str, symbol: str, type_: str, columns: Sequence[str]
) -> Iterator[Series]:
    """The series, or nothing if it does not exist or is empty."""
    target = Query(exchange, symbol, type_, 0, U32_MAX, ("time",)).target
    check = _Seen(_PARTIAL, _NOT_FOUND)
    _ask(client, Question("discovery", target, check, "GET", (("range", f"bytes=0-{HEAD_BYTES}"),)))
    if check.status == _NOT_FOUND:
        return
    line, _, data = check.content.partition(b"\n")
    if not json.loads(line)["columns"][0]["num_records"]:
        return
    first_s = int.from_bytes(data[:_TIME_BYTES], "little")
    tail = ("range", f"bytes=-{_TIME_BYTES}")
    _ask(client, Question("discovery", target, check := _Seen(_PARTIAL), "GET", (tail,)))
    last_s = int.from_bytes(check.content, "little")
    found = []
    for column in columns:
        target = Query(exchange, symbol, type_, last_s, last_s, ("time", column)).target
        _ask(client, Question("discovery", target, exists := _Exists(), "HEAD"))
        found += [column] if exists.status == _OK else []
    yield Series(exchange, symbol, type_, first_s, last_s, tuple(found))


def _ask(client: Client, question: Question) -> None:
    error = client.ask(question).error
    if isinstance(error, WrongAnswerError):
        raise WrongAnswerError(f"{question.target}: {error}")
    if error is not None:
        raise error
