"""Which days exist for a series: one directory listing, not a probe for each calendar day.

Owns the listings and proves each reuse of one: a directory's change time moves whenever a name in
it is created, removed or renamed. A listing read within `RACY_NS` of that time is used once and
not kept, because a second change in the same tick of the kernel's clock would not show.

Used from planning threads only; the lock guards a few dictionary operations, never a system call.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.layout import TIME_COLUMN, is_swap_note, parse_file_name

if TYPE_CHECKING:
    from zerocopy.storage.tree import Series

RACY_NS = 100_000_000
"""Younger change times prove nothing: ten ticks of the slowest kernel clock (HZ=100)."""

_READS_MAX = 3
"""Readings of a directory that changes all the while; the last one is taken."""

NAMES_MAX = 4_000_000
"""File names that all kept listings may hold together: 400 MB at the very worst, usually a few MB,
because the days of a series share one set of columns."""


class Stamp(NamedTuple):
    """What must be equal for a file or directory to be unchanged (stat(2)).

    Every write(2), truncation, rename, link or change of mode moves `changed_ns`, and only the
    kernel sets it. A store through a shared mapping may not; recorders append.
    """

    inode: int
    device: int
    size: int
    changed_ns: int


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of what stat(2) told."""
    return Stamp(status.st_ino, status.st_dev, status.st_size, status.st_ctime_ns)


class Listing:
    """The day files of one series: `days` ascending, and the columns of each."""

    __slots__ = ("_columns", "all_columns", "days", "names", "stamp")

    def __init__(self, columns_by_day: dict[int, frozenset[str]], stamp: Stamp) -> None:
        self.days = sorted(columns_by_day)
        self._columns = columns_by_day
        self.all_columns = frozenset[str]().union(*set(columns_by_day.values()))
        self.names = sum(map(len, columns_by_day.values()))
        self.stamp = stamp

    def between(self, first_day: int, last_day: int) -> list[int]:
        """The days that exist from `first_day` to `last_day`, both inclusive, ascending."""
        return self.days[bisect_left(self.days, first_day) : bisect_right(self.days, last_day)]

    def is_unchanged(self, directory_fd: int, begun_ns: int) -> bool:
        """Whether no name can have changed in the directory since the listing was made.

        `begun_ns` is a unix time in nanoseconds before that; see `RACY_NS`.
        """
        if self.stamp.changed_ns >= begun_ns - RACY_NS:
            return False
        return stamp_of(os.fstat(directory_fd)) == self.stamp

    def has_column(self, column: str, directory_fd: int) -> bool:
        """Whether some day has `column`; `directory_fd` is the directory that was listed.

        A writer that replaces the only day takes its `time` away first: it is coming back then.
        """
        if column in self.all_columns:
            return True
        if column != TIME_COLUMN or not self.days:
            return False
        with os.scandir(directory_fd) as entries:
            # Or it has come back since the directory was listed.
            return any(is_swap_note(entry.name) or column == _column_of(entry) for entry in entries)

    def columns_of(self, day: int) -> frozenset[str]:
        """The columns that have a file for `day`."""
        return self._columns[day]


class Catalog:
    """Listings by series, the least recently used forgotten first."""

    def __init__(self, names_max: int = NAMES_MAX) -> None:
        self._names_max = names_max
        self._names = 0
        self._listings: OrderedDict[Series, Listing] = OrderedDict()
        self._lock = threading.Lock()

    def listing(self, series: Series, directory_fd: int) -> Listing:
        """The listing of an open directory of `series`, true as of this call.

        Raises:
            OSError: the directory cannot be read.
        """
        begun_ns = time.time_ns()
        stamp = stamp_of(os.fstat(directory_fd))
        with self._lock:
            known = self._listings.get(series)
            if known is not None and known.stamp == stamp:
                self._listings.move_to_end(series)
                return known
        for _ in range(_READS_MAX):
            listing = _read_listing(directory_fd, stamp)
            after = stamp_of(os.fstat(directory_fd))
            if after == stamp:
                break
            stamp = after  # readdir(3) may miss a name that is renamed meanwhile
        if listing.stamp.changed_ns < begun_ns - RACY_NS:
            self._keep(series, listing)
        return listing

    def _keep(self, series: Series, listing: Listing) -> None:
        with self._lock:
            replaced = self._listings.pop(series, None)
            self._names += listing.names - (replaced.names if replaced else 0)
            self._listings[series] = listing
            while self._names > self._names_max:
                _, evicted = self._listings.popitem(last=False)
                self._names -= evicted.names


def _column_of(entry: os.DirEntry[str]) -> str | None:
    """The column of a day file; None for all else, links too: they are not followed."""
    parsed = parse_file_name(entry.name)
    return parsed[0] if parsed is not None and entry.is_file(follow_symlinks=False) else None


def _read_listing(directory_fd: int, stamp: Stamp) -> Listing:
    columns_by_day: defaultdict[int, list[str]] = defaultdict(list)
    with os.scandir(directory_fd) as entries:
        for entry in entries:
            parsed = parse_file_name(entry.name)
            # Links are not followed below the root, so a link is no day file.
            if parsed is not None and entry.is_file(follow_symlinks=False):
                column, day = parsed
                columns_by_day[day].append(column)
    shared: dict[frozenset[str], frozenset[str]] = {}
    frozen = {
        day: shared.setdefault(columns, columns)
        for day, columns in ((day, frozenset(names)) for day, names in columns_by_day.items())
    }
    return Listing(frozen, stamp)
