"""A writer that changes day files as fast as it can, and what every answer beside it has to be.

Each series changes by one system call after the other, counted: `begun` before the call, `done`
after it, both in memory that the writer and the clients share. An answer asked for after `done`
was read as d and read before `begun` was read as b must be that of a state from d to b. What a
state looks like follows from its number alone, so the judge needs nothing but the two.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import struct
import sys
import time
from array import array
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from tests.contract.site import data_target
from tests.storage.trees import DAY, DAY_S, DAY_START_S, folder, path_of, put, start_of, u32
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = DAY + timedelta(days=1)
LATER = DAY + timedelta(days=2)
LARGE_RECORDS = 20_000  # 80 KB a column: sent from the files
GROWN_RECORDS_MAX = 200_000
RECORDS_A_SECOND = 50
TAIL_SECONDS = 6
CALM_S = 0.4
"""Mean pause between two changes of a calm series: longer than a stamp is too young for reuse."""


class StaleError(AssertionError):
    """An answer that no state of the files between request and answer could have given."""


class Shape(Protocol):
    """One series: how it begins, how it changes, and what its answers may be."""

    series: Series

    def prepare(self) -> None:
        """Write state 0."""

    def change(self, number: int) -> None:
        """Go from state `number` - 1 to state `number` by one visible step."""

    def target(self, done: int) -> str:
        """What to ask for when `done` states are known to be over."""

    def judge(self, status: int, content: bytes, done: int, begun: int) -> str:
        """What kind of answer it was.

        Raises:
            StaleError: no state from `done` to `begun` gives it.
        """


def parse(content: bytes) -> tuple[dict[str, int], list[str], bytes]:
    """Records by column, skipped days, and the data; holds the lengths together."""
    line, _, data = content.partition(b"\n")
    header = json.loads(line)
    counts = {column["name"]: column["num_records"] for column in header["columns"]}
    if len(data) != sum(column["data_length"] for column in header["columns"]):
        raise StaleError(f"{len(data)} bytes do not fit {header}")
    if len(set(counts.values())) > 1:
        raise StaleError(f"not aligned: {header}")
    return counts, header.get("skipped", []), data


class Swapped:
    """A closed day whose `price` is replaced by rename, all records at a time."""

    def __init__(self, root: str, series: Series, count: int = 3) -> None:
        self.root, self.series, self.count = root, series, count
        self._times = u32(DAY_START_S) * count

    def prepare(self) -> None:
        """See `Shape`."""
        put(self.root, {"time": self._times, "price": u32(0) * self.count}, DAY, self.series)

    def change(self, number: int) -> None:
        """See `Shape`."""
        path = path_of(self.root, "price", DAY, self.series)
        with open(path + ".new", "wb", buffering=0) as file:
            file.write(u32(number) * self.count)
        os.rename(path + ".new", path)

    def target(self, _done: int) -> str:
        """See `Shape`."""
        return data_target(self.series, DAY_START_S, DAY_START_S + DAY_S - 1, ("time", "price"))

    def judge(self, status: int, content: bytes, done: int, begun: int) -> str:
        """See `Shape`."""
        if status != 200:
            raise StaleError(f"status {status}")
        _, _, data = parse(content)
        half = len(self._times)
        number = struct.unpack_from("<I", data, half)[0]
        if data != self._times + u32(number) * self.count or not done <= number <= begun:
            raise StaleError(f"{self.series}: state {number}, not {done} to {begun}, or mixed")
        return "whole"


class Rewritten(Swapped):
    """A closed day of one record that is written over in place: neither name nor size changes."""

    def __init__(self, root: str, series: Series) -> None:
        super().__init__(root, series, 1)
        self._fd = -1

    def change(self, number: int) -> None:
        """See `Shape`."""
        if self._fd < 0:
            self._fd = os.open(path_of(self.root, "price", DAY, self.series), os.O_WRONLY)
        os.pwrite(self._fd, u32(number), 0)


class Gapped:
    """Three days; the middle one comes and goes, one file at a time, with a value for each life."""

    def __init__(self, root: str, series: Series) -> None:
        self.root, self.series = root, series

    def prepare(self) -> None:
        """See `Shape`."""
        for day in (DAY, LATER):
            put(self.root, {"time": u32(start_of(day)), "price": u32(7)}, day, self.series)

    def change(self, number: int) -> None:
        """See `Shape`."""
        price, when = (path_of(self.root, name, GAP, self.series) for name in ("price", "time"))
        phase = number % 4
        if phase == 1:
            self._create(price, u32(1_000 + number // 4))
        elif phase == 2:
            self._create(when, u32(DAY_START_S + DAY_S))
        else:
            os.unlink(when if phase == 3 else price)

    def _create(self, path: str, content: bytes) -> None:
        with open(path + ".new", "wb", buffering=0) as file:
            file.write(content)
        os.rename(path + ".new", path)

    def target(self, _done: int) -> str:
        """See `Shape`."""
        return data_target(self.series, DAY_START_S, DAY_START_S + 3 * DAY_S - 1, ("price",))

    def judge(self, status: int, content: bytes, done: int, begun: int) -> str:
        """See `Shape`."""
        if status != 200:
            raise StaleError(f"status {status}")
        _, skipped, data = parse(content)
        prices = array("I", data)
        states = range(done, min(begun, done + 8) + 1)
        if skipped:
            kind, fits = "skipped", any(number % 4 in {1, 3} for number in states)
        elif len(prices) == 2:
            kind, fits = "absent", any(number % 4 == 0 for number in states)
        else:
            kind, fits = "present", any(number % 4 == 2 for number in states)
            lives = {1_000 + number // 4 for number in range(done, begun + 1) if number % 4}
            fits = fits and prices[1] in lives
        if not fits or prices[0] != 7 or prices[-1] != 7:
            raise StaleError(f"{self.series}: {kind} {prices}, states {done} to {begun}")
        return kind


class Moved:
    """A directory that is renamed away and comes back with other contents."""

    def __init__(self, root: str, series: Series) -> None:
        self.root, self.series = root, series
        self._away = os.path.join(root, series.exchange, f".{series.symbol}")

    def prepare(self) -> None:
        """See `Shape`."""
        put(self.root, {"time": u32(DAY_START_S), "price": u32(0)}, DAY, self.series)

    def change(self, number: int) -> None:
        """See `Shape`."""
        here = folder(self.root, self.series)
        if number % 2:
            os.rename(here, self._away)
            return
        name = os.path.basename(path_of(self.root, "price", DAY, self.series))
        with open(os.path.join(self._away, name), "r+b", buffering=0) as file:
            file.write(u32(number))
        os.rename(self._away, here)

    def target(self, _done: int) -> str:
        """See `Shape`."""
        return data_target(self.series, DAY_START_S, DAY_START_S + DAY_S - 1, ("price",))

    def judge(self, status: int, content: bytes, done: int, begun: int) -> str:
        """See `Shape`."""
        if status == 404:
            if not any(number % 2 for number in range(done, begun + 1)):
                raise StaleError(f"{self.series}: 404 in states {done} to {begun}")
            return "absent"
        if status != 200:
            raise StaleError(f"status {status}")
        _, _, data = parse(content)
        number = struct.unpack("<I", data)[0]
        if number % 2 or not done <= number <= begun:
            raise StaleError(f"{self.series}: state {number}, not {done} to {begun}")
        return "present"


class Grown:
    """An open day, appended to: one column, then the other; every second step shows a record."""

    def __init__(self, root: str, series: Series, open_s: int) -> None:
        self.root, self.series, self._open_s = root, series, open_s
        self._day = DAY + timedelta(days=(open_s - DAY_START_S) // DAY_S)
        self._fds: list[int] = []

    def prepare(self) -> None:
        """See `Shape`."""
        put(self.root, {"price": b"", "time": b""}, self._day, self.series)

    def change(self, number: int) -> None:
        """See `Shape`."""
        if not self._fds:
            flags = os.O_WRONLY | os.O_APPEND
            for name in ("price", "time"):
                path = path_of(self.root, name, self._day, self.series)
                self._fds.append(os.open(path, flags))
        record = (number - 1) // 2
        if record < GROWN_RECORDS_MAX:
            values = record, self._open_s + record // RECORDS_A_SECOND
            column = (number - 1) % 2
            os.write(self._fds[column], u32(values[column]))

    def _first_s(self, done: int) -> int:
        return max(0, min(done // 2, GROWN_RECORDS_MAX) // RECORDS_A_SECOND - TAIL_SECONDS)

    def target(self, done: int) -> str:
        """See `Shape`."""
        begin_s = self._open_s + self._first_s(done)
        return data_target(self.series, begin_s, self._open_s + DAY_S - 1, ("price",))

    def judge(self, status: int, content: bytes, done: int, begun: int) -> str:
        """See `Shape`."""
        if status != 200:
            raise StaleError(f"status {status}")
        counts, _, data = parse(content)
        first, count = self._first_s(done) * RECORDS_A_SECOND, counts["price"]
        low, high = (min(number // 2, GROWN_RECORDS_MAX) for number in (done, begun))
        if array("I", data) != array("I", range(first, first + count)):
            raise StaleError(f"{self.series}: not the records from {first}")
        if not low <= first + count <= high:
            raise StaleError(f"{self.series}: {first + count} records, not {low} to {high}")
        return "prefix"


def shapes(root: str, open_s: int, calm: int) -> list[Shape]:
    """The wild series, which change without a pause, then `calm` more, which pause."""

    def series(name: str) -> Series:
        return Series("storm", name, "MD")

    def one_of_each(mark: str) -> list[Shape]:
        return [
            Swapped(root, series(f"SWAP{mark}")),
            Swapped(root, series(f"LARGE{mark}"), LARGE_RECORDS),
            Rewritten(root, series(f"OVER{mark}")),
            Gapped(root, series(f"GAP{mark}")),
            Moved(root, series(f"MOVED{mark}")),
            Grown(root, series(f"GROWN{mark}"), open_s),
        ]

    return [shape for mark in ("", *map(str, range(calm))) for shape in one_of_each(mark)]


WILD = 6
"""How many of the shapes change without a pause."""


def main(arguments: Sequence[str]) -> None:
    """Write until the shared memory says stop; arguments: root, open day, calm, file, seed."""
    root, open_s, calm, shared, seed = arguments
    rng = random.Random(int(seed))
    writing = shapes(root, int(open_s), int(calm))
    with open(shared, "r+b") as file:
        numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    now_s = time.monotonic()
    due = [0.0] * WILD + [now_s + rng.uniform(0, 2 * CALM_S) for _ in writing[WILD:]]
    while not numbers[0]:
        now_s = time.monotonic()
        for index, shape in enumerate(writing):
            if due[index] > now_s:
                continue
            number = numbers[1 + 2 * index] + 1
            numbers[1 + 2 * index] = number
            shape.change(number)
            numbers[2 + 2 * index] = number
            if index >= WILD:
                due[index] = now_s + rng.uniform(0, 2 * CALM_S)


if __name__ == "__main__":
    main(sys.argv[1:])
