"""How often an event may be logged: so that no client can fill a disk with lines.

Owns a count of each event in the present second. The names of events are ours, so there are few.
Threads count without a lock: a line more or less does not matter.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zerocopy.observe.structlog_import import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

ACCESS_EVENT = "request"
_UNLIMITED = frozenset({ACCESS_EVENT, "lines_suppressed", "lines_dropped"})
"""One a request, as `[log] access_sample` says, and those that tell of what was left out."""


class RateLimit:
    """A processor of structlog's: drops an event that came too often this second, and counts it."""

    def __init__(self, per_second_max: int) -> None:
        self._max = per_second_max
        self._second = 0
        self._counts: dict[str, int] = {}
        self._suppressed: dict[str, int] = {}

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """The event, where it may be written.

        Raises:
            DropEvent: it may not; structlog then forgets it.
        """
        name = event["event"]
        if name in _UNLIMITED:
            return event
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._counts = second, {}
        count = self._counts[name] = self._counts.get(name, 0) + 1
        if count > self._max:
            self._suppressed[name] = self._suppressed.get(name, 0) + 1
            raise structlog.DropEvent
        return event

    def take_suppressed(self) -> dict[str, int]:
        """How many of each event were dropped since the last call."""
        suppressed, self._suppressed = self._suppressed, {}
        return suppressed
