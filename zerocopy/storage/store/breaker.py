"""A circuit breaker: a store that failed several times in a row is left alone for a while.

Owns the count and the clock. Without it each request would wait for all retries of a store that is
away, and hold a thread for so long.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from zerocopy.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES_MAX = 3
"""Failures in a row, each after its retries, that open it."""

OPEN_S = 5.0
"""Seconds until one call is let through; up to half as many more, so that nodes do not agree."""


class Breaker:
    """Counts failures. Safe to use from several threads.

    Example:
        >>> breaker = Breaker()
        >>> for _ in range(FAILURES_MAX):
        ...     breaker.note(is_answered=False)
        >>> breaker.is_open
        True
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_from_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now."""
        return self._failures >= FAILURES_MAX and self._clock() < self._closed_from_s

    def check(self) -> None:
        """Let a call through, or refuse it; while it is open, one call each `OPEN_S`.

        Raises:
            StoreError: it is open.
        """
        with self._lock:
            if self._failures < FAILURES_MAX:
                return
            if self._clock() < self._closed_from_s:
                raise StoreError("the object store cannot be read now; try again")
            self._open()  # for the others: this call finds out

    def note(self, *, is_answered: bool) -> None:
        """Tell how a call went."""
        with self._lock:
            if is_answered:
                self._failures = 0
                return
            self._failures += 1
            if self._failures >= FAILURES_MAX:
                self._open()

    def _open(self) -> None:
        self._closed_from_s = self._clock() + OPEN_S * random.uniform(1.0, 1.5)  # noqa: S311
