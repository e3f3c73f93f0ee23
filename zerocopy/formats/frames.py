"""Frames of polars from planned records: what the formats `csv` and `parquet` are written from.

Owns the batches: some records of all columns, days ascending, read as an Arrow stream. The frame is
made by polars from the raw bytes, so no record becomes a Python object. polars gives up the
interpreter's lock while it writes. What holds the lock is the joining of bytes and what makes a
frame of them, and a batch is so small that this takes less than a millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from zerocopy.core.plan import DayRecords, Plan, in_memory
from zerocopy.core.timeindex import RecordRange
from zerocopy.formats import arrow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zerocopy.core.plan import Read

BATCH_BYTES = 2_097_152
"""Of records: joined in 0.2 ms."""

BATCH_RECORDS_MAX = 65_536
"""What is written of so many records is some megabytes in csv."""

BATCH_TEXTS_MAX = 32_768
"""Values of `S` columns: each is copied while a frame is made, in 0.4 ms all of them."""

ENCODER = f"polars {pl.__version__}"
"""What writes the values: another version may do it differently."""


def frames(plan: Plan, read: Read) -> Iterator[pl.DataFrame]:
    """All records of `plan`, in batches; one that is empty where there are none."""
    width = sum(column.dtype.nbytes for column in plan.columns)
    texts = sum(column.dtype.name[1] == "S" for column in plan.columns)
    most = min(BATCH_RECORDS_MAX, BATCH_BYTES // width)
    if texts:
        most = min(most, BATCH_TEXTS_MAX // texts)
    most = max(most, 1)
    parts: list[list[bytes]] = [[] for _ in plan.columns]
    length = 0
    for day in plan.days:
        first, stop = day.records
        while first < stop:
            count = min(stop - first, most - length)
            for position, part in enumerate(parts):
                part.append(read(day, position, first, count))
            first += count
            length += count
            if length == most:
                yield _frame(plan, parts, length)
                parts, length = [[] for _ in plan.columns], 0
    if length or not plan.num_records:
        yield _frame(plan, parts, length)


def empty_frame(plan: Plan) -> pl.DataFrame:
    """Its columns without records."""
    return _frame(plan, [[] for _ in plan.columns], 0)


def _frame(plan: Plan, parts: Sequence[Sequence[bytes]], length: int) -> pl.DataFrame:
    days = []
    if length:
        sources = [in_memory(b"".join(part)).source for part in parts]
        days = [DayRecords(0, RecordRange(0, length), sources)]
    found = arrow.represent(Plan(plan.columns, days))
    pieces = (piece.source.read(piece.offset, piece.count) for piece in found.segments)
    return pl.read_ipc_stream(b"".join((found.content, *pieces)))
