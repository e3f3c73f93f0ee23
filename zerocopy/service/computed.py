"""The computed answers of /api/data: plan, read, encode, and keep what was encoded.

They are those in a computed format, and those of any format in a content coding.

Owns the bodies that are kept, and the rounds of equal queries. Few records are encoded by the
thread that plans, so that they never wait behind many. Many are encoded by threads of their own:
equal queries that come together share a round, and a round that nobody waits for any more ends.
What was encoded is kept while its proof holds, and given up, the least recently used first, when
the spool needs room. numpy and polars are imported by the first query that needs them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zerocopy.core.errors import (
    BadRequestError,
    DataChangedError,
    DataError,
    NotFetchedError,
    StoreError,
)
from zerocopy.core.http.validators import NS_PER_S
from zerocopy.core.plan import ENCODING_THREADS, Representation, ends_of
from zerocopy.formats.columns import header_line
from zerocopy.service.coalesce import Coalescer
from zerocopy.service.representations import encoder_of
from zerocopy.service.thread_work import computing_threads
from zerocopy.storage.planner import CLOCK_TICK_NS
from zerocopy.storage.records import RecordReader, unread
from zerocopy.storage.spool import Draft, Spool
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from zerocopy.core.plan import DayRecords, Plan
    from zerocopy.core.query import Query
    from zerocopy.storage.dayfile import OpenFiles
    from zerocopy.storage.planner import Planned, QueryPlanner

FEW_BYTES = 65_536
"""Records that the planning thread encodes itself: some 16,000 values in some milliseconds."""

_ATTEMPTS = 3
"""How often a query starts anew if a file is replaced while it is read."""


class LeftError(Exception):
    """Nobody waits for the answer any more; so nobody is told."""


@dataclass(frozen=True, slots=True)
class Found:
    """A plan with its body, or, unless it `is_complete`, with nothing but what fields tell of it.

    `is_kept` tells that it was computed for an earlier request.
    """

    planned: Planned
    is_complete: bool = True
    is_kept: bool = False


class _Round:
    """Equal queries; `asking` counts the requests that wait for them."""

    def __init__(self, work: ComputedWork, executor: ThreadPoolExecutor) -> None:
        self.asking = 0
        self.calls: Coalescer[Query, Found] = Coalescer(
            executor, lambda queries: {query: work.compute(query, self) for query in queries}
        )


class ComputedWork:
    """Computes answers. `ask` is for the event loop's thread, all else for others."""

    def __init__(
        self,
        planner: QueryPlanner,
        files: OpenFiles,
        *,
        records_max: int,
        spool_bytes_max: int,
        spool_path: str | None,
        small_answer_bytes_max: int,
    ) -> None:
        self._planner = planner
        self._files = files
        self._records_max = records_max
        self._small_answer_bytes_max = small_answer_bytes_max
        self._executor = computing_threads(ENCODING_THREADS, "encoder")
        self._rounds: dict[Query, _Round] = {}
        self.spool = Spool(spool_bytes_max, spool_path, files.residency, self._give_up)
        # Threads only take it, and for some microseconds; the event loop never does.
        self._lock = threading.Lock()
        self._kept: OrderedDict[Query, Planned] = OrderedDict()
        self.encoded = 0
        """How many answers were encoded so far."""

    def begin(self, query: Query) -> Found:
        """What is kept, or what few records give; blocks.

        Raises:
            BadRequestError: there are more records than a computed format may hold.
            NotFoundError: the exchange, symbol or type does not exist, or no day has a column.
            NotInstalledError: the format needs an extra.
            OverloadError: the spool is full of what is being sent.
            DataError: a file cannot be read, or the times of a day are not sorted.
            StoreError: a file cannot be fetched.
        """
        return self._find(query, lambda plan: _nbytes(plan) <= FEW_BYTES, lambda: False)

    async def ask(self, query: Query) -> Found:
        """The whole answer, however many records it holds; raises as `begin` does."""
        this = self._rounds.get(query)
        if this is None:
            this = self._rounds[query] = _Round(self, self._executor)
        this.asking += 1
        try:
            return await this.calls.ask(query)
        finally:
            this.asking -= 1
            if not this.asking:
                del self._rounds[query]  # the next one asks anew

    def compute(self, query: Query, this: _Round) -> Found:
        """The answer of a round; blocks. Ends when nobody waits for it."""
        return self._find(query, lambda _: True, lambda: not this.asking)

    def _find(
        self, query: Query, is_wanted: Callable[[Plan], bool], is_unwanted: Callable[[], bool]
    ) -> Found:
        """What is kept, or the answer if its plan `is_wanted` here."""
        kept = self._proved(query)
        if kept is not None:
            return Found(kept, is_kept=True)
        changed: Exception | None = None
        for _ in range(_ATTEMPTS):
            planned, plan = self._plan(query)
            try:
                if not is_wanted(plan):
                    return Found(replace(planned, held=()), is_complete=False)
                written = self._written(query, planned, plan, is_unwanted)
            except NotFetchedError as error:
                raise StoreError("the object store cannot be read now; try again") from error
            except DataChangedError as error:
                changed = error
                time.sleep(CLOCK_TICK_NS / NS_PER_S)
            else:
                self._keep(query, written)
                return Found(written)
            finally:
                planned.close()
        raise DataError("the day files changed faster than they could be read") from changed

    def _plan(self, query: Query) -> tuple[Planned, Plan]:
        encoder = encoder_of(query.format, query.coding)
        plans: list[Plan] = []

        def represent(plan: Plan) -> Representation:
            if plan.num_records > self._records_max:
                raise BadRequestError(
                    f"parameters start, end and last: the range holds {plan.num_records} records, "
                    f"at most {self._records_max} are answered in {_shape_of(query)}; "
                    f"format arrow without compress has no such bound"
                )
            plans.append(plan)
            return unread(header_line(plan), encoder.tag)

        return self._planner.plan(query, represent), plans[-1]

    def _written(
        self, query: Query, planned: Planned, plan: Plan, is_unwanted: Callable[[], bool]
    ) -> Planned:
        """`planned` with the whole body in it; it holds no descriptors of day files."""
        encoder = encoder_of(query.format, query.coding)
        draft = Draft(self.spool, self._small_answer_bytes_max)
        series = Series(query.exchange, query.symbol, query.type)
        try:
            with RecordReader(self._files, series, plan, planned) as records:

                def read(day: DayRecords, position: int, first: int, count: int) -> bytes:
                    if is_unwanted():
                        raise LeftError
                    return records.read(day, position, first, count)

                encoder.encode(plan, read, draft.write)
        except BaseException:
            draft.discard()
            raise
        content, segments = draft.finish()
        found = Representation(encoder.media_type, content, segments, ends_of(segments))
        whole = None if segments else content
        return replace(planned, representation=found, content=whole, held=())

    # ---- what is kept; the spool calls `_give_up` in the thread that needs room

    def _proved(self, query: Query) -> Planned | None:
        with self._lock:
            kept = self._kept.get(query)
            if kept is None:
                return None
            self._kept.move_to_end(query)
        if kept.proof.holds():
            return kept
        with self._lock:
            if self._kept.get(query) is kept:
                del self._kept[query]
        return None

    def _keep(self, query: Query, written: Planned) -> None:
        """Keep a body that lies in the spool; others are kept as any small response."""
        with self._lock:
            self.encoded += 1
            if written.content is None and written.proof.reusable:
                self._kept[query] = written
                self._kept.move_to_end(query)

    def _give_up(self) -> bool:
        """Drop the body that was not used for longest; False if none is kept.

        One that is being sent still takes its bytes until it has left.
        """
        with self._lock:
            if not self._kept:
                return False
            self._kept.popitem(last=False)
            return True


def _shape_of(query: Query) -> str:
    """What the answer is, in the words of a query."""
    return f"{query.format} with compress=zstd" if query.compress else query.format


def _nbytes(plan: Plan) -> int:
    """The bytes of all records."""
    return plan.num_records * sum(column.dtype.nbytes for column in plan.columns)
