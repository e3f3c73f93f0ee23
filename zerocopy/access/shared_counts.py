"""How much each name has had in a window of time, counted by all processes of a server together.

Owns the layout of one shared memory (memfd_create(2)): a row for each process, which alone writes
it, and in a row a table for each policy. A count is the sum over all rows, so nobody takes a lock
or makes a system call. A row outlives its process, and its successor goes on with it.

    header   rows in use, and when the rest of the world was last asked (CLOCK_MONOTONIC, ns)
    row 0    what other servers have counted, by whoever exchanges counts: `exchange.py`
    row n    a process; where somebody exchanges counts it tells the pages on which it counted

A name is found by a tag of 64 bits of its hash, within `PROBES` entries from a place that the same
hash tells. Windows are aligned to the unix epoch: a count holds in the window that stands beside
it and is nothing in any other, whichever way the clock was set.

An entry is written so that whoever reads it amid that finds no more than the old count: the window
is the last word to change. (x86 and ARM store aligned words of 64 bits at once; on ARM, which may
show stores in another order, a request can be counted wrongly at a turn of the window, once.)
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b

REQUESTS, ADDRESSES, BYTES, STREAMS = range(4)
"""Tables of a row, one for each policy."""

TABLES = 4

ENTRIES = 32_768
"""Names of one table and process at once: 1 MiB, of which only pages that are used exist."""

PROBES = 16
"""Entries that may hold a name; when all of them are in use, the least used is forgotten."""

ENTRY_WORDS = 4
_TAG, _WINDOW, _COUNT, _EXTRA = range(ENTRY_WORDS)
"""_EXTRA: 32 bits of quota, below 32 bits of what the window before had (row 0: of its excess)."""

_TABLE_WORDS = ENTRIES * ENTRY_WORDS
HEADER_WORDS = 512  # a page
PAGE_WORDS = 512
PAGES_PER_TABLE = _TABLE_WORDS // PAGE_WORDS
_PAGES = TABLES * PAGES_PER_TABLE
_LIFE, _CLAIMS, _TURNS = 0, 1, PAGE_WORDS
_ROW_HEADER_WORDS = PAGE_WORDS + _PAGES
ROW_WORDS = _ROW_HEADER_WORDS + TABLES * _TABLE_WORDS

_ROWS, _ASKED_NS = 0, 1
_LOW = 0xFFFF_FFFF

WORLD = 0
"""The row of other servers."""


def make_counts() -> int:
    """A descriptor of shared memory with the row of other servers alone."""
    fd = os.memfd_create("zerocopy-limits")
    add_rows(fd, 1)
    return fd


def add_rows(fd: int, rows: int) -> None:
    """Make room for so many rows in all; those that are there stay."""
    if os.fstat(fd).st_size < (HEADER_WORDS + rows * ROW_WORDS) * 8:
        os.ftruncate(fd, (HEADER_WORDS + rows * ROW_WORDS) * 8)
        header = memoryview(mmap.mmap(fd, HEADER_WORDS * 8)).cast("Q")
        header[_ROWS] = rows


class Meter:
    """One name in one table, and where it was found in each row."""

    __slots__ = ("claims", "home", "places", "table", "tag")

    def __init__(self, table: int, tag: int) -> None:
        self.table = table
        self.tag = tag
        self.home = tag % (ENTRIES - PROBES + 1)
        self.places: list[int] = []  # 0: not there, when the row had so many `claims`
        self.claims: list[int] = []


def meter_of(table: int, name: str) -> Meter:
    """The meter of a name; all servers give it the same tag."""
    digest = blake2b(name.encode(), digest_size=8).digest()
    # The highest bit: never the tag of an empty entry, nor a word of a header.
    return Meter(table, int.from_bytes(digest, "big") | 1 << 63)


class SharedCounts:
    """The counts, for the process that owns `row`.

    `asks_world`: whether somebody fills the row of other servers.
    """

    def __init__(self, fd: int, row: int, *, asks_world: bool = False) -> None:
        self._fd = fd
        self._row = row
        self._first = WORLD if asks_world else WORLD + 1
        self._tables = self._base(row) + _ROW_HEADER_WORDS
        self._turns = self._base(row) + _TURNS if asks_world else 0
        self._rows = 0
        self.forgotten = 0
        """Names that were forgotten in a window that had not ended, for want of room."""
        self._map()

    def _map(self) -> None:
        """Map all rows that there are; what was mapped before goes with its last reader."""
        self.words = memoryview(mmap.mmap(self._fd, 0)).cast("Q")
        self._rows = self.words[_ROWS]

    def begin(self) -> None:
        """This process begins: streams that its predecessor had in this row are gone."""
        self.words[self._base(self._row) + _LIFE] += 1

    # ---- what is read

    def total(self, meter: Meter, window: int) -> int:
        """How much a name has had in a window, over all processes (and servers)."""
        words = self.words
        if words[_ROWS] != self._rows:
            self._map()
            words = self.words
        places, tag, total = meter.places, meter.tag, 0
        if len(places) < self._rows:
            places += [0] * (self._rows - len(places))
            meter.claims += [-1] * (self._rows - len(meter.claims))
        for row in range(self._first, self._rows):
            place = places[row]
            if words[place] != tag:
                place = self._find(meter, row)
                if not place:
                    continue
            if words[place + _WINDOW] == window:
                total += words[place + _COUNT]
            elif row == WORLD:
                total += self._carried(place, window)
        return total

    def _carried(self, place: int, window: int) -> int:
        """What is left in `window` of an excess in one before, each of which takes off a quota.

        Only other servers' row has one: they are told of each other's requests too late to refuse
        all that exceed.
        """
        words = self.words
        passed = window - words[place + _WINDOW]
        excess, quota = words[place + _EXTRA] >> 32, words[place + _EXTRA] & _LOW
        return max(0, excess - (passed - 1) * quota) if passed > 0 else 0

    def streams(self, meter: Meter) -> int:
        """How many streams a name has now: those of processes that live."""
        self.total(meter, 0)  # finds it in every row
        words, total = self.words, 0
        for row in range(WORLD + 1, self._rows):
            place = meter.places[row]
            if words[place] == meter.tag and words[place + _WINDOW] == self._life(row):
                total += words[place + _COUNT]
        return total

    # ---- what is written

    def add(self, meter: Meter, window: int, amount: int, quota: int = 0) -> None:
        """Count `amount` for a name in a window; `quota` is told to whoever exchanges counts."""
        words, place = self.words, self._own(meter, window)
        if words[place + _WINDOW] == window:
            words[place + _COUNT] += amount
        else:
            # What the window before had at its end: whoever exchanges counts may not have seen it.
            is_next = words[place + _WINDOW] == window - 1
            before = min(words[place + _COUNT], _LOW) if is_next else 0
            words[place + _COUNT] = amount
            words[place + _EXTRA] = before << 32 | min(quota, _LOW)
            words[place + _WINDOW] = window
        if self._turns:
            self._tell(place)

    def give_back(self, meter: Meter, window: int, amount: int) -> None:
        """Take back what was counted in a window, unless that has passed."""
        words, place = self.words, self._own(meter, window)
        if words[place + _WINDOW] == window:
            words[place + _COUNT] = max(0, words[place + _COUNT] - amount)
            if self._turns:
                self._tell(place)

    def _tell(self, place: int) -> None:
        """A page has changed; after the change, so that whoever sees this sees that."""
        self.words[self._turns + (place - self._tables) // PAGE_WORDS] += 1

    def add_stream(self, meter: Meter) -> None:
        """One more stream."""
        self.add(meter, self._life(self._row), 1)

    def end_stream(self, meter: Meter) -> None:
        """One less."""
        self.give_back(meter, self._life(self._row), 1)

    def _own(self, meter: Meter, window: int) -> int:
        places = meter.places
        place = places[self._row] if self._row < len(places) else 0
        if self.words[place] == meter.tag:
            return place
        if not places:
            self.total(meter, window)
        return self._find(meter, self._row) or self._claim(meter, window)

    # ---- where a name is

    def _base(self, row: int) -> int:
        return HEADER_WORDS + row * ROW_WORDS

    def _life(self, row: int) -> int:
        return self.words[self._base(row) + _LIFE]

    def _home(self, meter: Meter, row: int) -> int:
        table = self._base(row) + _ROW_HEADER_WORDS + meter.table * _TABLE_WORDS
        return table + meter.home * ENTRY_WORDS

    def _find(self, meter: Meter, row: int) -> int:
        """The place of a name in a row, or 0. A row in which nothing was claimed is as it was."""
        words = self.words
        claims = words[self._base(row) + _CLAIMS]
        if meter.claims[row] == claims and not meter.places[row]:
            return 0
        home = self._home(meter, row)
        tags = words[home : home + PROBES * ENTRY_WORDS : ENTRY_WORDS].tolist()
        place = home + tags.index(meter.tag) * ENTRY_WORDS if meter.tag in tags else 0
        meter.places[row], meter.claims[row] = place, claims
        return place

    def _claim(self, meter: Meter, window: int) -> int:
        """Make a place for a name in our own row: an empty one, a past one, or the least used."""
        words, home = self.words, self._home(meter, self._row)
        places = range(home, home + PROBES * ENTRY_WORDS, ENTRY_WORDS)

        def use(place: int) -> int:
            if not words[place]:
                return -2
            return words[place + _COUNT] if words[place + _WINDOW] == window else -1

        place = min(places, key=use)
        self.forgotten += use(place) > 0
        words[place + _WINDOW] = 0  # from here on it counts as nothing
        words[place + _COUNT] = 0
        words[place] = meter.tag
        words[self._base(self._row) + _CLAIMS] += 1
        meter.places[self._row] = place
        return place

    # ---- other servers

    @property
    def rows(self) -> range:
        """The rows of processes that there are now."""
        if self.words[_ROWS] != self._rows:
            self._map()
        return range(WORLD + 1, self._rows)

    def turns(self, row: int) -> list[int]:
        """How often each page of a row has changed."""
        first = self._base(row) + _TURNS
        return self.words[first : first + _PAGES].tolist()

    def page(self, row: int, page: int) -> bytes:
        """The words of a page, entry after entry, as they are now."""
        first = self._base(row) + _ROW_HEADER_WORDS + page * PAGE_WORDS
        return self.words[first : first + PAGE_WORDS].tobytes()

    def set_world(
        self, meter: Meter, window: int, *, count: int, excess: int = 0, quota: int = 0
    ) -> None:
        """What other servers have counted; `excess` is what all exceeded `quota` in this window."""
        words, place = self.words, self._own(meter, window)
        words[place + _WINDOW] = 0
        words[place + _COUNT] = count
        words[place + _EXTRA] = excess << 32 | min(quota, _LOW)
        words[place + _WINDOW] = window

    @property
    def asked_ns(self) -> int:
        """When other servers' counts were last exchanged; 0: not yet."""
        return self.words[_ASKED_NS]

    @asked_ns.setter
    def asked_ns(self, now_ns: int) -> None:
        self.words[_ASKED_NS] = now_ns
