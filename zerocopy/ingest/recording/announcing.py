"""Who appends says so by Redis, from a thread of its own: nobody who appends waits for it.

Owns what is not said yet: of each series the last day, at most `WAITING_MAX`. A Redis that is away
is told of once; what cannot be said then is forgotten, for servers look by themselves as well.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

from zerocopy.access.redis_client import open_redis, reason_of
from zerocopy.formats.announcement import FILES, OBJECTS, announcement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Series = tuple[str, str, str]

WAITING_MAX = 10_000
"""Series that wait; of further ones nothing is said."""

RETRY_S = 1.0
"""Seconds for which one that is away is left alone."""


class Announcer:
    """Says what has changed to whoever listens at the Redis at `url`; a context manager.

        with Announcer("redis://10.0.0.9:6379/0", print) as announcer:
            announcer.appended(("coinbase", "BTC-USD", "MD"), 20119, ["time", "price"])

    `on_fault` gets a sentence when Redis goes away, and when it is back.

    Raises:
        ConfigError: the URL is none, or the package redis is not installed.
    """

    def __init__(self, url: str, on_fault: Callable[[str], object]) -> None:
        self._client = open_redis(url)
        self._on_fault = on_fault
        self._is_away = False
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, Series], tuple[int, tuple[str, ...]]] = {}
        self._woken = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Say what is left, if that takes no longer than one attempt."""
        self._ending.set()
        self._woken.set()
        self._thread.join()
        self._client.close()

    def appended(self, series: Series, day: int, columns: Iterable[str]) -> None:
        """Day files have grown; waits for nothing."""
        self._note(FILES, series, day, columns)

    def pushed(self, series: Series, day: int, columns: Iterable[str]) -> None:
        """A day is in an object store; waits for nothing."""
        self._note(OBJECTS, series, day, columns)

    def _note(self, channel: str, series: Series, day: int, columns: Iterable[str]) -> None:
        with self._lock:
            key = channel, series
            if key in self._waiting or len(self._waiting) < WAITING_MAX:
                self._waiting[key] = day, tuple(columns)
        self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.wait()
            self._woken.clear()
            is_ending = self._ending.is_set()
            self._say()
            if is_ending:
                return
            if self._is_away:
                self._ending.wait(RETRY_S)

    def _say(self) -> None:
        """Say all that waits, in one round trip."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for (channel, series), (day, columns) in waiting.items():
                    pipe.publish(channel, announcement(series, day, columns))
                pipe.execute()
        except Exception as error:  # noqa: BLE001 - a recorder goes on whatever Redis does
            if not self._is_away:
                self._is_away = True
                self._on_fault(f"appends are not announced: {reason_of(error)}")
        else:
            if self._is_away:
                self._is_away = False
                self._on_fault("appends are announced again")
