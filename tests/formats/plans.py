"""Plans without files: sources that are recognised by their names, or that are in memory."""

from __future__ import annotations

import math
import random
import struct
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.sources import Scatters
from zerocopy.core.layout import Dtype, parse_dtype
from zerocopy.core.plan import Column, DayRecords, Plan, in_memory
from zerocopy.core.timeindex import RecordRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zerocopy.core.plan import Segment

U4, F4, U8, S16 = Dtype("<u4", 4), Dtype("<f4", 4), Dtype("<u8", 8), Dtype("|S16", 16)

Columns = dict[str, tuple[str, bytes]]
"""Of each column its dtype, such as `u4`, and its records."""


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


def plan_in_memory(columns: Mapping[str, tuple[str, bytes]], cuts: Sequence[int]) -> Plan:
    """A plan of days that hold these columns, cut at these records."""
    described = tuple(Column(name, parse_dtype("x", kind)) for name, (kind, _) in columns.items())
    days = []
    for number, (first, stop) in enumerate(pairwise(cuts)):
        if first < stop:
            sources = [in_memory(data).source for _, data in columns.values()]
            days.append(DayRecords(number, RecordRange(first, stop), sources))
    return Plan(described, days, (40,))


def sample(count: int) -> Columns:
    """Some columns as users have them."""
    chance = random.Random(count)
    floats = [0.1, -0.0, 1e30, 1e-45, math.nan, math.inf, -math.inf, 16_777_216.0, 1e-7]
    texts = [
        b"\rx",
        b"\r\n",
        b"\n",
        b" ",
        b"#",
        b"a,b",
        b'q"q',
        b"l\nf",
        b"\xc3\xa9",
        b"",
        b"x",
        b"NaN",
        b"1",
    ]
    return {
        "time": ("u4", struct.pack(f"<{count}I", *range(count))),
        "price": ("f4", struct.pack(f"<{count}f", *chance.choices(floats, k=count))),
        "exact": ("f8", struct.pack(f"<{count}d", *(chance.random() for _ in range(count)))),
        "id": ("u8", struct.pack(f"<{count}Q", *(2**64 - 1 - at for at in range(count)))),
        "order": ("S4", b"".join(text.ljust(4, b"\0") for text in chance.choices(texts, k=count))),
    }
