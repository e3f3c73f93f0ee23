"""How many messages have left, and how long after the append: counted for many at once.

Owns what is not counted yet. Counting each of ten thousand messages by itself would take a quarter
of the time in which they are given; so one call behind them counts all that were given together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.counters import LIVE_LAG, observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.counters import Counters


class Tally:
    """What the readers of one tail have got.

    `call_soon` calls behind what the event loop does now. So the lag of all is that of the last.
    """

    __slots__ = ("_call_soon", "_clock_ns", "_counters", "_messages", "_records", "grown_ns")

    def __init__(
        self,
        counters: Counters,
        clock_ns: Callable[[], int],
        call_soon: Callable[[Callable[[], object]], object],
    ) -> None:
        self._counters = counters
        self._clock_ns = clock_ns
        self._call_soon = call_soon
        self.grown_ns = 0
        self._messages = self._records = 0

    def note_grown(self, now_ns: int) -> None:
        """There are new records, as of now."""
        self.count()
        self.grown_ns = now_ns

    def note_newest(self, records: int) -> None:
        """A reader has got the newest message, as many others have."""
        if not self._messages:
            self._call_soon(self.count)
        self._messages += 1
        self._records += records

    def note_message(self, records: int, *, is_newest: bool) -> None:
        """A reader has got a message of its own; it may hold what has just come.

        One that catches up with older records tells nothing of how long those took.
        """
        self._counters[slots.LIVE_MESSAGES] += 1
        self._counters[slots.LIVE_RECORDS] += records
        if is_newest:
            observe(self._counters, LIVE_LAG, self._clock_ns() - self.grown_ns)

    def count(self) -> None:
        """Count what was noted."""
        if self._messages:
            self._counters[slots.LIVE_MESSAGES] += self._messages
            self._counters[slots.LIVE_RECORDS] += self._records
            lag_ns = self._clock_ns() - self.grown_ns
            observe(self._counters, LIVE_LAG, lag_ns, self._messages)
            self._messages = self._records = 0
