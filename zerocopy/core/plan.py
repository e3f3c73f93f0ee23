"""The plan of a response: which records of which sources it holds; and what a format makes of it.

Owns the records, not their shape: a function of `formats/` gives a plan its shape, a
`Representation`, which is bytes and segments in the order they leave. A
`Source` is whatever can hand out bytes; the plan never opens one, so a new storage or a new
transport is a new implementation of this Protocol and nothing else.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zerocopy.core.layout import Dtype
    from zerocopy.core.timeindex import RecordRange

HELD_FILES_MAX = 128
"""Descriptors that are handed over with a plan; further files are opened again when sent."""

ENCODING_THREADS = 2
"""Large answers in computed formats that a worker encodes at once; more wait."""

BODIES_MAX = 256
"""Computed bodies that there may be at a time, each of which is a descriptor."""

LIVE_FILES = 8
"""Files of a live series that are open, on average: those of its newest day."""

LIVE_LOOKS_KEPT = 16
"""Looks at days that are over, of all live series: each keeps the files of its day open."""

LIVE_THREADS = 2
"""Threads that live streams have at once, of `[limits] planner_threads`."""

LIVE_FETCHING_THREADS = 8
"""The same over an object store, where most of them wait for it."""


class Source(Protocol):
    """One column of one day, as it was when its plan was made."""

    def fileno(self) -> int | None:
        """A readable descriptor, valid until the caller next yields to the event loop.

        Called in every turn, so a stalled transfer holds no descriptor. Blocks if the file is not
        open; see `ready`. None if there is no file: then `view` gives bytes that are in memory.

        Raises:
            DataChangedError: the file is no longer the one that was planned.
        """

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`.

        Raises:
            DataError: the file fails or is shorter than that.
        """

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:
        """How many bytes from `offset` can be had without waiting, at most `count`.

        `mapped` is whether `view` is to give them, and not a descriptor. The event loop calls it;
        it never blocks. 0 means that a thread must make them ready first: open or map the file,
        or read what is not in memory.
        """

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """Exactly `count` bytes from `offset`, to be used before next yielding to the event loop.

        Works where `ready` gives less, and may wait then. The file is looked at each time, so one
        that was truncated raises where a mapping of it would end the process with SIGBUS.

        Raises:
            DataChangedError: the file is no longer the one that was planned.
            DataError: the file fails.
        """

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """As `view`, but copy the bytes from `offset` into `targets`, one behind the other.

        Raises:
            DataChangedError: the file is no longer the one that was planned.
            DataError: the file fails.
        """


def spread(view: bytes | memoryview, targets: Sequence[memoryview]) -> None:
    """Copy `view`, which has as many bytes as all `targets` together.

    Example:
        >>> first, second = bytearray(2), bytearray(1)
        >>> spread(b"abc", [memoryview(first), memoryview(second)])
        >>> first, second
        (bytearray(b'ab'), bytearray(b'c'))
    """
    begin = 0
    for target in targets:
        end = begin + len(target)
        target[:] = view[begin:end]
        begin = end


@dataclass(frozen=True, slots=True)
class Segment:
    """`count` bytes from `offset` of one source; `count` > 0."""

    source: Source
    offset: int
    count: int


class _Memory:
    """A `Source` of bytes that are no file's: what stands between the parts of a body."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def fileno(self) -> None:
        """There is none; see `Source`."""

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes from `offset`; see `Source`."""
        return self._data[offset : offset + count]

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of them; see `Source`."""
        assert 0 <= offset <= len(self._data) - count, "bytes that are there"
        return count

    def view(self, offset: int, count: int) -> memoryview:
        """Exactly `count` bytes from `offset`; see `Source`."""
        return memoryview(self._data)[offset : offset + count]

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """Copy from `offset` on; see `Source`."""
        spread(memoryview(self._data)[offset:], targets)


def in_memory(data: bytes) -> Segment:
    """A segment of all of `data`, which is not empty."""
    assert data, "a segment has bytes"
    return Segment(_Memory(data), 0, len(data))


class DayRecords(NamedTuple):
    """The records [first, stop) of one day; `sources` are in the order of the columns."""

    day: int
    records: RecordRange
    sources: Sequence[Source]


class Column(NamedTuple):
    """A column of a response: what it is called, and what each of its records is."""

    name: str
    dtype: Dtype


@dataclass(frozen=True, slots=True)
class Plan:
    """The records of a response, whatever shape they are given in.

    `days` ascend, and each has a source for each of `columns`. `skipped` are the days left out
    because they lack a column. `labels` tell what the records are of: exchange, symbol, type.
    `interval_s` is how many seconds a record stands for, where it is a bar. `cursor` is where
    a live stream goes on behind the records, in its spelling.
    """

    columns: tuple[Column, ...]
    days: Sequence[DayRecords]
    skipped: Sequence[int] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    interval_s: int | None = None
    cursor: str | None = None

    def __post_init__(self) -> None:
        assert all(a.day < b.day for a, b in pairwise(self.days)), "days ascend"
        width = len(self.columns)
        assert all(len(day.sources) == width for day in self.days), "a source for each column"

    @property
    def num_records(self) -> int:
        """Records of each column."""
        return sum(day.records.stop - day.records.first for day in self.days)

    def segments(self) -> tuple[Segment, ...]:
        """All of the first column, days ascending, then all of the second, and so on."""
        return tuple(
            Segment(
                day.sources[position],
                day.records.first * dtype.nbytes,
                (day.records.stop - day.records.first) * dtype.nbytes,
            )
            for position, (_, dtype) in enumerate(self.columns)
            for day in self.days
            if day.records.stop > day.records.first
        )


@dataclass(frozen=True, slots=True)
class Representation:
    """A plan in the shape of one format: `content`, then `segments`.

    `ends` holds for each segment where it ends, in bytes from the end of the content. `tag` goes
    into the ETag. Each format needs its own, or two formats of the same records may share an ETag.
    """

    media_type: bytes
    content: bytes
    segments: tuple[Segment, ...]
    ends: Sequence[int]
    tag: bytes = b""

    @property
    def nbytes(self) -> int:
        """All of it, the Content-Length."""
        return len(self.content) + (self.ends[-1] if self.ends else 0)


Represent = Callable[[Plan], Representation]
"""What a format is to the planner."""

Read = Callable[[DayRecords, int, int, int], bytes]
"""`read(day, position, first, count)`: of a day, `count` records from `first` of the column at a
position of the plan."""

Write = Callable[[bytes], object]
"""Takes the next bytes of a body."""

Encode = Callable[[Plan, Read, Write], None]
"""What a computed format is: it reads the records of a plan and writes the body, in pieces."""


def ends_of(segments: Sequence[Segment]) -> Sequence[int]:
    """Where each segment ends, in bytes from the beginning of the first: 8 bytes for each."""
    return array("Q", accumulate(segment.count for segment in segments))
