"""Roll-ups as /api/bars uses them: looked up for each day of a plan, made in the background.

Owns the queue of what is to be made, and the one thread that makes it, a day file at a time. What
cannot be made is remembered, so that no query asks for it again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.layout import TIME_COLUMN
from zerocopy.service.thread_work import computing_threads
from zerocopy.storage.dayfile import DayFile
from zerocopy.storage.rollup_file import Key, Wanted
from zerocopy.storage.rollup_making import Outcome
from zerocopy.storage.rollups import RECORDS_MIN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from zerocopy.core.plan import DayRecords, Plan
    from zerocopy.storage.rollup_file import Rollup
    from zerocopy.storage.rollup_making import Maker
    from zerocopy.storage.rollups import Rollups
    from zerocopy.storage.tree import Series

WAITING_MAX = 10_000
"""Roll-ups that wait to be made, and as many that cannot be made; further ones are not noted."""


class RollupWork:
    """Finds roll-ups and has missing ones made. Used by the threads that compute bars."""

    def __init__(self, rollups: Rollups, maker: Maker) -> None:
        self.rollups = rollups
        self._maker = maker
        self._executor = computing_threads(1, "rollup")
        self._waiting: OrderedDict[Wanted, None] = OrderedDict()
        self._hopeless: OrderedDict[Wanted, None] = OrderedDict()
        self._is_making = False
        self._has_trimmed = False
        self._lock = threading.Lock()

    def ahead(self, plan: Plan, series: Series, columns: Collection[str]) -> PlanAhead:
        """What is known ahead of the days of a plan; blocks."""
        return PlanAhead(self, plan, series, columns)

    def want(self, wanted: Iterable[Wanted]) -> None:
        """Have these made some time, those that are asked for first first."""
        with self._lock:
            for each in wanted:
                if each not in self._hopeless and len(self._waiting) < WAITING_MAX:
                    self._waiting[each] = None
            has_trimmed, self._has_trimmed = self._has_trimmed, True
            is_idle = not self._is_making and bool(self._waiting)
            self._is_making = self._is_making or is_idle
        if not has_trimmed:  # the bound may be lower than that of the process before
            with suppress(RuntimeError):
                self._executor.submit(self.rollups.trim)
        if is_idle:
            self._go_on()

    def _go_on(self) -> None:
        # One at a time: a process that ends waits for what its threads have been given.
        try:
            self._executor.submit(self._make_next)
        except RuntimeError:  # the process ends, or is out of threads: the next query tries again
            with self._lock:
                self._is_making = False

    def _make_next(self) -> None:
        with self._lock:
            wanted, _ = self._waiting.popitem(last=False)
        outcome = self._maker.make(wanted.key, wanted.dtype)
        with self._lock:
            if outcome is Outcome.NEVER:
                self._hopeless[wanted] = None
                while len(self._hopeless) > WAITING_MAX:
                    self._hopeless.popitem(last=False)
            if not self._waiting:
                self._is_making = False
                return
        self._go_on()


class DayAhead:
    """The roll-ups of one day that a query needs, all of them; see `core.levels.Ahead`."""

    def __init__(self, rollups: Rollups, found: Mapping[Wanted, Rollup]) -> None:
        self._rollups = rollups
        self._found = dict(found)
        [first, *_] = self._found.values()
        self.records = first.records
        self.span = first.first_s, first.last_s
        self.lost: list[Wanted] = []
        """Those whose minutes are not there; they are to be made again."""

    def level(self, level: int) -> dict[str, bytes] | None:
        """The rows of one level by column, None if they cannot be had."""
        rows: dict[str, bytes] = {}
        for wanted, rollup in self._found.items():
            data = (rollup.day, rollup.hour, rollup.minute)[level]
            if data is None:
                again = self._rollups.find(wanted, minutes=True)
                if again is None or again.minute is None:
                    self.lost.append(wanted)
                    return None
                self._found[wanted], data = again, again.minute
            rows[wanted.key.column] = data
        return rows


class PlanAhead:
    """What is known ahead of the days of `plan`, of its `columns`; blocks.

    Only closed days count, and only if the plan has all records that a roll-up was made of: a
    column that is shorter than the others cuts the day for all.
    """

    def __init__(
        self, work: RollupWork, plan: Plan, series: Series, columns: Collection[str]
    ) -> None:
        self._work = work
        self._dtypes = {column.name: column.dtype for column in plan.columns}
        self._series = series
        self._columns = columns
        self._missing: list[Wanted] = []
        self._plan = plan
        self.days = {day.day: ahead for day in plan.days if (ahead := self._day(day))}

    def _day(self, day: DayRecords) -> DayAhead | None:
        files = {
            name: source
            for name, source in zip(self._dtypes, day.sources, strict=True)
            if isinstance(source, DayFile) and source.is_closed
        }
        if day.records.first == day.records.stop or len(files) < len(day.sources):
            return None
        length = min(each.size // self._dtypes[name].nbytes for name, each in files.items())
        if length < RECORDS_MIN:
            return None
        times = files[TIME_COLUMN].stamp
        found: dict[Wanted, Rollup] = {}
        for column in self._columns:
            key = Key(self._series, day.day, column)
            wanted = Wanted(key, self._dtypes[column], times, files[column].stamp)
            rollup = self._work.rollups.find(wanted)
            if rollup is None:
                self._missing.append(wanted)
            elif rollup.records == length:
                found[wanted] = rollup
        if len(found) < len(self._columns):
            return None
        return DayAhead(self._work.rollups, found)

    def spared(self) -> Iterator[DayFile]:
        """The files of days of which a roll-up has all that the plan wants."""
        for day in self._plan.days:
            known = self.days.get(day.day)
            if known is not None and day.records == (0, known.records):
                yield from (each for each in day.sources if isinstance(each, DayFile))

    def close(self) -> None:
        """Count what was of use, and have made what was missing."""
        rollups = self._work.rollups
        rollups.count(slots.ROLLUPS_USED, len(self.days) * len(self._columns))
        lost = [wanted for day in self.days.values() for wanted in day.lost]
        self._work.want([*self._missing, *lost])
