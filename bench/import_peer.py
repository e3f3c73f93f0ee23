"""`python -m bench.import_peer pandas|polars FILE FOLDER`: day files by a script of a few lines.

Owns what a user would write instead of `zerocopy import`: it believes the file, and checks nothing.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocopy.core.layout import day_label

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = ("transact_time", "price", "quantity", "is_buyer_maker")
DAY_MS = 86_400_000


def with_pandas(path: str) -> dict[str, Any]:
    """Columns as numpy arrays."""
    import pandas as pd  # type: ignore[import-untyped]  # noqa: PLC0415 - only what is measured is loaded

    read: Callable[..., Any] = pd.read_csv if path.endswith(".csv") else pd.read_parquet
    some = {"usecols" if path.endswith(".csv") else "columns": list(COLUMNS)}
    frame = read(path, **some)
    return {name: frame[name].to_numpy() for name in COLUMNS}


def with_polars(path: str) -> dict[str, Any]:
    """Likewise."""
    import polars as pl  # noqa: PLC0415

    read: Callable[..., Any] = pl.read_csv if path.endswith(".csv") else pl.read_parquet
    frame = read(path, columns=list(COLUMNS))
    return {name: frame[name].to_numpy() for name in COLUMNS}


PEERS = {"pandas": with_pandas, "polars": with_polars}


def main() -> None:
    """Read, sort, split by day, write."""
    name, path, folder = sys.argv[1:]
    columns = PEERS[name](path)
    ms = columns["transact_time"]
    order = np.argsort(ms, kind="stable")
    ms = ms[order]
    found = {
        "time": (ms // 1000).astype("<u4"),
        "nanos": (ms % 1000 * 1_000_000).astype("<u4"),
        "price": columns["price"][order].astype("<f4"),
        "size": columns["quantity"][order].astype("<f4"),
        "side": columns["is_buyer_maker"][order].astype("<u4"),
    }
    os.makedirs(folder)
    days = ms // DAY_MS
    for day in range(int(days[0]), int(days[-1]) + 1):
        begin, end = np.searchsorted(days, [day, day + 1])
        for column, values in found.items():
            values[begin:end].tofile(f"{folder}/{column}.{day_label(day)}.bin")


if __name__ == "__main__":
    main()
