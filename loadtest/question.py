"""One request, what its answer must be, and how it went.

Owns the words that the mix, the checks and the clients share. Knows no socket, no locust and no
random number, so that a check can be tried on bytes made by hand.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Mapping

U32_MAX = 4_294_967_295
DAY_S = 86_400


class WrongAnswerError(Exception):
    """The answer breaks the contract."""


class Check(Protocol):
    """What an answer must be. It is told of the head, then of each piece, then of the end.

    Each method raises WrongAnswerError as soon as the answer cannot be right any more.
    """

    def begin(self, status: int, fields: Mapping[str, str]) -> None:
        """Judge the head; field names are lower-case."""

    def feed(self, piece: memoryview) -> None:
        """Judge the next bytes of the content, and keep nothing that grows."""

    def end(self) -> list[Question]:
        """Judge the whole; further questions that it gives rise to, to be asked next."""


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of one /api/data request."""

    exchange: str
    symbol: str
    type_: str
    start: int
    end: int
    columns: tuple[str, ...]

    @property
    def target(self) -> str:
        """The request target."""
        return data_target(
            exchange=self.exchange,
            symbol=self.symbol,
            type=self.type_,
            start=self.start,
            end=self.end,
            columns=",".join(self.columns),
        )


def data_target(**parameters: object) -> str:
    """The target of an /api/data request with these parameters, right or wrong."""
    return f"/api/data?{urlencode(parameters)}"


@dataclass(frozen=True, slots=True)
class Question:
    """A request; `kind` is its line in the report."""

    kind: str
    target: str
    check: Check
    method: str = "GET"
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class PendingRequest:
    """One question on its way: the time it takes, the bytes that came, what was wrong."""

    question: Question
    started_s: float = field(default_factory=time.perf_counter)
    nbytes: int = 0
    took_s: float = 0.0
    follow_ups: list[Question] = field(default_factory=list)
    error: Exception | None = None

    def begin(self, status: int, fields: Mapping[str, str]) -> None:
        """Pass the head to the check.

        Raises:
            WrongAnswerError: this cannot be the answer.
        """
        self.question.check.begin(status, fields)

    def feed(self, piece: memoryview) -> None:
        """Pass some of the content to the check.

        Raises:
            WrongAnswerError: this cannot be the answer.
        """
        self.nbytes += len(piece)
        self.question.check.feed(piece)

    def end(self) -> None:
        """Take the time, then let the check judge the whole.

        Raises:
            WrongAnswerError: this was not the answer.
        """
        self.took_s = time.perf_counter() - self.started_s
        self.follow_ups = self.question.check.end()

    def fail(self, error: Exception) -> None:
        """Take the time of a request that has no right answer."""
        self.took_s = time.perf_counter() - self.started_s
        self.error = error
