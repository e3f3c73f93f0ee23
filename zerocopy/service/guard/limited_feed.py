"""A live stream that counts: its place among the streams of a name, and its messages' bytes.

Owns no message: each is the feed's own, so equal clients still share one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.http.stream import End, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.access.limits import NameUsage
    from zerocopy.core.http.stream import Feed, Item

SPENT = End(1008, "the bytes of this key or token for today are used up")
"""Policy violation, RFC 6455 section 7.4.1. Who opens the stream again is told when to come."""


class LimitedFeed:
    """`feed`, whose stream `usage` has counted, until it is closed; see `Feed`."""

    __slots__ = ("_feed", "_is_open", "_usage", "is_drained")

    def __init__(self, feed: Feed, usage: NameUsage) -> None:
        self._feed = feed
        self._usage = usage
        self._is_open = True
        self.is_drained = False

    def start(self, on_ready: Callable[[], None]) -> None:
        """See `Feed`."""
        self._feed.start(on_ready)

    def next(self) -> Item | None:
        """See `Feed`. The message that exceeds the bytes of a day is the last one."""
        item = self._feed.next()
        self.is_drained = self._feed.is_drained
        if isinstance(item, Message):
            if self._usage.is_spent:
                self.is_drained = False
                return SPENT
            self._usage.spend(item.nbytes)
        return item

    def close(self) -> None:
        """See `Feed`."""
        if self._is_open:
            self._is_open = False
            self._usage.close_stream()
        self._feed.close()
