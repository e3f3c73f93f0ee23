"""A live stream that is counted: opened, message by message, closed once."""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING

import pytest

from zerocopy.access.limits import Limits, NameUsage
from zerocopy.access.shared_counts import SharedCounts, add_rows, make_counts
from zerocopy.core import counters as slots
from zerocopy.core.access import Allowance, Grant
from zerocopy.core.errors import LimitedError
from zerocopy.core.http.stream import HEARTBEAT, Message
from zerocopy.service.guard.limited_feed import SPENT, LimitedFeed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zerocopy.core.http.stream import Item

MESSAGE = Message(bytes(60), (), 60)


class Feed:
    """Says what a test puts into it."""

    def __init__(self, *items: Item | None) -> None:
        self.items = list(items)
        self.is_drained = True
        self.on_ready: Callable[[], None] | None = None
        self.closed = 0

    def start(self, on_ready: Callable[[], None]) -> None:
        """See `Feed`."""
        self.on_ready = on_ready

    def next(self) -> Item | None:
        """See `Feed`."""
        return self.items.pop(0) if self.items else None

    def close(self) -> None:
        """See `Feed`."""
        self.closed += 1


@pytest.fixture
def usage() -> Iterator[NameUsage]:
    """A stream at once, a hundred bytes a day."""
    fd = make_counts()
    add_rows(fd, 2)
    counts = SharedCounts(fd, 1)
    limits = Limits(counts, array("Q", bytes(8 * len(slots.SLOTS))), clock=lambda: 1e9)
    made = limits.usage_of(Grant("desk", allowance=Allowance(streams=1, bytes_per_day=100)))
    assert made is not None
    yield made
    os.close(fd)


def test_a_stream_is_counted_until_it_is_closed(usage: NameUsage) -> None:
    """Once, however often it is closed, and also if it was never started."""
    usage.open_stream()
    feed = LimitedFeed(inner := Feed(), usage)
    with pytest.raises(LimitedError):
        usage.open_stream()
    feed.close()
    feed.close()
    assert inner.closed == 2
    usage.open_stream()
    with pytest.raises(LimitedError):
        usage.open_stream()


def test_messages_count_and_the_one_that_exceeds_is_the_last(usage: NameUsage) -> None:
    """Heartbeats cost nothing. What is shared between equal clients stays the same object."""
    usage.open_stream()
    feed = LimitedFeed(inner := Feed(MESSAGE, HEARTBEAT, None, MESSAGE, MESSAGE), usage)
    calls: list[None] = []
    feed.start(lambda: calls.append(None))
    assert inner.on_ready is not None
    inner.on_ready()
    assert len(calls) == 1
    assert feed.next() is MESSAGE
    assert feed.is_drained
    assert feed.next() is HEARTBEAT
    assert feed.next() is None
    assert feed.next() is MESSAGE
    assert usage.is_spent
    assert feed.next() is SPENT
    assert not feed.is_drained
    feed.close()
