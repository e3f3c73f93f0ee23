"""What the listings of one series say to those who follow it.

Owns two listings' worth of days, and how each day was seen last. It asks nobody.
"""

from __future__ import annotations

import math
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.http.validators import NS_PER_S
from zerocopy.core.layout import TIME_COLUMN, file_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from weakref import ref

    from zerocopy.storage.store.listings import StoreListing
    from zerocopy.storage.store.objectstore import Entry
    from zerocopy.storage.store.storedday import Keys, StoredDay

VERSIONS_MAX = 64
"""Days of a line of which it is kept how they were seen: more than are read at a time."""


class Version(NamedTuple):
    """How a day was seen: its entries, its aligned records, and what names it to its readers."""

    entries: Mapping[str, Entry]
    aligned: int
    keys: Keys
    opened: ref[StoredDay]


class Line:
    """The days of one series and of some columns, whose record `sizes` are those of `time` as well.

    A day that has all but its `time` is being put or replaced (`pushing.py`). It counts as one that
    has records, until nothing was seen to happen to it for `settle_s`.

    Whoever uses it holds its `lock`, also while it waits for a listing.
    """

    __slots__ = (
        "__weakref__", "_absent", "_before", "_days", "_listed_s", "_others", "_settle_s",
        "_settles_s", "lock", "sizes", "versions",
    )  # fmt: skip

    def __init__(self, sizes: Mapping[str, int], settle_s: float) -> None:
        self.lock = threading.Lock()
        self.sizes = sizes
        self.versions: OrderedDict[int, Version] = OrderedDict()
        self._others = sizes.keys() - {TIME_COLUMN}
        self._settle_s = settle_s
        self._listed_s = -1.0
        self._days = array("I")
        self._before = array("I")  # the same, of the listing before
        self._absent: dict[int, float] = {}  # since when a day was seen without `time`
        self._settles_s = math.inf  # when one of them is given up

    def note(self, listing: StoreListing, now_s: float) -> None:
        """Take over what a listing says; `now_s` are unix seconds."""
        if listing.listed_s == self._listed_s and now_s < self._settles_s:
            return
        days, absent, self._settles_s = array("I"), dict[int, float](), math.inf
        for day in listing.days.days:
            columns = listing.days.columns_of(day)
            if TIME_COLUMN not in columns and columns >= self._others:
                absent[day] = self._absent.get(day, now_s)
                names = (file_name(column, day) for column in columns)
                changed_ns = max(listing.entries[name].modified_ns for name in names)
                settles_s = max(absent[day], changed_ns / NS_PER_S) + self._settle_s
                if settles_s > now_s:
                    self._settles_s = min(self._settles_s, settles_s)
                    days.append(day)
            elif self.aligned(listing, day):
                days.append(day)
        if listing.listed_s != self._listed_s:
            # One from before the last tells nothing of what was there before it was made.
            self._before = self._days if listing.listed_s > self._listed_s else array("I")
            self._listed_s = listing.listed_s
        self._days, self._absent = days, absent

    def aligned(self, listing: StoreListing, day: int) -> int:
        """The aligned records of a day; 0 where a column has no file."""
        least = math.inf
        for column, size in self.sizes.items():
            entry = listing.entries.get(file_name(column, day))
            least = min(least, 0 if entry is None else entry.size // size)
        return int(least)

    @property
    def newest(self) -> int | None:
        """The last day that has records."""
        return self._days[-1] if self._days else None

    def later(self, day: int) -> int | None:
        """The first day behind `day` that has records."""
        place = bisect_right(self._days, day)
        return self._days[place] if place < len(self._days) else None

    def is_sure(self, day: int) -> bool:
        """Whether it had records before the last listing was begun."""
        return _has(self._before, day)

    def is_absent(self, day: int) -> bool:
        """Whether it is without its `time`, which will come."""
        return day in self._absent and _has(self._days, day)

    def keep(self, day: int, version: Version) -> None:
        """Note how a day was seen."""
        self.versions[day] = version
        self.versions.move_to_end(day)
        if len(self.versions) > VERSIONS_MAX:
            self.versions.popitem(last=False)


def _has(days: array[int], day: int) -> bool:
    place = bisect_left(days, day)
    return place < len(days) and days[place] == day
