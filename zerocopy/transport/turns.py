"""Turns of large answers: how many bytes leave before the event loop looks at its sockets again.

Owns the queue of those who may send. Without it every writable connection sends a turn in each
iteration of the loop, and a small request that arrives meanwhile waits for all of them: with forty
streams for forty turns. With it the loop comes back after a few turns, however many there are, and
the streams take theirs in the order in which they became writable.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Turns:
    """Runs senders in order, `bytes_max` or a little more in one iteration of `loop`."""

    __slots__ = ("_bytes_max", "_is_scheduled", "_left", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, bytes_max: int) -> None:
        assert bytes_max > 0, "one sender at least in each iteration"
        self._loop = loop
        self._bytes_max = self._left = bytes_max
        self._waiting: deque[Callable[[], int]] = deque()
        self._is_scheduled = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether somebody new may send at once: nobody waits, and bytes are left."""
        return self._left > 0 and not self._waiting

    def spend(self, nbytes: int) -> None:
        """Somebody has sent without waiting."""
        self._left -= nbytes
        self._schedule()

    def queue(self, send: Callable[[], int]) -> None:
        """Call `send` once when its turn comes; it returns the bytes that it has spent."""
        self._waiting.append(send)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._left = self._bytes_max
        waiting = self._waiting
        try:
            # Who queues again meanwhile has had a turn: not before the others.
            for _ in range(len(waiting)):
                self._left -= waiting.popleft()()
                if self._left <= 0:
                    break
        finally:
            if waiting or self._left < self._bytes_max:
                self._schedule()
