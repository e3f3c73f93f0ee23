"""Who may ask for what: scopes, limits, and the grant that a request was found to have.

Owns the words, and nothing of keys, tokens or files: a grant says what is allowed and how long, not
how that was proved.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

EVERYTHING = ("*",)
"""Patterns that match any name."""

TALLIED = ("requests", "sent_bytes", "refusals")
REQUESTS, SENT_BYTES, REFUSALS = range(3)
"""What is counted of each name, in this order."""

PATTERNS_MAX = 256
"""Patterns of one kind in a scope."""


@lru_cache(maxsize=1_024)
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One expression for all of `patterns`; fnmatch's takes linear time, however many stars."""
    return re.compile("|".join(map(translate, patterns)) if patterns else r"(?!)")


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be seen: names that match a pattern of their kind; case counts.

    Patterns are those of a shell: `*` any characters, `?` one, `[ab]` one of these, `[!ab]` none of
    these.

    Example:
        >>> Scope(symbols=("BTC-*",)).allows("coinbase", "BTC-USD", "TRADES")
        True
    """

    exchanges: tuple[str, ...] = EVERYTHING
    symbols: tuple[str, ...] = EVERYTHING
    types: tuple[str, ...] = EVERYTHING

    @property
    def is_everything(self) -> bool:
        """Whether nothing is hidden."""
        return self == _ALL

    def allows(self, exchange: str, symbol: str | None = None, type_: str | None = None) -> bool:
        """Whether a series may be seen; of what is None, whether any could."""
        return (
            _matcher(self.exchanges).fullmatch(exchange) is not None
            and (symbol is None or _matcher(self.symbols).fullmatch(symbol) is not None)
            and (type_ is None or _matcher(self.types).fullmatch(type_) is not None)
        )


_ALL = Scope()


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much one name may ask for; None: as much as it likes.

    `requests_per_s` is the number of requests in a second, `bytes_per_day` of bytes of content in a
    day (UTC), `streams` of live streams at once.
    """

    requests_per_s: int | None = None
    bytes_per_day: int | None = None
    streams: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether anything has to be counted before an answer."""
        return self != _UNLIMITED


_UNLIMITED = Allowance()


class Usage(Protocol):
    """What one name has had of its allowance."""

    def admits(self, nbytes: int, times: int, now_s: float) -> bool:
        """Count so many requests for `nbytes` of content each, if there is room for all of them."""

    def spend(self, nbytes: int) -> int:
        """So many bytes are promised. Returns the day on which they count."""

    def give_back(self, nbytes: int, day: int) -> None:
        """So many bytes that counted on `day` were not sent."""


class Grant:
    """Somebody may ask: `name` for logs and metrics, a scope, an allowance, and until when.

    It holds until `until_s` (unix seconds), or until it is revoked. Requests, streams and kept
    heads have the same object, so what is revoked is revoked for all of them. `mark` tells what
    proved it from anything else that proves the same name, so that a ticket can say so. `usage`
    counts what it has had, where that is limited. `tallied` has the `TALLIED` of its name, once
    something was counted.
    """

    __slots__ = (
        "__weakref__", "_watchers", "allowance", "mark", "name", "scope", "tallied", "until_s",
        "usage",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        scope: Scope = _ALL,
        allowance: Allowance = _UNLIMITED,
        until_s: float = math.inf,
        mark: str = "",
    ) -> None:
        self.name = name
        self.scope = scope
        self.allowance = allowance
        self.until_s = until_s
        self.mark = mark
        self.usage: Usage | None = None
        self.tallied: memoryview | None = None
        self._watchers: set[Callable[[], None]] = set()

    def revoke(self) -> None:
        """End it now, for everybody who has it."""
        self.until_s = -math.inf
        for watcher in tuple(self._watchers):
            watcher()

    def watch(self, on_revoked: Callable[[], None]) -> None:
        """Have `on_revoked` called when it is revoked."""
        self._watchers.add(on_revoked)

    def unwatch(self, on_revoked: Callable[[], None]) -> None:
        """No longer."""
        self._watchers.discard(on_revoked)
