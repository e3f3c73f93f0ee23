"""The records of a plan, read by the thread that made it: for what is computed from them.

Owns the descriptors that the planner handed over, and opens the other files of the plan again. Each
day is looked at after it was read: it is the one that was planned, or `DataChangedError` says that
it is not, and the plan has to be made anew. Reading goes through a buffer: a file that is truncated
meanwhile ends a read early, where a mapping of it would end the process. A thread that computes
gives way to the event loop before each read.
"""

from __future__ import annotations

import os
from array import array
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from zerocopy.core.errors import DataChangedError
from zerocopy.core.layout import TIME_COLUMN, file_name
from zerocopy.core.plan import Representation
from zerocopy.storage.dayfile import DayFile, TimeFile
from zerocopy.storage.pread import read_exactly
from zerocopy.storage.tree import data_error, open_series
from zerocopy.storage.turns import give_way

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from zerocopy.core.plan import DayRecords, Plan
    from zerocopy.core.timeindex import RecordRange
    from zerocopy.storage.dayfile import Fetched, OpenFiles
    from zerocopy.storage.planner import Planned
    from zerocopy.storage.tree import Series

_NEVER_SMALL = array("Q", [1 << 62])


def unread(content: bytes = b"", tag: bytes = b"") -> Representation:
    """What a format gives to the planner of a plan that is read later.

    It claims to be large, for the planner hands over no descriptors of small ones. `content` and
    `tag` are for the validators.
    """
    return Representation(b"", content, (), _NEVER_SMALL, tag)


@dataclass(slots=True)
class Capture:
    """What to give to the planner as a format: it keeps the plan and reads nothing."""

    plans: list[Plan] = field(default_factory=list)

    def __call__(self, plan: Plan) -> Representation:
        """Keep `plan`; see `Represent`."""
        self.plans.append(plan)
        return unread()


class DayReader:
    """The `records` of one day, read from descriptors by column. See `core.cuts.Day`."""

    def __init__(
        self,
        records: RecordRange,
        fds: Mapping[str, int],
        sizes: Mapping[str, int],
        buffer: bytearray,
    ) -> None:
        self.records = records
        self.times = TimeFile(fds[TIME_COLUMN], records.stop)
        self._fds = fds
        self._sizes = sizes
        self._buffer = buffer

    def part(self, records: RecordRange) -> DayReader:
        """Some of the records; what it reads is no longer true after the next call of either."""
        return DayReader(records, self._fds, self._sizes, self._buffer)

    def read(self, column: str, first: int, stop: int) -> memoryview:
        """The bytes of the records [first, stop) of a column, valid until the next call.

        Raises:
            DataChangedError: the file ends before that.
            DataError: it cannot be read.
        """
        size = self._sizes[column]
        count = (stop - first) * size
        assert count <= len(self._buffer), "at most CHUNK_RECORDS are asked for"
        give_way()
        view = memoryview(self._buffer)[:count]
        try:
            got = os.preadv(self._fds[column], (view,), first * size)
        except OSError as error:
            raise data_error(error) from error
        if got != count:
            raise DataChangedError("a day file is shorter than it was when it was planned")
        return view


class PlanReader:
    """Reads days of `plan`, which `planned` came with; blocks.

    At most `records_max` records are read in one step. Used in a with statement, in which the
    directory of the days is open.
    """

    def __init__(
        self, files: OpenFiles, series: Series, plan: Plan, planned: Planned, records_max: int
    ) -> None:
        self._files = files
        self._series = series
        self._held = dict(planned.held)
        self._names = [column.name for column in plan.columns]
        self._sizes = {column.name: column.dtype.nbytes for column in plan.columns}
        self._buffer = bytearray(records_max * max(self._sizes.values()))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open the directory.

        Raises:
            NotFoundError: it is gone.
            DataError: it cannot be opened.
        """
        self._directory_fd = self._stack.enter_context(open_series(self._files.root, self._series))
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close it."""
        self._stack.close()

    def time_path(self, day: int) -> str:
        """Where the times of a day lie, for the log."""
        return os.path.join(self._files.root, *self._series, file_name(TIME_COLUMN, day))

    @contextmanager
    def open(self, day: DayRecords) -> Iterator[DayReader]:
        """The records of a day of the plan; that they are what was planned is checked at the end.

        Raises:
            DataChangedError: a file is no longer the one that was planned.
            DataError: a file cannot be opened or read.
        """
        fetched: list[Fetched] = []
        fds: dict[str, int] = {}
        opened: list[tuple[DayFile, int]] = []
        try:
            for name, source in zip(self._names, day.sources, strict=True):
                assert isinstance(source, DayFile), "planned by the planner"
                fd = self._held.get(source)
                if fd is None:
                    again = self._files.fetch(source, None, self._directory_fd, mapped=False)
                    fetched.append(again)
                    assert again.fd is not None, "closed below"
                    fd = again.fd
                fds[name] = fd
                opened.append((source, fd))
            yield DayReader(day.records, fds, self._sizes, self._buffer)
            for day_file, fd in opened:
                day_file.check_now(fd)
        finally:
            for each in fetched:
                each.close()


class RecordReader:
    """Reads any records of `plan`, which `planned` came with; blocks. A context manager.

    The files of one day are open at a time. They are checked when the next day is asked for, and at
    the end.
    """

    def __init__(self, files: OpenFiles, series: Series, plan: Plan, planned: Planned) -> None:
        self._files = files
        self._series = series
        self._sizes = [column.dtype.nbytes for column in plan.columns]
        self._held = dict(planned.held)
        self._stack = ExitStack()
        self._directory_fd = -1
        self._day: DayRecords | None = None
        self._opened: dict[int, tuple[DayFile, int]] = {}
        self._fetched: list[Fetched] = []

    def __enter__(self) -> Self:
        self._directory_fd = self._stack.enter_context(open_series(self._files.root, self._series))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None
    ) -> None:
        with self._stack:
            self._leave(is_read=kind is None)

    def read(self, day: DayRecords, position: int, first: int, count: int) -> bytes:
        """`count` records from `first` of the column at a position of the plan; see `Read`.

        Raises:
            DataChangedError: a file is no longer the one that was planned.
            DataError: it cannot be opened or read.
        """
        if day is not self._day:
            self._leave(is_read=True)
            self._day = day
        if position not in self._opened:
            self._open(day, position)
        size = self._sizes[position]
        give_way()
        return read_exactly(self._opened[position][1], first * size, count * size)

    def _open(self, day: DayRecords, position: int) -> None:
        source = day.sources[position]
        assert isinstance(source, DayFile), "planned by the planner"
        fd = self._held.get(source)
        if fd is None:
            again = self._files.fetch(source, None, self._directory_fd, mapped=False)
            self._fetched.append(again)
            fd = again.fd
            assert fd is not None, "closed by `_leave`"
        self._opened[position] = source, fd

    def _leave(self, *, is_read: bool) -> None:
        """Close what was opened of the present day; check what was read of it."""
        opened, self._opened = self._opened, {}
        fetched, self._fetched = self._fetched, []
        try:
            if is_read:
                for day_file, fd in opened.values():
                    day_file.check_now(fd)
        finally:
            for each in fetched:
                each.close()
