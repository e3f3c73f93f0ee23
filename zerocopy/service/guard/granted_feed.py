"""A live stream that ends when what it was granted with ends.

Owns nothing but that end: every message is the feed's own, so equal clients still share one.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING

from zerocopy.core.http.stream import End

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.access import Grant
    from zerocopy.core.http.stream import Feed, Item

REVOKED = End(1008, "the key or token holds no longer")
"""Policy violation, RFC 6455 section 7.4.1: the same credential would be refused again."""

_LOOK_S = 60.0
"""Seconds after which the clock is asked again how long a grant still holds."""

_LATE_S = 0.002
"""Seconds that a timer comes later, so that the clock, which is another, has reached the end."""


class GrantedFeed:
    """`feed` while `grant` holds; see `Feed`.

    A grant that is revoked wakes the stream, and so does the end of one that has an end.
    """

    __slots__ = ("_feed", "_grant", "_on_ready", "_timer", "is_drained")

    def __init__(self, feed: Feed, grant: Grant) -> None:
        self._feed = feed
        self._grant = grant
        self._on_ready: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.is_drained = False

    def start(self, on_ready: Callable[[], None]) -> None:
        """See `Feed`."""
        self._on_ready = on_ready
        self._grant.watch(self._on_revoked)
        self._await_end()
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
        if self._timer is not None:
            self._timer.cancel()
        self._grant.unwatch(self._on_revoked)
        self._feed.close()

    def _await_end(self) -> None:
        """Wake the stream when its grant runs out, by a clock that may be set meanwhile."""
        left_s = self._grant.until_s - time.time()
        if 0 < left_s < math.inf:
            self._timer = asyncio.get_running_loop().call_later(
                min(left_s + _LATE_S, _LOOK_S), self._on_timer
            )

    def _on_timer(self) -> None:
        if self._grant.until_s > time.time():
            self._await_end()
        else:
            self._on_revoked()

    def _on_revoked(self) -> None:
        if self._on_ready is not None:
            self._on_ready()
