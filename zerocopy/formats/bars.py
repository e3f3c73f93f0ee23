"""Bars as a plan: columns of values in memory, to be given any format.

Owns what the plan tells of them; whatever the format tells of records it tells of bars.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zerocopy.core.layout import Dtype
from zerocopy.core.plan import Column, DayRecords, Plan, in_memory
from zerocopy.core.timeindex import RecordRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray


def bars_plan(
    names: Iterable[str], values: Sequence[NDArray[Any]], interval_s: int, records: Plan
) -> Plan:
    """The plan of bars that were computed from `records`; a bar stands for `interval_s` seconds."""
    columns = tuple(
        Column(name, Dtype(column.dtype.str, column.itemsize))
        for name, column in zip(names, values, strict=True)
    )
    days = []
    if len(values[0]):
        sources = [in_memory(column.tobytes()).source for column in values]
        days = [DayRecords(0, RecordRange(0, len(values[0])), sources)]
    return Plan(columns, days, records.skipped, records.labels, interval_s)
