"""Days of ticks for what is asked of bars: day files, roll-ups, Parquet.

Owns what the days hold, the room they take, and the one record that changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zerocopy.core.layout import DAY_S, file_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIRST_DAY = 20_089
"""2025-01-01, in days since the epoch."""

FIRST_S = FIRST_DAY * DAY_S
SEED = 20_250_101
DTYPES = {"time": "<u4", "price": "<f4"}
RECORD_BYTES = 8
NOON_S = FIRST_S + DAY_S // 2
CHANGED_PRICE = 10_000.0
"""Above all others, so that it is the high of its bar."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """A series: so many days of so many records each, from `FIRST_DAY` on."""

    symbol: str
    days: int
    records: int

    @property
    def total(self) -> str:
        """How many there are in all, for a title."""
        count = self.days * self.records
        return f"{count / 1e9:g} billion" if count >= 1e9 else f"{count / 1e6:g} M"

    def folder(self, root: str) -> str:
        """Where its day files are."""
        return os.path.join(root, "coinbase", self.symbol, "MD")


def lack_of_room(folder: str, series: Sequence[Ticks], *, with_parquet: bool) -> str | None:
    """Why the files cannot be made below `folder`, None where they can."""
    nbytes = sum(each.days * each.records for each in series) * RECORD_BYTES
    needed = nbytes * (2 if with_parquet else 1) * 11 // 10
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return (
        f"the files take up to {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; TMPDIR "
        "names a folder of another disk"
    )


def make_days(root: str, ticks: Ticks) -> None:
    """Write `time` and `price` of each day: ticks at random seconds, a walk of prices."""
    folder = ticks.folder(root)
    os.makedirs(folder)
    chance = np.random.default_rng(SEED)
    seconds = np.sort(chance.integers(0, DAY_S, ticks.records)).astype("<u4")
    walk = 100 + np.cumsum(chance.normal(0, 0.01, ticks.records))
    for number in range(ticks.days):
        day = FIRST_DAY + number
        times = seconds + np.uint32(day * DAY_S)
        prices = (np.roll(walk, 1_000 * number) + number).astype("<f4")
        for name, values in (("time", times), ("price", prices)):
            values.tofile(os.path.join(folder, file_name(name, day)))


def make_rollups(root: str, rollups: str) -> None:
    """By `zerocopy rollup`: what is not there, and what is no longer true."""
    command = [sys.executable, "-m", "zerocopy", "rollup", "--data-path", root, "--path", rollups]
    # The days were just written, and are to count as closed.
    settings = {"ZEROCOPY_CONFIG": os.devnull, "ZEROCOPY_DATA_SETTLE_S": "0"}
    subprocess.run(command, check=True, env={**os.environ, **settings}, stdout=sys.stderr)


def make_parquet(folder: str, root: str, ticks: Ticks) -> None:
    """Write the same days as one Parquet file each, by polars, which bench needs for it."""
    import polars as pl  # noqa: PLC0415

    os.makedirs(folder)
    for day in range(FIRST_DAY, FIRST_DAY + ticks.days):
        columns = {
            name: np.fromfile(os.path.join(ticks.folder(root), file_name(name, day)), dtype)
            for name, dtype in DTYPES.items()
        }
        pl.DataFrame(columns).write_parquet(f"{folder}/{day}.parquet", compression="zstd")


@contextmanager
def one_changed(root: str, ticks: Ticks) -> Iterator[None]:
    """While the block runs, a tick of the minute after noon of the first day has `CHANGED_PRICE`.

    It is not the first, the lowest or the last of its bar, so that only the high of that bar
    changes. It is written in place, as is what it was.
    """
    paths = (os.path.join(ticks.folder(root), file_name(name, FIRST_DAY)) for name in DTYPES)
    times, prices = (
        np.fromfile(path, dtype) for path, dtype in zip(paths, DTYPES.values(), strict=True)
    )
    begin, end = np.searchsorted(times, (NOON_S, NOON_S + 60))
    index = int(begin) + 1 + int(prices[begin + 1 : end - 1].argmax())
    changed = np.array(CHANGED_PRICE, DTYPES["price"])
    path = os.path.join(ticks.folder(root), file_name("price", FIRST_DAY))
    with open(path, "r+b", buffering=0) as file:
        fd, offset = file.fileno(), index * changed.itemsize
        before = os.pread(fd, changed.itemsize, offset)
        try:
            os.pwrite(fd, changed.tobytes(), offset)
            yield
        finally:
            os.pwrite(fd, before, offset)
