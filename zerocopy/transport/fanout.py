"""Streams whose feeds have something, served in slices: one append may be for ten thousand.

Owns their order. A feed tells that it is ready in the middle of something else, ten thousand of
them in one loop. So each is only noted, and the event loop polls its sockets between two slices. As
the turns of large responses, slices are short while small responses are being requested.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zerocopy.transport.scheduler import SendScheduler

SLICE_BYTES = 524_288
"""What the streams of a slice are charged: 64 small messages, or 22 encrypted ones, some 0.5 ms."""


SHORT_SLICE_BYTES = 32_768
"""The same beside small responses: 4 streams, or 2 encrypted ones, some 30 µs. A slice of 10 took
the p99 of a single client to 2.4 times what it was alone, one of 4 to 1.8 times."""

ANSWERED_BYTES = 8_192
"""And for each small response since the last slice, if those were more: half of the time is for
streams, however many clients ask."""


class Fanout:
    """The streams of one listener that wait for their turn.

    `answer` sends the small responses that wait: they go before each slice. `scheduler` knows
    whether more of them are requested, and is told what a slice was charged.
    """

    __slots__ = ("_answer", "_is_scheduled", "_loop", "_scheduler", "_waiting")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        answer: Callable[[], None],
        scheduler: SendScheduler,
    ) -> None:
        self._loop = loop
        self._answer = answer
        self._scheduler = scheduler
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
        waiting, scheduler = self._waiting, self._scheduler
        bytes_max = SLICE_BYTES
        if scheduler.is_hurried:
            short_bytes = max(SHORT_SLICE_BYTES, ANSWERED_BYTES * scheduler.answered)
            bytes_max = min(bytes_max, short_bytes)
        spent = 0
        try:
            # A stream that is added meanwhile waits for the next slice.
            for _ in range(len(waiting)):
                spent += waiting.popleft()()
                if spent >= bytes_max:
                    break
        finally:
            scheduler.spend(spent)
            if waiting and not self._is_scheduled:
                self._schedule()
