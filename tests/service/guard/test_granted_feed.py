"""A live stream ends with its grant, and is its feed in everything else."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING

from zerocopy.core.access import Grant
from zerocopy.core.http.stream import HEARTBEAT, Message
from zerocopy.service.guard import granted_feed as module
from zerocopy.service.guard.granted_feed import REVOKED, GrantedFeed

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from zerocopy.core.http.stream import Item

MESSAGE = Message(b"x", (), 1)


class Feed:
    """A feed that gives what it was told to give."""

    def __init__(self, *items: Item | None) -> None:
        self.items = [*items]
        self.is_drained = False
        self.on_ready: Callable[[], None] | None = None
        self.closed = 0

    def start(self, on_ready: Callable[[], None]) -> None:
        """See `Feed`."""
        self.on_ready = on_ready

    def next(self) -> Item | None:
        """See `Feed`."""
        item = self.items.pop(0) if self.items else None
        self.is_drained = not self.items
        return item

    def close(self) -> None:
        """See `Feed`."""
        self.closed += 1


def test_everything_is_the_feeds_own_while_the_grant_holds() -> None:
    """The very same message, so that equal clients share its frames; `is_drained` as well."""
    inner, woken = Feed(MESSAGE, HEARTBEAT), list[int]()
    feed = GrantedFeed(inner, Grant("desk"))
    feed.start(lambda: woken.append(1))
    assert feed.next() is MESSAGE
    assert not feed.is_drained
    assert feed.next() is HEARTBEAT
    assert feed.is_drained
    assert feed.next() is None
    assert inner.on_ready is not None
    inner.on_ready()
    assert woken == [1]


def test_revoked_grant_wakes_the_stream_and_ends_it() -> None:
    """Whatever its feed would still have said; the close code says why."""
    grant, inner, woken = Grant("desk"), Feed(None, MESSAGE), list[int]()
    feed = GrantedFeed(inner, grant)
    feed.start(lambda: woken.append(1))
    assert feed.next() is None
    grant.revoke()
    assert woken == [1]
    assert feed.next() is REVOKED
    assert not feed.is_drained
    assert inner.items == [MESSAGE]


def test_grant_that_has_run_out_ends_it_at_the_next_message() -> None:
    """Its end is compared with the clock at each."""
    feed = GrantedFeed(Feed(MESSAGE), Grant("desk", until_s=time.time()))
    feed.start(lambda: None)
    assert feed.next() is REVOKED


def test_grant_that_runs_out_wakes_a_quiet_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a timer, which looks at the clock again where that was set meanwhile."""

    async def scenario() -> None:
        woken, clock_s = asyncio.Event(), [0.0]
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock_s[0]))
        feed = GrantedFeed(Feed(None, MESSAGE), Grant("token:x", until_s=0.05))
        feed.start(woken.set)
        assert feed.next() is None
        clock_s[0] = 0.05
        await asyncio.wait_for(woken.wait(), 30)
        assert feed.next() is REVOKED
        feed.close()

        monkeypatch.setattr(module, "_LOOK_S", 0.001)
        looks, late = [0], asyncio.Event()

        def now() -> float:  # an hour to go, and after the third look none
            looks[0] += 1
            return 0.0 if looks[0] < 4 else 3_600.0

        monkeypatch.setattr(module, "time", SimpleNamespace(time=now))
        feed = GrantedFeed(Feed(None), Grant("token:x", until_s=3_600.0))
        feed.start(late.set)
        await asyncio.wait_for(late.wait(), 30)
        assert looks[0] >= 4

    asyncio.run(scenario())


def test_closed_stream_has_no_timer() -> None:
    """It would hold the stream until its token ends."""

    async def scenario() -> None:
        inner, grant = Feed(), Grant("token:x", until_s=time.time() + 3_600)
        feed = GrantedFeed(inner, grant)
        feed.start(lambda: None)
        feed.close()
        left = weakref.ref(inner)
        del feed, inner
        gc.collect()
        assert left() is None

    asyncio.run(scenario())


def test_closed_stream_is_woken_no_more_and_watches_nothing() -> None:
    """A key that is revoked later has no business with it; it may not have been started."""
    grant, inner, woken = Grant("desk"), Feed(), list[int]()
    feed = GrantedFeed(inner, grant)
    feed.start(lambda: woken.append(1))
    feed.close()
    never = GrantedFeed(inner, grant)
    never.close()
    grant.revoke()
    assert woken == []
    assert inner.closed == 2
