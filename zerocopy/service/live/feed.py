"""One subscriber of a live stream: the `Feed` that a transport pulls.

Owns a cursor, and when the next message may leave. All else is its tail's: a subscriber that waits
costs some hundred bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.cursor import Advance, Cursor, Records, Reset, next_step
from zerocopy.core.errors import OverloadError, ZerocopyError
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.service.live.messages import FAILED, Part, reset_items

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.stream import Item, Message
    from zerocopy.service.live.tail import Tail
    from zerocopy.storage.live.following import Look

    class Hub(Protocol):
        """What all subscribers of a worker use."""

        counters: Counters
        clock_ns: Callable[[], int]
        heartbeat_ns: int

        def call_later(self, delay_s: float, call: Callable[[], object]) -> object:
            """Call once, after some seconds."""

        def note_left(self, tail: Tail) -> None:
            """A subscriber has left."""

        def note_failed(self, error: Exception) -> None:
            """A stream ends because of this."""


OVERLOADED = End(1013, "the server is short of descriptors or threads; go on with the cursor")

_NS = 1_000_000_000

_NO_STALL, _MAY_ASK, _STALLED = range(3)
"""Whether its last look failed: not, or it was woken since, or it waits to be."""


class LiveFeed:
    """Everything from `cursor` on, in messages of a `kind`; at least `gap_ns` between two."""

    __slots__ = (
        "_beats", "_day", "_gap_ns", "_hub", "_identity", "_is_new", "_is_paused", "_items",
        "_kind", "_next_ns", "_on_ready", "_position", "_seen", "_skipped", "_spoke_ns", "_stall",
        "_tail", "is_drained",
    )  # fmt: skip

    def __init__(self, hub: Hub, tail: Tail, kind: int, cursor: Cursor, gap_ns: int) -> None:
        self._hub = hub
        self._tail = tail
        self._kind = kind
        self._day, self._position = cursor
        self._identity: object = None
        """Of the files it reads from; None before it has seen any, and while `_items` wait."""
        self._is_new = True
        """No look at its day has ended since it came to it."""
        self._stall = _NO_STALL
        self._items: tuple[Item, ...] = (tail.opening(kind, cursor),)
        self._seen: tuple[int, Look] | None = None
        self._skipped: tuple[int, ...] = ()
        """Days that it has passed over, of which the next message tells."""
        self._beats = False
        self._gap_ns = gap_ns
        self._is_paused = False
        self._next_ns = 0
        self._spoke_ns = hub.clock_ns()  # by a message of its own, or a heartbeat
        self._on_ready: Callable[[], None] | None = None
        self.is_drained = False

    # ---- the Feed of a transport

    def start(self, on_ready: Callable[[], None]) -> None:
        """See `Feed`."""
        self._on_ready = on_ready

    def next(self) -> Item | None:
        """What all get that were up to date before the last append, or what this one needs."""
        tail = self._tail
        identity, first, stop, message = tail.newest[self._kind]
        if (
            first == self._position
            and identity is self._identity
            and stop == tail.aligned
            and not self._gap_ns
            and not self._items
            and not self._skipped
        ):
            tail.tally.note_newest(stop - first)
            tail.wait(self)
            self._position = stop
            self.is_drained = True
            return message
        self.is_drained = False
        if (
            self._position == tail.aligned
            and self._identity is tail.current
            and not self._beats
            and not self._items
        ):
            tail.wait(self)
            return None
        try:
            return self._next()
        except ZerocopyError as error:
            self.fail(error)
            return self._next()

    def close(self) -> None:
        """See `Feed`."""
        self._on_ready = self._seen = None  # what was seen holds files open
        self._items = ()
        self._tail.leave(self)
        self._hub.note_left(self._tail)

    # ---- the Reader of a tail

    def wake(self) -> None:
        """See `Reader`."""
        if self._stall:
            self._stall = _MAY_ASK
        else:
            self._is_new = False
        if self._on_ready is not None:
            self._on_ready()

    def stall(self) -> None:
        """See `Reader`."""
        self._stall = _STALLED

    def beat(self) -> None:
        """See `Reader`."""
        self._beats = True

    def offer(self, version: int, look: Look) -> None:
        """See `Reader`."""
        if self._on_ready is not None and look.sight.day == self._day:  # neither closed nor further
            self._seen = version, look

    def give(self, message: Message, begin: Cursor, stop: int) -> None:
        """See `Reader`."""
        # Else it was asked for twice, or its day is over since.
        if begin == (self._day, self._position) and not self._items:
            self._note_message(stop)
            self._items, self._skipped = (message,), ()

    def fail(self, error: Exception) -> None:
        """See `Reader`."""
        self._hub.note_failed(error)
        self._items = (OVERLOADED if isinstance(error, OverloadError) else FAILED,)

    # ----

    def _next(self) -> Item | None:
        if self._items:
            item, *rest = self._items
            self._items = tuple(rest)
            return item
        while True:
            look = self._look()
            if look is None:
                return self._ask()
            step = next_step(Cursor(self._day, self._position), look.sight, self._identity)
            if isinstance(step, Advance):
                (self._day, self._position), self._identity = step.cursor, None
                self._skipped += look.lacking
                self._hub.counters[slots.DAYS_SKIPPED] += len(look.lacking)
                self._is_new = True
            elif isinstance(step, Records):
                return self._records(look, step)
            elif isinstance(step, Reset):
                return self._reset(step)
            else:
                return self._wait(look)

    def _ask(self) -> Item | None:
        """Ask for a look, unless the last one was in vain and nobody has woken it since."""
        if self._beats:
            return self._heartbeat()  # the look may take long, or be in vain
        if self._stall != _STALLED:
            self._stall = _NO_STALL
            self._tail.seek(self._day, self)
        return None

    def _records(self, look: Look, step: Records) -> Message | None:
        assert look.opened is not None, "records lie in files"
        self._identity = look.opened.identity
        if self._gap_ns and self._must_pause():
            return None
        wanted = Part(step.first, step.stop, self._skipped)
        found = self._tail.message(self._kind, look.opened, wanted, self)
        if found is None:
            return None
        (message, stop), self._skipped = found, ()
        self._note_message(stop)
        return message

    def _reset(self, reset: Reset) -> Item:
        self._hub.counters[slots.LIVE_RESETS] += 1
        item, *rest = reset_items(self._kind, reset)
        self._items = tuple(rest)
        return item

    def _look(self) -> Look | None:
        seen, self._seen = self._seen, None
        if seen is not None and seen[0] == self._tail.version:
            return seen[1]
        # What others have seen may be of files that were replaced before this one came.
        return None if self._is_new else self._tail.look_at(self._day)

    def _wait(self, look: Look) -> Item | None:
        if look.sight.aligned is not None:
            self._identity = look.sight.identity
        # A tail beats when its newest day is quiet; this one may wait for another.
        is_elsewhere = look is not self._tail.look
        quiet_ns = self._hub.clock_ns() - self._spoke_ns
        if self._beats or (is_elsewhere and quiet_ns >= self._hub.heartbeat_ns):
            return self._heartbeat()
        self._tail.wait(self)
        return None

    def _heartbeat(self) -> Item:
        self._beats, self._spoke_ns = False, self._hub.clock_ns()
        return HEARTBEAT

    def _must_pause(self) -> bool:
        """Whether the last message is too young for another; the feed is woken then."""
        left_ns = self._next_ns - self._hub.clock_ns()
        if left_ns <= 0:
            return False
        if not self._is_paused:  # else a client whose pings have it asked again gets many timers
            self._is_paused = True
            self._hub.call_later(left_ns / _NS, self._resume)
        return True

    def _resume(self) -> None:
        self._is_paused = False
        self.wake()

    def _note_message(self, stop: int) -> None:
        tail = self._tail
        is_newest = stop == tail.aligned and tail.tally.grown_ns >= self._spoke_ns
        tail.tally.note_message(stop - self._position, is_newest=is_newest)
        self._spoke_ns = self._hub.clock_ns()
        if self._gap_ns:
            self._next_ns = self._spoke_ns + self._gap_ns
        self._position = stop
        self._beats = False
