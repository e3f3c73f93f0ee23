"""A recorder as they are in the field, and what a reader of its files is to get.

It writes each column through a buffer of its own, so columns differ in length and end amid a
record. Days follow in order. Each record has an `id` of its own, so that what is lost, repeated or
read from the wrong place shows.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from zerocopy.core.cursor import Cursor
from zerocopy.core.layout import DAY_S, file_name

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

SIZES = {"time": 4, "id": 8, "price": 4}
_SPELLED = {"time": "<I", "id": "<Q", "price": "<f"}
DECLARED = {"id": "u8"}


class Day:
    """The records of one day, and how much of each column is written."""

    def __init__(self, lacks: frozenset[str]) -> None:
        self.times: list[int] = []
        self.ids: list[int] = []
        self.written = {column: 0 for column in SIZES if column not in lacks}
        self.files: set[str] = set()

    def data(self, column: str) -> bytes:
        """All bytes of a column, the unwritten ones too."""
        values = self.times if column == "time" else self.ids
        return b"".join(struct.pack(_SPELLED[column], value) for value in values)

    def aligned(self, columns: Sequence[str]) -> int | None:
        """As the contract says; None where a file is missing."""
        wanted = {"time", *columns}
        if not wanted <= self.files:
            return None
        return min(self.written[column] // SIZES[column] for column in wanted)


class Recorder:
    """Writes one series below `root`, one system call after another."""

    def __init__(self, root: Path, symbol: str, first_day: int, rng: random.Random) -> None:
        self.symbol = symbol
        self.directory = root / "coinbase" / symbol / "MD"
        self.directory.mkdir(parents=True)
        self.days: dict[int, Day] = {}
        self.day = first_day
        self._rng = rng
        self._next_id = 1

    def record(self, count: int) -> None:
        """Have so many records more of the present day, none of which is written yet."""
        day = self._present()
        for _ in range(count):
            last = day.times[-1] if day.times else self.day * DAY_S
            day.times.append(min(last + self._rng.choice((0, 0, 1, 5)), (self.day + 1) * DAY_S - 1))
            day.ids.append(self._next_id)
            self._next_id += 1

    def write_some(self) -> None:
        """One write of one column: some bytes, perhaps none, perhaps up to amid a record."""
        day = self._present()
        column = self._rng.choice([*day.written])
        data = day.data(column)[day.written[column] :]
        self._append(day, column, data[: self._rng.randint(0, len(data))])

    def write_all(self) -> None:
        """Everything that was recorded, column by column."""
        day = self._present()
        columns = [*day.written]
        self._rng.shuffle(columns)
        for column in columns:
            self._append(day, column, day.data(column)[day.written[column] :])

    def begin_day(self) -> None:
        """Midnight: the present day is written to its end, then a later one begins."""
        later = self.day + self._rng.choice((1, 1, 1, 2, 5))
        lacks = frozenset({"price"}) if self._rng.random() < 0.2 else frozenset[str]()
        early = self._rng.random() < 0.3
        made = Day(lacks)
        if early:  # its files are there before the last record of the day before is
            for column in made.written:
                (self.directory / file_name(column, later)).touch()
                made.files.add(column)
        if self.day in self.days:
            self.write_all()
        self.day, self.days[later] = later, made

    def replace(self) -> None:
        """Put other records in place of the present day's, file by file."""
        made = Day(frozenset(SIZES) - self._present().written.keys())
        self.days[self.day] = made
        self.record(self._rng.randint(0, 20))
        for column in made.written:
            path = self.directory / file_name(column, self.day)
            beside = path.with_suffix(".new")
            beside.write_bytes(made.data(column))
            beside.rename(path)
            made.files.add(column)
            made.written[column] = path.stat().st_size

    def truncate(self) -> int:
        """Cut the present day, all of which is written; how many records are left."""
        day = self._present()
        left = self._rng.randint(0, len(day.ids))
        del day.ids[left:], day.times[left:]
        for column in day.files:
            day.written[column] = min(day.written[column], left * SIZES[column])
            with (self.directory / file_name(column, self.day)).open("r+b") as file:
                file.truncate(day.written[column])
        return left

    def has_day_with(self, columns: Sequence[str]) -> bool:
        """Whether some day has each of the columns; one that no day has is 404."""
        return set(columns) <= {column for day in self.days.values() for column in day.files}

    def end(self, cursor: Cursor, columns: Sequence[str]) -> Cursor:
        """Where a reader comes to that began at `cursor` and has got everything."""
        for day in sorted(self.days, reverse=True):
            if day >= cursor.day and (aligned := self.days[day].aligned(columns)):
                return (
                    Cursor(day, aligned) if day > cursor.day else max(cursor, Cursor(day, aligned))
                )
        return cursor

    def records(self, first: Cursor, columns: Sequence[str]) -> dict[int, list[int]]:
        """The ids of each day from a cursor on."""
        found = {}
        for day, made in sorted(self.days.items()):
            begin = first.position if day == first.day else 0
            ids = made.ids[begin : made.aligned(columns) or 0]
            if day >= first.day and ids:
                found[day] = ids
        return found

    def _present(self) -> Day:
        return self.days.setdefault(self.day, Day(frozenset()))

    def _append(self, day: Day, column: str, data: bytes) -> None:
        with (self.directory / file_name(column, self.day)).open("ab") as file:
            file.write(data)
        day.files.add(column)
        day.written[column] += len(data)
