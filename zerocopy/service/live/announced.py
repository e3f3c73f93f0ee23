"""The thread of a worker that hears by Redis which series have changed.

Owns the subscription, and how many messages are read. The event loop never waits for it: it gets
the series that somebody reads, each once however often it was named meanwhile. While Redis is away
live streams are polled, as they are without it.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from zerocopy.access.redis_client import open_redis, reason_of
from zerocopy.core import counters as slots
from zerocopy.formats.announcement import parse_announcement
from zerocopy.observe.log import get_logger
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Protocol

    from zerocopy.core.counters import Counters

    class Hinted(Protocol):
        """Live streams, which look when they are told to."""

        def is_followed(self, series: Series) -> bool:
            """Whether somebody reads it; for any thread."""

        def hint(self, series: Series) -> None:
            """Somebody says that it has changed."""


MESSAGES_PER_S_MAX = 5_000
"""Messages that are read a second; the rest waits in Redis, which drops who is too far behind."""

PING_S = 5.0
"""Seconds of silence until Redis is asked whether it is there; after as many more it is away."""

RETRY_S = 1.0
WAKE_S = 0.5
"""Seconds between two attempts, and between two looks whether the worker ends."""

_log = get_logger(__name__)


class Listener:
    """Hears `channel` of the Redis at `url` from enter to exit; `live` is used in `loop` alone."""

    def __init__(
        self,
        url: str,
        channel: str,
        live: Hinted,
        loop: asyncio.AbstractEventLoop,
        counters: Counters,
    ) -> None:
        self._pubsub: Callable[[], Any] = open_redis(url).pubsub
        self._channel = channel
        self._live = live
        self._loop = loop
        self._counters = counters
        self._lock = threading.Lock()
        self._named: set[Series] = set()
        self._ending = threading.Event()
        self._away_since_s: float | None = None
        self._second, self._messages = 0, 0
        self._thread = threading.Thread(target=self._run, name="announced", daemon=True)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more; the thread ends by itself, soon."""
        self._ending.set()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                with self._pubsub() as heard:
                    heard.subscribe(self._channel)
                    self._hear(heard)
            except Exception as error:  # noqa: BLE001 - a thread that ends would never hear again
                if self._away_since_s is None and not self._ending.is_set():
                    self._away_since_s = time.monotonic()
                    _log.warning("live_announcements_away", reason=reason_of(error))
                self._ending.wait(RETRY_S)

    def _hear(self, heard: Any) -> None:
        """Take what comes, until the end.

        Raises:
            ConnectionError: nothing has come for long, not even an answer.
            redis.RedisError: the connection is lost.
        """
        heard_s, is_asked = time.monotonic(), False
        while not self._ending.is_set():
            message = heard.get_message(timeout=WAKE_S)
            now_s = time.monotonic()
            if message is None:
                if now_s - heard_s > 2 * PING_S:
                    raise ConnectionError("it does not answer")
                if now_s - heard_s > PING_S and not is_asked:
                    heard.ping()
                    is_asked = True
                continue
            heard_s, is_asked = now_s, False
            if self._away_since_s is not None:
                _log.info("live_announcements_back", away_s=round(now_s - self._away_since_s, 3))
                self._away_since_s = None
            if message["type"] == "message":
                self._take(message["data"])
                self._slow_down(now_s)

    def _take(self, data: bytes) -> None:
        self._counters[slots.LIVE_ANNOUNCEMENTS] += 1
        found = parse_announcement(data)
        series = None if found is None else Series(*found)
        if series is None or not self._live.is_followed(series):
            return
        with self._lock:
            is_first = not self._named
            self._named.add(series)
        if is_first:
            try:
                self._loop.call_soon_threadsafe(self._hint)
            except RuntimeError:  # the loop is closed: the process ends
                self._ending.set()

    def _hint(self) -> None:
        with self._lock:
            named, self._named = self._named, set()
        for series in named:
            self._live.hint(series)

    def _slow_down(self, now_s: float) -> None:
        """Whoever sends without end does not get the processor."""
        if int(now_s) != self._second:
            self._second, self._messages = int(now_s), 0
        self._messages += 1
        if self._messages >= MESSAGES_PER_S_MAX:
            self._ending.wait(self._second + 1 - now_s)
