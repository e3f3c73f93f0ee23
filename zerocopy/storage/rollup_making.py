"""How a roll-up is made: all records of one column of one closed day are read, once.

Owns the conditions under which the result is believed. The files are the wanted ones, old enough
that a change would show, and still the same when all was read. It imports numpy when it is used.
"""

from __future__ import annotations

import enum
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from zerocopy.core.errors import DataError, NotFoundError, OverloadError
from zerocopy.core.http.validators import NS_PER_S
from zerocopy.core.layout import TIME_COLUMN
from zerocopy.core.timeindex import RecordRange, UnsortedError
from zerocopy.storage.catalog import RACY_NS
from zerocopy.storage.records import DayReader
from zerocopy.storage.rollup_file import Wanted, rollup_of
from zerocopy.storage.rollups import RECORDS_MIN

if TYPE_CHECKING:
    from zerocopy.core.layout import Dtype
    from zerocopy.core.settling import Settling
    from zerocopy.storage.rollup_file import Key, Rollup
    from zerocopy.storage.rollups import DaySource, Rollups


class Outcome(enum.StrEnum):
    """What came of a roll-up that was to be made."""

    MADE = "made"
    THERE = "there"
    LATER = "later"
    """The day is open, its files change or cannot be read now."""
    NEVER = "never"
    """Too few records, text, times that do not ascend or touch too many hours."""


class Maker:
    """Makes roll-ups of the day files of `source`. Safe to use from several threads."""

    def __init__(self, source: DaySource, settling: Settling, rollups: Rollups) -> None:
        self._source = source
        self._settling = settling
        self._rollups = rollups

    def make(self, key: Key, dtype: Dtype) -> Outcome:
        """Assure that a roll-up is kept of the files as they are now; blocks for long."""
        try:
            with ExitStack() as stack:
                return self._make(key, dtype, stack)
        except UnsortedError:
            return Outcome.NEVER
        except (DataError, NotFoundError, OverloadError, OSError):
            return Outcome.LATER

    def _make(self, key: Key, dtype: Dtype, stack: ExitStack) -> Outcome:
        begun_ns = time.time_ns()
        opened = self._source.open(stack, key.series, key.day, (TIME_COLUMN, key.column))
        changed_ns = max(each.changed_ns for each in opened.values())
        closes_s = self._settling.closes_s(key.day, changed_ns)
        if closes_s > begun_ns / NS_PER_S or changed_ns >= begun_ns - RACY_NS:
            return Outcome.LATER
        sizes = {TIME_COLUMN: 4, key.column: dtype.nbytes}
        records = min(opened[column].stamp.size // size for column, size in sizes.items())
        if records < RECORDS_MIN or dtype.name.startswith("|S"):
            return Outcome.NEVER
        wanted = Wanted(key, dtype, opened[TIME_COLUMN].stamp, opened[key.column].stamp)
        if self._rollups.find(wanted, minutes=True) is not None:
            return Outcome.THERE
        fds = {column: each.fd for column, each in opened.items()}
        rollup = _computed(fds, sizes, records, wanted)
        if rollup is None:
            return Outcome.NEVER
        if not all(map(self._source.is_same, opened.values())):
            return Outcome.LATER
        self._rollups.save(key, rollup)
        return Outcome.MADE


def _computed(
    fds: dict[str, int], sizes: dict[str, int], records: int, wanted: Wanted
) -> Rollup | None:
    # Loads numpy, for a tenth of a second.
    from zerocopy.core.cuts import CHUNK_RECORDS  # noqa: PLC0415
    from zerocopy.core.levels import levels_of  # noqa: PLC0415

    buffer = bytearray(CHUNK_RECORDS * max(sizes.values()))
    day = DayReader(RecordRange(0, records), fds, sizes, buffer)
    levels = levels_of(day, wanted.key.column, wanted.dtype)
    if levels is None:
        return None
    span = day.times.at(0), day.times.at(records - 1)
    return rollup_of(levels, wanted, span, records)
