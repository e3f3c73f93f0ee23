"""Mends what can be mended without loss: rests of records, order, records in another day's file.

Owns what is done to each day, and the log of it. Each day is read whole, put right in memory, and
replaced by `SeriesWriter`: write, fsync, rename, `time` last. A record that belongs to the day
before or behind moves there in the same step. A run that is killed is completed by the next.

Not mended, because it would be a guess or a loss: columns that are shorter than `time`, records of
another width, times more than a day away, days that are being written.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from zerocopy.core.errors import IngestError
from zerocopy.core.layout import DAY_S, LAST_DAY, TIME_COLUMN, day_label, file_name
from zerocopy.ingest.daywriter import SeriesWriter
from zerocopy.ingest.verifying.day import is_open, lengths_of
from zerocopy.ingest.verifying.walk import list_days

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from zerocopy.ingest.verifying.day import Lengths, Place
    from zerocopy.ingest.verifying.walk import Days

    Columns = dict[str, NDArray[Any]]

LOG_NAME = ".repair.log"
"""Below the root: a line of JSON for each step. The server ignores hidden names."""

CUT_BYTES_LOGGED_MAX = 1 << 10
"""Rests of a column up to this size are in the log, in hexadecimal digits."""


class Step(NamedTuple):
    """What is done, or would be, to a day of a series."""

    series: str
    day: str
    done: str
    facts: dict[str, Any]


class _Day(NamedTuple):
    """The aligned records of a day; `rests` are the bytes behind them, by column."""

    columns: Columns
    rests: dict[str, bytes]


class Repair:
    """Mends the days of one series, which is locked meanwhile; `log` is told of each step.

    With `is_dry` it tells the steps and changes nothing.
    """

    def __init__(
        self,
        place: Place,
        names: tuple[str, str, str],
        log: Callable[[Step], None],
        *,
        is_dry: bool,
    ) -> None:
        self._place = place
        self._names = names
        self._series = os.path.join(*names)
        self._log = log
        self._is_dry = is_dry
        self._days: Days = {}

    def run(self) -> None:
        """Mend what can be.

        Raises:
            IngestError: another process writes the series, or a day cannot be written.
        """
        root = self._place.root
        if self._is_dry:
            self._all(None)
            return
        rests = list_days(root, self._series)[1]
        with SeriesWriter(root, self._names) as writer:
            for rest in rests:
                if rest.problem == "leftover":
                    name = os.path.basename(rest.path)
                    done = "completed or removed what a killed run left"
                    self._log(Step(self._series, name, done, {}))
            self._all(writer)

    def _all(self, writer: SeriesWriter | None) -> None:
        self._look()
        for day in sorted(self._days):
            if TIME_COLUMN not in self._days[day] or self._is_open(day):
                continue
            try:
                self._one(writer, day)
            except OSError as error:
                raise IngestError(
                    f"{self._series}: {day_label(day)} cannot be read: {error.strerror}"
                ) from error

    def _one(self, writer: SeriesWriter | None, day: int) -> None:
        """Mend a day, and those beside it that get records of it."""
        sizes = self._sizes(day)
        lengths = lengths_of(sizes, self._place.dtypes)
        if not lengths.is_even and not lengths.is_cuttable:
            return
        # Most days are sound: only their times are read.
        times = self._column(day, TIME_COLUMN, lengths.aligned)
        is_sorted = bool((times[1:] >= times[:-1]).all())
        days = times // DAY_S
        outside = [int(each) for each in np.unique(days[days != day])]
        if any(abs(each - day) > 1 or each > LAST_DAY for each in outside):
            return
        if lengths.is_even and is_sorted and not outside:
            return
        found = self._read(day, sizes, lengths)
        changed, steps = self._move(day, found.columns, days, outside)
        if not is_sorted:
            steps.append(self._step(day, "sorted by time", records=len(times)))
        for column, rest in found.rests.items():
            if rest:
                kept = {"hex": rest.hex()} if len(rest) <= CUT_BYTES_LOGGED_MAX else {}
                facts = {"column": column, "bytes": len(rest), **kept}
                steps.append(self._step(day, "cut off what has no time", **facts))
        if writer is not None and steps:
            writer.write_together(changed)
            self._look()
        for each in steps:
            self._log(each)

    def _move(
        self, day: int, columns: Columns, days: NDArray[Any], outside: list[int]
    ) -> tuple[dict[int, Columns], list[Step]]:
        """The day without what belongs to the days `outside`, and these with it, all sorted."""
        changed: dict[int, Columns] = {}
        steps: list[Step] = []
        stays = days == day
        for other in outside:
            target = self._target(other, set(columns))
            if target is None:
                stays |= days == other
                continue
            moved = _taken(columns, days == other)
            # Within a second the records of the day before come first, as they were written.
            both = (moved, target) if day < other else (target, moved)
            changed[other] = _sorted(_joined(*both))
            records = len(moved[TIME_COLUMN])
            to = {"to": day_label(other)}
            steps.append(self._step(day, "moved records to their day", records=records, **to))
        changed[day] = _sorted(_taken(columns, stays))
        return changed, steps

    def _target(self, day: int, columns: set[str]) -> Columns | None:
        """The records of a day that is to get some; None where it cannot."""
        files = self._days.get(day)
        if files is None:
            dtypes = self._place.dtypes
            return {column: np.empty(0, dtypes.of(column).name) for column in columns}
        if files.keys() != columns or self._is_open(day):
            return None
        sizes = self._sizes(day)
        lengths = lengths_of(sizes, self._place.dtypes)
        if not lengths.is_even and not lengths.is_cuttable:
            return None
        return self._read(day, sizes, lengths).columns

    def _step(self, day: int, done: str, **facts: Any) -> Step:
        return Step(self._series, day_label(day), done, facts)

    # ---- files

    def _sizes(self, day: int) -> dict[str, int]:
        return {column: file.size for column, file in self._days[day].items()}

    def _look(self) -> None:
        self._days, _ = list_days(self._place.root, self._series)

    def _is_open(self, day: int) -> bool:
        changed_s = max(file.changed_s for file in self._days[day].values())
        return is_open(day, changed_s, self._place.now_s)

    def _path(self, day: int, column: str) -> str:
        return os.path.join(self._place.root, self._series, file_name(column, day))

    def _column(self, day: int, column: str, count: int) -> NDArray[Any]:
        return np.fromfile(self._path(day, column), self._place.dtypes.of(column).name, count)

    def _read(self, day: int, sizes: dict[str, int], lengths: Lengths) -> _Day:
        columns, rests = {}, {}
        for column in sizes:
            size = self._place.dtypes.of(column).nbytes
            columns[column] = self._column(day, column, lengths.aligned)
            with open(self._path(day, column), "rb") as file:
                file.seek(lengths.aligned * size)
                rests[column] = file.read()
        return _Day(columns, rests)


class LogFile:
    """The log of what was done, below the root: each line is on the disk when `write` returns.

    Raises:
        OSError: it cannot be written; nothing was mended yet.
    """

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, LOG_NAME)
        with open(self._path, "ab"):
            pass

    def write(self, step: Step) -> None:
        """Append a line.

        Raises:
            IngestError: it cannot be written; what it tells has been done.
        """
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = {"at": at, "series": step.series, "day": step.day, "done": step.done, **step.facts}
        try:
            with open(self._path, "ab") as file:
                file.write(orjson.dumps(line) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            why = f"{self._path}: cannot be written: {error.strerror}"
            raise IngestError(f"{why}; {step.series}: {step.day}: {step.done}") from error


def _taken(columns: Columns, rows: NDArray[np.bool_]) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _joined(first: Columns, second: Columns) -> Columns:
    return {name: np.concatenate((column, second[name])) for name, column in first.items()}


def _sorted(columns: Columns) -> Columns:
    """By time; records of the same second stay in their order."""
    order = np.argsort(columns[TIME_COLUMN], kind="stable")
    return {name: column[order] for name, column in columns.items()}
