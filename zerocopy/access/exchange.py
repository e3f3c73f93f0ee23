"""What several servers have counted, brought together by way of Redis or Valkey.

Owns the exchange. Each server adds to a sum in the store what its processes have counted since the
last exchange, and learns the sum. What is not its own is the others', and is written into their row
of the shared counts. So no request ever waits for the store. A server that counts a name knows an
exchange later what all have counted.

Until then each of them may admit a whole quota. That excess is not forgiven: it takes off the
seconds that follow, a quota each. So over any time the servers together admit what one would, and
besides what each admits within an exchange: two quotas at most, around the turn of a second. The
excess is written beside the sum, for it has to hold from the first request of a second on. (Of a
day it is forgiven: days are too long to make up for.)

The store holds numbers that expire, `TABLE:TAG:WINDOW`: neither names nor addresses.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from zerocopy.access.shared_counts import (
    ADDRESSES,
    BYTES,
    ENTRY_WORDS,
    PAGE_WORDS,
    PAGES_PER_TABLE,
    REQUESTS,
    WORLD,
    Meter,
    SharedCounts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

WINDOWS_S = {REQUESTS: 1, ADDRESSES: 1, BYTES: 86_400}
_NAMES = {REQUESTS: "requests", ADDRESSES: "address", BYTES: "bytes"}

SETTLE_S = 0.5
"""After the end of a second, or after we have counted: what others count meanwhile still comes."""

EXPIRES_S = {1: 60, 86_400: 2 * 86_400}
"""By the length of a window: how long the store keeps a sum."""

FORGET_MIN, FORGET_PARTS = 64, 16
"""Names that a step looks at, to forget those that are over: a part of all, so that however many
new ones come in a second, those of some seconds are kept."""

_READS_MAX = 4
_Entry = tuple[int, int, int, int]
_TAG, _WINDOW, _COUNT, _EXTRA = range(ENTRY_WORDS)

_EMPTY_PAGE = bytes(PAGE_WORDS * 8)
_EMPTY_TURNS = [0] * (PAGES_PER_TABLE * 4)


class AwayError(Exception):
    """The store did not answer, or refused; the text says which."""


class Store(Protocol):
    """Sums that all servers add to."""

    def add(self, amounts: Sequence[tuple[str, int, int]]) -> list[int]:
        """Add to each key (with the seconds that it lives, and how much). Returns the sums.

        Raises:
            AwayError: nobody knows which of them were added.
        """

    def check(self) -> None:
        """Assure that it would add something.

        Raises:
            AwayError: it would not.
        """


class _Sum:
    """What all servers have counted of one name in one window, as far as we know."""

    __slots__ = ("carried", "pending", "sent", "total", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.pending = 0  # of ours, that the store has not got
        self.sent = 0  # of ours, that it has
        self.total = 0
        self.carried = 0  # of the excess of windows before


class _Name:
    """One name: its sum now and in the window before."""

    __slots__ = ("before", "counted_s", "meter", "now", "quota")

    def __init__(self, meter: Meter, window: int) -> None:
        self.meter = meter
        self.quota = 0
        self.counted_s = 0.0  # when one of our processes last did
        self.now = _Sum(window)
        self.before: _Sum | None = None

    def sum_in(self, window: int, window_now: int) -> _Sum | None:
        """The sum of a window, begun if it is a new one; None if it is long past, or far ahead."""
        if abs(window - window_now) > 1:
            return None
        if self.now.window > window_now + 1:  # the clock was set back
            self.before, self.now = None, _Sum(window)
        if window > self.now.window:
            self.before, self.now = self.now, _Sum(window)
        for each in (self.now, self.before):
            if each is not None and each.window == window:
                return each
        return None

    def excess(self, each: _Sum) -> int:
        """What is to be taken off the windows behind one."""
        if WINDOWS_S[self.meter.table] > 1 or not self.quota:
            return 0
        return max(0, each.total + each.carried - self.quota)

    def carry(self) -> None:
        """Take what is left of the excess before into the present window."""
        if self.before is not None:
            passed = self.now.window - self.before.window
            self.now.carried = max(0, self.excess(self.before) - (passed - 1) * self.quota)

    def is_open(self, each: _Sum, now_s: float) -> bool:
        """Whether the sum of a window is asked for although we have nothing to add."""
        width_s = WINDOWS_S[self.meter.table]
        end_s = each.window + width_s if width_s == 1 else self.counted_s
        return now_s < end_s + SETTLE_S

    def is_over(self, now_s: float) -> bool:
        """Whether nothing of it matters any more."""
        width_s = WINDOWS_S[self.meter.table]
        passed = now_s // width_s - self.now.window
        return passed > 1 and self.excess(self.now) <= (passed - 1) * self.quota


class Exchange:
    """The exchange of one server. Used in one thread, which alone writes the row of the others."""

    def __init__(
        self,
        counts_fd: int,
        store: Store,
        *,
        clock: Callable[[], float] = time.time,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._counts = SharedCounts(counts_fd, WORLD)
        self._store = store
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._turns: dict[int, list[int]] = {}
        self._pages: dict[tuple[int, int], bytes] = {}
        self._names: dict[tuple[int, int], _Name] = {}
        self._active: dict[tuple[int, int], _Name] = {}
        self._is_away = False
        self._now_s = 0.0  # of the present step

    def step(self) -> int:
        """Exchange what has changed. Returns how many sums that were.

        Raises:
            AwayError: the store is away. What was on its way counts as sent, for it may have come;
                all else goes with the next step.
        """
        now_s = self._now_s = self._clock()
        self._look()
        due = [
            (name, each)
            for name in self._active.values()
            for each in (name.before, name.now)
            if each is not None and (each.pending or name.is_open(each, now_s))
        ]
        amounts = [(_key(name, each), _expiry(name), each.pending) for name, each in due]
        try:
            if self._is_away or not due:
                self._store.check()
            for _, each in due:
                each.sent, each.pending = each.sent + each.pending, 0
            sums = self._store.add(amounts) if due else []
        except AwayError:
            self._is_away = True
            raise
        self._is_away = False
        for (_, each), (_, _, amount), total in zip(due, amounts, sums, strict=True):
            each.total = total
            if total < each.sent:  # the store has lost what it had
                each.pending, each.sent = each.sent - amount, amount
        for name in {id(name): name for name, _ in due}.values():
            self._tell(name)
        self._forget(now_s)
        self._counts.asked_ns = self._monotonic_ns()
        return len(due)

    def _tell(self, name: _Name) -> None:
        """Write what the others have, and what is left of an excess."""
        name.carry()
        each = name.now
        self._counts.set_world(
            name.meter,
            each.window,
            count=max(0, each.total - each.sent) + each.carried,
            excess=name.excess(each),
            quota=name.quota,
        )

    def _forget(self, now_s: float) -> None:
        for key, name in list(self._active.items()):
            sums = [each for each in (name.before, name.now) if each is not None]
            if not any(each.pending or name.is_open(each, now_s) for each in sums):
                del self._active[key]
        some = max(FORGET_MIN, len(self._names) // FORGET_PARTS)
        for key, name in list(islice(self._names.items(), some)):
            del self._names[key]  # some of them each time, in turn
            if key in self._active or not name.is_over(now_s):
                self._names[key] = name

    # ---- what our own processes have counted

    def _look(self) -> None:
        """Find what has changed since the last look."""
        for row in self._counts.rows:
            turns, before = self._counts.turns(row), self._turns.get(row, _EMPTY_TURNS)
            if turns != before:
                for page, (now, then) in enumerate(zip(turns, before, strict=True)):
                    if now != then:
                        self._read(row, page)
                self._turns[row] = turns

    def _read(self, row: int, page: int) -> None:
        table = page // PAGES_PER_TABLE
        if table not in WINDOWS_S:
            return
        data, before = self._counts.page(row, page), self._pages.get((row, page), _EMPTY_PAGE)
        for _ in range(_READS_MAX):  # an entry that is being written is another one at once
            last, data = data, self._counts.page(row, page)
            if data == last:
                break
        self._pages[row, page] = data
        for entry, old in zip(_entries(data), _entries(before), strict=True):
            if entry != old and entry[_WINDOW]:
                self._compare(table, entry, old)

    def _compare(self, table: int, entry: _Entry, old: _Entry) -> None:
        """Note what one entry has more than at the last look, in its window and in that before."""
        tag, window, count, extra = entry
        last, quota = window - 1, extra & 0xFFFF_FFFF
        seen = {old[_WINDOW]: old[_COUNT], old[_WINDOW] - 1: old[_EXTRA] >> 32}
        if tag != old[_TAG]:
            seen = {}
        if window != old[_WINDOW] and table != BYTES:
            self._note(table, tag, last, (extra >> 32) - seen.get(last, 0), quota)
        self._note(table, tag, window, count - seen.get(window, 0), quota)

    def _note(self, table: int, tag: int, window: int, change: int, quota: int) -> None:
        """One of our processes has counted."""
        if not change:
            return
        name = self._names.get((table, tag))
        if name is None:
            name = self._names[table, tag] = _Name(Meter(table, tag), window)
        name.quota = quota or name.quota
        each = name.sum_in(window, int(self._now_s // WINDOWS_S[table]))
        if each is not None:
            each.pending += change
            name.counted_s = self._now_s
            self._active[table, tag] = name


def _entries(page: bytes) -> Iterator[_Entry]:
    words = memoryview(page).cast("Q").tolist()
    return zip(*(words[at::ENTRY_WORDS] for at in range(ENTRY_WORDS)), strict=True)


def _key(name: _Name, each: _Sum) -> str:
    return f"{_NAMES[name.meter.table]}:{name.meter.tag:016x}:{each.window}"


def _expiry(name: _Name) -> int:
    return EXPIRES_S[WINDOWS_S[name.meter.table]]
