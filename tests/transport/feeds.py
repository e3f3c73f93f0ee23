"""Feeds that say what a test has them say."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from zerocopy.core.http.stream import HEARTBEAT, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.http.stream import Item
    from zerocopy.core.plan import Segment


def message(content: bytes, *segments: Segment) -> Message:
    """A message of both."""
    return Message(content, segments, len(content) + sum(segment.count for segment in segments))


class FakeFeed:
    """Gives what the test has put into it; counts how it is called."""

    def __init__(self, *items: Item) -> None:
        self.items: deque[Item | Exception] = deque(items)
        self.on_ready: Callable[[], None] | None = None
        self.asked = 0
        self.pulled = 0
        self.closed = 0
        self.is_drained = False

    def say(self, *items: Item | Exception) -> None:
        """Put something in, and tell whoever waits for it."""
        was_empty = not self.items
        self.items += items
        if was_empty and self.on_ready is not None and not self.closed:
            self.on_ready()

    def beat(self) -> None:
        """Time for a heartbeat."""
        self.say(HEARTBEAT)

    # ---- as a Feed

    def start(self, on_ready: Callable[[], None]) -> None:
        """Once, and before `next`."""
        assert self.on_ready is None
        assert not self.closed
        self.on_ready = on_ready

    def next(self) -> Item | None:
        """The next of what was put in; an error is raised."""
        assert self.on_ready is not None
        assert not self.closed, "it was closed"
        self.asked += 1
        if not self.items:
            return None
        self.pulled += 1
        item = self.items.popleft()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Count it."""
        self.closed += 1
