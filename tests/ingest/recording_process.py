"""A process that records as fast as it can, to be killed.

`python -m tests.ingest.recording_process ROOT COUNT SEED`: row i of the series encodes i. It goes
on behind what is in the files, by single rows and batches of random length, over midnights.
"""

from __future__ import annotations

import os
import random
import sys
from typing import Any

import numpy as np

from zerocopy.ingest import Recorder

SERIES = ("e", "s", "T")
COLUMNS = {"price": "<f4", "id": "<u8"}
DTYPES = {"id": "u8"}
DAYS = tuple(range(20_240, 20_244))
A_DAY = 50_000
"""Rows of a day: the last ones of each are just before midnight."""


def times_of(numbers: np.ndarray) -> np.ndarray:
    """The unix seconds of rows."""
    day, at = np.divmod(numbers, A_DAY)
    seconds: np.ndarray = (DAYS[0] + day) * 86_400 + 86_400 - (A_DAY - at) // 10 - 1
    return seconds


def columns_of(first: int, count: int) -> dict[str, np.ndarray]:
    """Some rows, as a batch."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    return {"time": times_of(numbers), "price": numbers, "id": numbers.astype("u8") << 33}


def recorded(root: str) -> int:
    """Rows in the files: all of a day are there before the next one begins."""
    total = 0
    for day in DAYS:
        path = os.path.join(root, *SERIES, f"time.{day - 20_239:02}.06.25.bin")
        total += os.stat(path).st_size // 4 if os.path.exists(path) else 0
    return total


def main() -> None:
    """Record until all rows are there."""
    root, count, seed = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    chance = random.Random(seed)
    options: dict[str, Any] = dict(zip(("exchange", "symbol", "type"), SERIES, strict=True))
    options |= {"columns": [*COLUMNS], "dtypes": DTYPES, "flush_ms": 1}
    options["fsync"] = chance.choice(["never", "flush", 0.01])
    with Recorder(root, **options) as recorder:
        at = recorded(root)
        while at < count:
            some = min(chance.choice([1, 10, 3_000, 20_000]), count - at)
            columns = columns_of(at, some)
            if some > 10:
                recorder.extend(columns)
            else:
                for row in zip(*(column.tolist() for column in columns.values()), strict=True):
                    recorder.append(row)
            if chance.random() < 0.2:
                recorder.flush()
            at += some


if __name__ == "__main__":
    main()
