"""A live stream that ends when what it was granted with ends.

Owns nothing but that end: every message is the feed's own, so equal clients still share one.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zerocopy.core.http.stream import End

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.access import Grant
    from zerocopy.core.http.stream import Feed, Item

REVOKED = End(1008, "the key or token holds no longer")
"""Policy violation, RFC 6455 section 7.4.1: the same credential would be refused again."""


class GrantedFeed:
    """`feed` while `grant` holds; see `Feed`.

    A grant that is revoked wakes the stream. One that only runs out is noticed by the next message
    or heartbeat.
    """

    __slots__ = ("_feed", "_grant", "_on_ready", "is_drained")

    def __init__(self, feed: Feed, grant: Grant) -> None:
        self._feed = feed
        self._grant = grant
        self._on_ready: Callable[[], None] | None = None
        self.is_drained = False

    def start(self, on_ready: Callable[[], None]) -> None:
        """See `Feed`."""
        self._on_ready = on_ready
        self._grant.watch(self._on_revoked)
        self._feed.start(on_ready)

    def next(self) -> Item | None:
        """See `Feed`."""
        if self._grant.until_s <= time.time():
            self.is_drained = False
            return REVOKED
        item = self._feed.next()
        self.is_drained = self._feed.is_drained
        return item

    def close(self) -> None:
        """See `Feed`."""
        self._on_ready = None
        self._grant.unwatch(self._on_revoked)
        self._feed.close()

    def _on_revoked(self) -> None:
        if self._on_ready is not None:
            self._on_ready()
