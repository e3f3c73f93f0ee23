"""The work of /api/bars: plan, read, compute, and write the content of the response.

Owns the rounds of equal queries. A query that arrives while an equal one is computed waits for the
next round, so it never gets what was read before it arrived, and any number of clients that ask for
the same bars cost one round after another. It runs in threads of its own, so plans never wait for
it. numpy is imported by the first query.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zerocopy.core.bars import COMPUTING_THREADS, BarsQuery, choose_interval, too_many_bars
from zerocopy.core.errors import (
    BadRequestError,
    DataChangedError,
    DataError,
    NotFetchedError,
    StoreError,
)
from zerocopy.core.http.validators import NS_PER_S, document_validators
from zerocopy.core.layout import TIME_COLUMN, day_label
from zerocopy.core.plan import Representation
from zerocopy.core.timeindex import UnsortedError
from zerocopy.formats.bars import bars_plan
from zerocopy.service.coalesce import Coalescer
from zerocopy.service.representations import compressed, written
from zerocopy.service.rollups import RollupWork
from zerocopy.service.thread_work import computing_threads
from zerocopy.storage.planner import CLOCK_TICK_NS, Planned
from zerocopy.storage.records import Capture, PlanReader
from zerocopy.storage.rollup_making import Maker
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zerocopy.core.aggregate import Bars
    from zerocopy.core.bars import Interval
    from zerocopy.core.layout import Dtype
    from zerocopy.core.plan import DayRecords, Plan
    from zerocopy.core.timeindex import RecordRange
    from zerocopy.service.rollups import PlanAhead
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.planner import QueryPlanner
    from zerocopy.storage.records import DayReader

_ATTEMPTS = 3
"""How often a query starts anew if a file is replaced while it is read."""


@dataclass(slots=True)
class _Round:
    """Equal queries; `asking` counts the requests that wait for them."""

    calls: Coalescer[BarsQuery, Planned]
    asking: int = 0


class BarsWork:
    """Computes bars in threads of its own. Used in the event loop's thread only."""

    def __init__(self, planner: QueryPlanner, files: OpenFiles) -> None:
        self._planner = planner
        self._files = files
        self._rollups = _rollup_work(planner)
        self._executor = computing_threads(COMPUTING_THREADS, "bars")
        self._rounds: dict[BarsQuery, _Round] = {}

    async def ask(self, query: BarsQuery) -> Planned:
        """The content of the response to `query`, with what proves it; holds no descriptors.

        Raises:
            BadRequestError: a column is text, or there are too many bars.
            NotInstalledError: the format needs an extra.
            NotFoundError: the exchange, symbol or type does not exist, or no day has a column.
            DataError: a file cannot be read, or the times of a day are not sorted.
            StoreError: a file cannot be fetched.
        """
        this = self._rounds.get(query)
        if this is None:
            this = self._rounds[query] = _Round(Coalescer(self._executor, self._answers))
        this.asking += 1
        try:
            return await this.calls.ask(query)
        finally:
            this.asking -= 1
            if not this.asking:
                del self._rounds[query]  # the next one asks anew

    def _answers(self, queries: list[BarsQuery]) -> dict[BarsQuery, Planned | Exception]:
        """The answers of one round, which has one query; blocks, for a thread."""
        return {query: self._compute(query) for query in queries}

    def _compute(self, query: BarsQuery) -> Planned:
        changed: Exception | None = None
        for _ in range(_ATTEMPTS):
            capture = Capture()
            planned = self._planner.plan(query.records, capture)
            try:
                return self._written(query, planned, capture.plans[-1])
            except NotFetchedError as error:
                raise StoreError("the object store cannot be read now; try again") from error
            except DataChangedError as error:
                changed = error
                time.sleep(CLOCK_TICK_NS / NS_PER_S)
            finally:
                planned.close()
        raise DataError("the day files changed faster than they could be read") from changed

    def _written(self, query: BarsQuery, planned: Planned, plan: Plan) -> Planned:
        """`planned` with the whole content in it, and a tag of that content."""
        # Loads numpy, for a tenth of a second.
        from zerocopy.core.aggregate import Bars  # noqa: PLC0415
        from zerocopy.core.cuts import CHUNK_RECORDS, TooManyBarsError  # noqa: PLC0415

        dtypes = {column.name: column.dtype for column in plan.columns}
        _refuse_text(query, dtypes)
        series = Series(*_series(query))
        with PlanReader(self._files, series, plan, planned, CHUNK_RECORDS) as reader:
            ahead = self._ahead(query, plan, series)
            if ahead is not None:
                self._planner.day_source.spare(ahead.spared())
            days = _Days(reader, plan, ahead, dtypes)
            interval = query.interval
            if interval is None:
                interval = choose_interval(days.span(), query.max_points)
            bars = Bars(interval, query.outputs, dtypes, query.bars_max)
            try:
                days.add_to(bars, interval)
                columns = bars.columns()
            except TooManyBarsError:
                span = days.span()
                assert span is not None, "bars are made of records"
                raise too_many_bars(query, interval, span) from None
        names = (TIME_COLUMN, *(output.name for output in query.outputs))
        media_type, content = written(
            query.records.format, bars_plan(names, columns, interval.length_s, plan)
        )
        content = compressed(query.records.coding, content)
        tag = document_validators(content).etag
        return replace(
            planned,
            representation=Representation(media_type, content, (), ()),
            content=content,
            validators=replace(planned.validators, etag=tag),
            held=(),
        )

    def _ahead(self, query: BarsQuery, plan: Plan, series: Series) -> PlanAhead | None:
        """What was computed ahead of the plan, if it can be of use."""
        from zerocopy.core.levels import dividing  # noqa: PLC0415

        if self._rollups is None or (query.interval and not dividing(query.interval)):
            return None
        # A count is in the rows of every column.
        columns = {each.column for each in query.outputs if each.aggregate != "count"}
        return self._rollups.ahead(plan, series, columns or {query.outputs[0].column})


class _Days:
    """The days of a plan, each by what was computed ahead of it, or by its records."""

    def __init__(
        self,
        reader: PlanReader,
        plan: Plan,
        ahead: PlanAhead | None,
        dtypes: Mapping[str, Dtype],
    ) -> None:
        self._reader = reader
        self._days = [day for day in plan.days if day.records.first < day.records.stop]
        self._ahead = ahead
        self._dtypes = dtypes

    def span(self) -> tuple[int, int] | None:
        """The first and the last second of all records, None if there are no records.

        Raises:
            DataChangedError: a file is no longer the one that was planned.
            DataError: a file cannot be opened or read.
        """
        if not self._days:
            return None
        first, last = zip(*map(self._span, self._days), strict=True)
        return min(first), max(last)

    def _span(self, day: DayRecords) -> tuple[int, int]:
        ahead = self._ahead.days.get(day.day) if self._ahead is not None else None
        if ahead is not None and day.records == (0, ahead.records):
            return ahead.span
        with self._reader.open(day) as records:
            return records.times.at(day.records.first), records.times.at(day.records.stop - 1)

    def add_to(self, bars: Bars, interval: Interval) -> None:
        """Give each day to `bars`.

        Raises:
            TooManyBarsError: there are too many.
            DataChangedError: a file is no longer the one that was planned.
            DataError: a file cannot be opened or read, or its times do not ascend.
        """
        from zerocopy.core.levels import dividing, parts_of, row_dtypes_of  # noqa: PLC0415

        levels, row_dtypes = dividing(interval), row_dtypes_of(self._dtypes)
        ahead = self._ahead if levels else None
        for day in self._days:
            with ExitStack() as stack:

                def read(
                    records: RecordRange, stack: ExitStack = stack, day: DayRecords = day
                ) -> DayReader:
                    return stack.enter_context(self._reader.open(day)).part(records)

                known = ahead.days.get(day.day) if ahead is not None else None
                try:
                    if known is None:
                        bars.add(read(day.records))
                    else:
                        bars.add(*parts_of(day.records, known, levels, row_dtypes, read))
                except UnsortedError as error:
                    # The cause is for the log, which may name the file.
                    cause = UnsortedError(f"{self._reader.time_path(day.day)}: {error}")
                    raise DataError(f"the times of {day_label(day.day)} are not sorted") from cause
        if ahead is not None:
            ahead.close()


def _rollup_work(planner: QueryPlanner) -> RollupWork | None:
    rollups = planner.rollups
    if rollups is None or not rollups.is_of_use:
        return None
    return RollupWork(rollups, Maker(planner.day_source, planner.settling, rollups))


def _series(query: BarsQuery) -> tuple[str, str, str]:
    return query.records.exchange, query.records.symbol, query.records.type


def _refuse_text(query: BarsQuery, dtypes: Mapping[str, Dtype]) -> None:
    """Text has no sum and no mean.

    Raises:
        BadRequestError: a column is of an `S` dtype.
    """
    for output in query.outputs:
        if dtypes[output.column].name.startswith("|S"):
            raise BadRequestError(
                f"parameter columns: {output.column} is text, must be a column of numbers"
            )
