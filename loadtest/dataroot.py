"""What the files say, where the data root can be read from here.

Owns a reading of the contract of its own, sharing no code with the server: which records of which
days an answer holds, and the bytes of any of them. Reads a few records by pread(2) and nothing
whole, so that each answer can be compared.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from loadtest.question import DAY_S

if TYPE_CHECKING:
    from loadtest.question import Query

TIME_BYTES = 4
DAY_LATE_S = 5
"""A file that changed less than this before the request may have grown since."""


class _Times:
    """The records of a `time` file as a sequence that bisect can search."""

    def __init__(self, path: str, records: int) -> None:
        self._path = path
        self._records = records
        self._fd = -1

    def __enter__(self) -> Self:
        self._fd = os.open(self._path, os.O_RDONLY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def __len__(self) -> int:
        return self._records

    def __getitem__(self, index: int) -> int:
        return int.from_bytes(os.pread(self._fd, TIME_BYTES, index * TIME_BYTES), "little")


@dataclass(frozen=True, slots=True)
class _Day:
    """The records of one day that an answer holds: [first, stop) of each file."""

    paths: dict[str, str]
    first: int
    stop: int


class Expected:
    """The records that an answer must hold."""

    def __init__(self, days: list[_Day], skipped: list[str], *, is_settled: bool) -> None:
        self._days = days
        self.skipped = skipped
        self.is_settled = is_settled
        """Whether no file can have changed since the request was sent."""
        self.num_records = sum(day.stop - day.first for day in days)

    def record(self, column: str, record_size: int, index: int) -> bytes:
        """Record `index` of the answer's column, from its file."""
        for day in self._days:
            count = day.stop - day.first
            if index < count:
                return _read(day.paths[column], (day.first + index) * record_size, record_size)
            index -= count
        raise IndexError(index)

    def column(self, column: str, record_size: int) -> bytes:
        """The whole column of the answer, from its files; for answers that are small."""
        return b"".join(
            _read(day.paths[column], day.first * record_size, (day.stop - day.first) * record_size)
            for day in self._days
        )


class DataRoot:
    """The day files below a directory of this machine."""

    def __init__(self, path: str) -> None:
        self._path = path

    def expect(self, query: Query, sizes: dict[str, int], asked_s: float) -> Expected:
        """What the files give for `query`, asked at `asked_s`; `sizes` are bytes of a record."""
        days: list[_Day] = []
        skipped: list[str] = []
        changed_s = 0.0
        folder = os.path.join(self._path, query.exchange, query.symbol, query.type_)
        for number in range(query.start // DAY_S, query.end // DAY_S + 1):
            label = f"{datetime.fromtimestamp(number * DAY_S, UTC):%d.%m.%y}"
            columns = dict.fromkeys(("time", *query.columns))
            paths = {name: os.path.join(folder, f"{name}.{label}.bin") for name in columns}
            stats = {name: _stat(path) for name, path in paths.items()}
            found = [stat for stat in stats.values() if stat is not None]
            changed_s = max([changed_s, *(stat.st_mtime for stat in found)])
            if len(found) < len(paths):
                if found:
                    skipped.append(label)
                continue
            records = min(
                stat.st_size // sizes.get(name, TIME_BYTES)
                for name, stat in stats.items()
                if stat is not None
            )
            with _Times(paths["time"], records) as times:
                first = bisect_left(times, query.start)
                stop = bisect_right(times, query.end)
            days.append(_Day(paths, first, stop))
        return Expected(days, skipped, is_settled=changed_s < asked_s - DAY_LATE_S)


def _read(path: str, offset: int, count: int) -> bytes:
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, count, offset)
    finally:
        os.close(fd)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
