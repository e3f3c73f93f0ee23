"""A data root whose every change is known, and what may be answered while it changes.

Owns the oracle of the soak. Series of the exchange `still` never change: their answers are known to
the byte. Those of `moving` are changed one file operation at a time under a lock; each operation
makes a state, and an answer is right if it is that of a state between its request and its end.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from datetime import timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from tests.contract.site import data_target
from tests.naive import naive_answer, naive_symbols
from tests.storage.trees import (
    DAY,
    DAY_START_S,
    DTYPES,
    SIZES,
    U32_MAX,
    folder,
    marks,
    path_of,
    put,
    replace,
    start_of,
)
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.slow.recording import Recording

COLUMNS = ("time", "price", "id", "order")
STATES_KEPT = 100
OLD_S = DAY_START_S + 400 * 86_400
OLD_NS = OLD_S * 10**9
"""A modification time at which every day here has settled."""

SMALL, MEDIUM, LARGE, MANY = (
    Series("still", symbol, "MD") for symbol in ("SMALL", "MEDIUM", "LARGE", "MANY")
)
SECOND_DAY = DAY + timedelta(days=1)
SECOND_S = start_of(SECOND_DAY)


class Scale(NamedTuple):
    """How much data there is."""

    medium_records: int
    large_records: int
    many_days: int


FULL = Scale(medium_records=20_000, large_records=1_500_000, many_days=300)
BRIEF = Scale(medium_records=4_000, large_records=400_000, many_days=20)


class Question(NamedTuple):
    """A query of what never changes, its answer, and how many segments that has."""

    target: str
    body: bytes
    segments: int


class State(NamedTuple):
    """Since when a moving series is so, and what its targets are answered with: None is 404."""

    begun_s: float
    bodies: tuple[bytes | None, ...]


def columns_of(records: int, day_start_s: int, base: int = 0) -> dict[str, bytes]:
    """All four columns; some records share a second, and no two records are alike."""
    per_second = records // 80_000 + 1
    times = array("I", (day_start_s + index // per_second for index in range(records)))
    others = {column: marks(records, SIZES.get(column, 4), base) for column in COLUMNS[1:]}
    return {"time": times.tobytes(), **others}


class Moving:
    """A series of two days, the second of which changes, and the states it has been in."""

    def __init__(self, root: str, symbol: str, records: int) -> None:
        self.root = root
        self.series = Series("moving", symbol, "MD")
        self.changes = 0
        self._records = records
        self._lock = threading.Lock()
        queries = [(0, U32_MAX, ("time", "price")), (SECOND_S, SECOND_S + 86_399, ("price",))]
        self._queries = queries
        self.targets = [data_target(self.series, *query) for query in queries]
        for day in (DAY, SECOND_DAY):
            content = columns_of(records, start_of(day))
            paths = put(root, {name: content[name] for name in ("time", "price")}, day, self.series)
            for path in paths.values():
                os.utime(path, (OLD_S, OLD_S))
        self._states = [State(0.0, self._answers())]
        self._ends_s = [inf]
        self._steps = self._cycle()

    def change(self) -> None:
        """One operation on one file or directory, and the state that it makes."""
        with self._lock:
            begun_s = time.monotonic()
            next(self._steps)()
            self._ends_s[-1] = time.monotonic()
            self._states.append(State(begun_s, self._answers()))
            self._ends_s.append(inf)
            del self._states[:-STATES_KEPT], self._ends_s[:-STATES_KEPT]
            self.changes += 1

    def is_right(self, index: int, body: bytes | None, asked_s: float, ended_s: float) -> bool:
        """Whether `body` (None: 404) answers target `index` at some time between the two."""
        with self._lock:
            assert self._states[0].begun_s <= asked_s, "too few states are kept to tell"
            return any(
                state.bodies[index] == body
                for state, end_s in zip(self._states, self._ends_s, strict=True)
                if state.begun_s <= ended_s and end_s >= asked_s
            )

    def _cycle(self) -> Iterator[Callable[[], object]]:
        """Replace the day again and again; take it away by halves; then the directory."""
        price, times = (path_of(self.root, name, SECOND_DAY, self.series) for name in _TWO)
        level = folder(self.root, self.series)
        time_content = columns_of(self._records, SECOND_S)["time"]
        version = 0
        while True:
            for _ in range(6):
                version += 1
                yield partial(replace, price, self._price(version), OLD_NS)
            yield partial(os.unlink, price)
            yield partial(os.unlink, times)
            yield partial(replace, times, time_content, OLD_NS)
            version += 1
            yield partial(replace, price, self._price(version), OLD_NS)
            yield partial(os.rename, level, level + ".away")
            yield partial(os.rename, level + ".away", level)

    def _price(self, version: int) -> bytes:
        return marks(self._records, base=version)

    def _answers(self) -> tuple[bytes | None, ...]:
        if not os.path.isdir(folder(self.root, self.series)):
            return (None,) * len(self._queries)
        return tuple(
            naive_answer(self.root, *self.series, start_s, end_s, columns, DTYPES)
            for start_s, end_s, columns in self._queries
        )


_TWO = ("price", "time")


class World:
    """The root: what stands still, what moves, and the right answers of both."""

    def __init__(self, root: str, scale: Scale) -> None:
        self.root = root
        self._put_still(scale)
        self.small = [
            self._question(SMALL),
            self._question(SMALL, DAY_START_S + 100, DAY_START_S + 200),
            self._question(SMALL, DAY_START_S, DAY_START_S + 400, ("price",)),
            self._question(SMALL, 0, 1),
        ]
        begin_s = DAY_START_S + 3_000
        self.medium = [
            self._question(MEDIUM, columns=COLUMNS),
            self._question(MEDIUM, begin_s, begin_s + 86_400, ("order", "time")),
            self._question(MEDIUM, begin_s, U32_MAX, ("id", "price", "time")),
        ]
        self.large = self._question(LARGE, columns=("price",))
        self.many = self._question(MANY, columns=COLUMNS)
        self.many_part = self._question(MANY, DAY_START_S + 86_400 * 3, U32_MAX, ("order", "id"))
        self.still = [*self.small, *self.medium, self.large, self.many, self.many_part]
        self.symbols = naive_symbols(root, "still")
        self.narrow = [Moving(root, f"N{index}", 700) for index in range(2)]
        self.wide = Moving(root, "WIDE", 17_000)
        """More than 64 KiB a column, so its answers are not sent at once."""
        self.live: Recording | None = None
        """What a recorder appends to now."""

    @property
    def moving(self) -> list[Moving]:
        """All series that change."""
        return [*self.narrow, self.wide]

    def _put_still(self, scale: Scale) -> None:
        put(self.root, columns_of(500, DAY_START_S), DAY, SMALL)
        for index in range(2):
            day = DAY + timedelta(days=index)
            put(self.root, columns_of(scale.medium_records, start_of(day), index), day, MEDIUM)
        flat = array("I", [DAY_START_S]) * scale.large_records
        put(self.root, {"time": flat.tobytes(), "price": marks(scale.large_records)}, DAY, LARGE)
        for index in range(scale.many_days):
            day = DAY + timedelta(days=index)
            columns = columns_of(500, start_of(day), 7 * index)
            if index % 50 == 9:
                del columns["order"]  # this day is skipped
            put(self.root, columns, day, MANY)
        for below, _, names in os.walk(os.path.join(self.root, "still")):
            for name in names:
                os.utime(os.path.join(below, name), (OLD_S, OLD_S))

    def _question(
        self,
        series: Series,
        start_s: int = 0,
        end_s: int = U32_MAX,
        columns: tuple[str, ...] = ("time", "price"),
    ) -> Question:
        body = naive_answer(self.root, *series, start_s, end_s, columns, DTYPES)
        days = len({name.partition(".")[2] for name in os.listdir(folder(self.root, series))})
        target = data_target(series, start_s, end_s, columns)
        return Question(target, body, days * len(columns))
