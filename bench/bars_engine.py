"""`python -m bench.bars_engine ENGINE TIMES (FILES STEP_S)…`: bars by polars, DuckDB or ClickHouse.

Owns the query of each engine, written as its users would. Prints for each question a line of JSON:
the milliseconds of each of so many runs, and a digest of the bars. A process of its own, so that it
can be pinned and nothing of one engine stays in memory while another one is measured.
"""

from __future__ import annotations

import glob
import hashlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = {"time": "u4", "open": "f4", "high": "f4", "low": "f4", "close": "f4"}


def with_polars(files: str, step_s: int) -> dict[str, Any]:
    """Lazily, over all files at once."""
    import polars as pl  # noqa: PLC0415 - only what is measured is loaded

    price = pl.col("price")
    taken = [
        price.first().alias("open"),
        price.max().alias("high"),
        price.min().alias("low"),
        price.last().alias("close"),
    ]
    frame = (
        pl.scan_parquet(files)
        .group_by((pl.col("time") // step_s * step_s).alias("time"), maintain_order=True)
        .agg(taken)
        .collect(engine="streaming")
        .sort("time")
    )
    return {name: frame[name].to_numpy() for name in COLUMNS}


def with_duckdb(files: str, step_s: int) -> dict[str, Any]:
    """By SQL; first and last are of the order of the files, which one thread keeps."""
    import duckdb  # noqa: PLC0415

    connection = duckdb.connect(config={"threads": 1})
    found: dict[str, Any] = connection.execute(
        f"""select time // {step_s} * {step_s} as time, first(price) as open, max(price) as high,
            min(price) as low, last(price) as close
            from read_parquet($files) group by 1 order by 1""",  # noqa: S608 - a number of ours
        {"files": sorted(glob.glob(files))},
    ).fetchnumpy()
    return found


def with_chdb(files: str, step_s: int) -> dict[str, Any]:
    """By ClickHouse in this process; without these settings first and last change run by run."""
    import chdb  # type: ignore[import-not-found]  # noqa: PLC0415

    table = chdb.query(
        f"""select intDiv(time, {step_s}) * {step_s} as bucket, first_value(price) as open,
            max(price) as high, min(price) as low, last_value(price) as close
            from file('{files}', Parquet) group by bucket order by bucket
            settings max_threads = 1, max_parsing_threads = 1, max_download_threads = 1,
            input_format_parquet_preserve_order = 1, parallelize_output_from_storages = 0""",  # noqa: S608 - a path and a number of ours
        "ArrowTable",
    ).rename_columns(list(COLUMNS))
    return {name: table[name].to_numpy() for name in COLUMNS}


ENGINES: dict[str, Callable[[str, int], dict[str, Any]]] = {
    "polars": with_polars,
    "duckdb": with_duckdb,
    "chdb": with_chdb,
}


def digest_of(columns: dict[str, Any]) -> str:
    """What two engines that give the same bars have in common."""
    digest = hashlib.sha256()
    for name, dtype in COLUMNS.items():
        digest.update(columns[name].astype(dtype).tobytes())
    return digest.hexdigest()


def main() -> None:
    """Measure one engine."""
    name, times, *questions = sys.argv[1:]
    bars_of = ENGINES[name]
    for files, step_s in zip(questions[::2], map(int, questions[1::2]), strict=True):
        bars_of(min(glob.glob(files)), step_s)  # loads what it needs
        took_ms, digests = [], set()
        for _ in range(int(times)):
            begun = time.perf_counter()
            bars = bars_of(files, step_s)
            took_ms.append((time.perf_counter() - begun) * 1e3)
            digests.add(digest_of(bars))
        print(json.dumps({"took_ms": took_ms, "digests": sorted(digests)}))


if __name__ == "__main__":
    main()
