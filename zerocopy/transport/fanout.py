"""Streams whose feeds have something, served in slices: one append may be for ten thousand.

Owns their order. A feed tells that it is ready in the middle of something else, ten thousand of
them in one loop. So each is only noted, and the event loop polls its sockets between two slices.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

SLICE_BYTES = 524_288
"""What the streams of a slice are charged, 8 KiB each at least: 64 of them, some 0.5 ms."""


class Fanout:
    """The streams of one listener that wait for their turn.

    `answer` sends the small responses that wait: they go before each slice.
    """

    __slots__ = ("_answer", "_is_scheduled", "_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop, answer: Callable[[], None]) -> None:
        self._loop = loop
        self._answer = answer
        self._waiting: deque[Callable[[], int]] = deque()
        self._is_scheduled = False

    def add(self, take_turn: Callable[[], int]) -> None:
        """Call `take_turn` once; it returns what it is charged, in bytes, and raises nothing."""
        self._waiting.append(take_turn)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._answer()
        waiting, left = self._waiting, SLICE_BYTES
        try:
            # A stream that is added meanwhile waits for the next slice.
            for _ in range(len(waiting)):
                left -= waiting.popleft()()
                if left <= 0:
                    break
        finally:
            if waiting and not self._is_scheduled:
                self._schedule()
