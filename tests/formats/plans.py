"""Plans without files: sources that are recognised by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sources import Scatters
from zerocopy.core.layout import Dtype
from zerocopy.core.plan import Column, DayRecords, Plan
from zerocopy.core.timeindex import RecordRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zerocopy.core.plan import Segment

U4, F4, U8, S16 = Dtype("<u4", 4), Dtype("<f4", 4), Dtype("<u8", 8), Dtype("|S16", 16)


class NamedSource(Scatters):
    """A source that is recognised by its name; its bytes are its name over and over."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fileno(self) -> int:
        """Fail: composing opens nothing."""
        raise NotImplementedError

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes that show source and offset."""
        endless = self.name.encode() * (offset + count)
        return endless[offset : offset + count]

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:
        """Fail: composing opens nothing."""
        raise NotImplementedError

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """Return what `read` returns."""
        return self.read(offset, count)


def day_records(day: int, first: int, stop: int, columns: str = "tp") -> DayRecords:
    """Return the records [first, stop) of a day, with a source `t0`, `p0` for each column."""
    sources = [NamedSource(f"{column}{day}") for column in columns]
    return DayRecords(day, RecordRange(first, stop), sources)


def plan_of(
    columns: Mapping[str, Dtype], days: Sequence[DayRecords], skipped: Sequence[int] = ()
) -> Plan:
    """Return the plan of these columns and days."""
    return Plan(tuple(Column(*column) for column in columns.items()), days, skipped)


def spelled(segments: Sequence[Segment]) -> list[tuple[str, int, int]]:
    """Return segments as (source, offset, count)."""
    found = []
    for segment in segments:
        assert isinstance(segment.source, NamedSource)
        found.append((segment.source.name, segment.offset, segment.count))
    return found
