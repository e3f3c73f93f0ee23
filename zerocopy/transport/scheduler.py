"""Turns of large responses: how many bytes leave before the event loop polls its sockets again.

Owns the queue of senders. Without it every writable connection sends a turn in each iteration of
the loop, and a small request that arrives meanwhile waits for all of them: with forty streams for
forty turns. With it the loop comes back after a few turns, however many senders there are. Senders
take turns in the order in which they became writable.

Long turns are cheap; short ones let small responses through sooner. So turns are short while small
responses are being requested. Bytes from the disk are then charged more of a turn, because reading
them keeps the processors busy as well (decision 25):

- The charge falls as more small responses leave between two turns.
- There is none while other responses are sent from memory; small ones wait for those anyway.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


SHORT_TURN_BYTES = 262_144
"""Bytes of a turn while small responses are asked for: some 40 µs of sendfile(2)."""

COLD_TURN_BYTES = 16_384
"""Bytes from the disk that are a short turn, for each small response between two runs of the
scheduler.

A single client waits for no more; many clients, which wait for each other anyway, do not starve the
stream."""

SHORT_RUNS = 64
"""Runs of the scheduler for which turns are short after a small response: 5 to 10 ms.

It runs at most once in an iteration of the event loop, and only while somebody takes turns."""


class SendScheduler:
    """Runs senders in order, `turns_at_once` turns or a little more in one iteration of `loop`.

    `turn_bytes` is how much a sender may send in a turn that it takes now.
    """

    __slots__ = (
        "_answered", "_answered_before", "_is_scheduled", "_left", "_loop", "_sharing",
        "_short_for", "_turn_bytes_max", "_turns_at_once", "_waiting", "_warm_for",
        "short_turn_bytes", "turn_bytes",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn_bytes_max: int,
        turns_at_once: int = 1,
        short_turn_bytes: int = SHORT_TURN_BYTES,
    ) -> None:
        assert turn_bytes_max > 0, "a turn has bytes"
        assert turns_at_once > 0, "one sender at least in each iteration"
        self._loop = loop
        self.turn_bytes = self._turn_bytes_max = turn_bytes_max
        self._turns_at_once = turns_at_once
        self._left = turns_at_once * turn_bytes_max
        self._short_for = 0
        self._answered = 0  # small responses since the last run
        self._answered_before = 0  # and between the last run and the one before it
        self._warm_for = 0  # runs for which a sender counts as sending from memory
        self.short_turn_bytes = min(short_turn_bytes, turn_bytes_max)
        self._sharing = [self]
        self._waiting: deque[Callable[[], int]] = deque()
        self._is_scheduled = False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether a new sender may send at once: none waits, and bytes are left."""
        return self._left > 0 and not self._waiting

    @property
    def is_hurried(self) -> bool:
        """Whether small responses were requested of late."""
        return self._short_for > 0

    @property
    def answered(self) -> int:
        """How many small responses left of late between two runs."""
        return max(self._answered, self._answered_before)

    def cost_per_byte(self, *, is_from_disk: bool) -> int:
        """How many bytes of the present turn each byte of a response is charged."""
        if not is_from_disk or not self._short_for or self._warm_for:
            return 1
        cold_bytes = COLD_TURN_BYTES * max(1, self.answered)
        return -(-self.turn_bytes // cold_bytes)  # rounded up

    def join(self, other: SendScheduler) -> None:
        """Share the event loop with the turns of another listener: either one hurries both."""
        self._sharing.append(other)
        other._sharing.append(self)

    def hurry(self, answered: int) -> None:
        """So many small responses have left; more may be requested soon."""
        assert answered > 0, "one at least"
        for scheduler in self._sharing:
            scheduler._short_for = SHORT_RUNS  # noqa: SLF001 - as above
            scheduler._answered += answered  # noqa: SLF001
            scheduler.turn_bytes = scheduler.short_turn_bytes

    def sent(self, nbytes: int, *, is_from_disk: bool) -> None:
        """So many bytes of a large response have left."""
        if nbytes >= COLD_TURN_BYTES and not is_from_disk:
            for scheduler in self._sharing:
                scheduler._warm_for = SHORT_RUNS  # noqa: SLF001 - as above

    def spend(self, nbytes: int) -> None:
        """A sender has sent so many bytes without waiting."""
        self._left -= nbytes
        self._schedule()

    def queue(self, send: Callable[[], int]) -> None:
        """Call `send` once when its turn comes; it returns the bytes that it has spent."""
        self._waiting.append(send)
        self._schedule()

    async def take(self, nbytes: int) -> bool:
        """Wait for a turn of at most `nbytes`. Returns whether it had to wait.

        The turn is charged at the turn size of the moment it starts.
        """
        if self.has_room:
            self.spend(min(nbytes, self.turn_bytes))
            return False
        await self.place(nbytes)
        return True

    async def place(self, nbytes: int) -> None:
        """Queue for a turn of at most `nbytes`, even if there is room now."""
        granted = self._loop.create_future()

        def grant() -> int:
            if granted.done():
                return 0  # the one that waited was cancelled
            granted.set_result(None)
            return min(nbytes, self.turn_bytes)

        self.queue(grant)
        await granted

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._answered_before, self._answered = self._answered, 0
        self._warm_for -= self._warm_for > 0
        if self._short_for:
            self._short_for -= 1
            if not self._short_for:
                self.turn_bytes = self._turn_bytes_max
        full = self._left = self._turns_at_once * self.turn_bytes
        waiting = self._waiting
        try:
            # A sender that queues again meanwhile has had a turn: not before the others.
            for _ in range(len(waiting)):
                spent = waiting.popleft()()
                # Not in one statement: it would forget what was spent within the call.
                self._left -= spent
                if self._left <= 0:
                    break
        finally:
            if waiting or self._left < full:
                self._schedule()
