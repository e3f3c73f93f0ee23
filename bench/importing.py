"""Files of trades into day files: `zerocopy import` beside scripts of pandas and polars.

Owns the files and the table. Each run is a process on one core; all day files are compared.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.import_peer import PEERS
from bench.peers import missing, pinned
from bench.rounds import progress
from bench.section import OURS, Table, spread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rounds import Options
    from bench.servers import Servers

ROWS, SMOKE_ROWS = 8_000_000, 20_000
SEED = 18
BEGIN_MS = 1_735_689_600_000  # 2025-01-01
SPAN_MS = 2 * 86_400_000
SERIES = ("binance", "BTCUSDT", "TRADES")


class _Run(NamedTuple):
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def measure_import(options: Options, servers: Servers) -> Iterator[Table]:
    """One table: a row for each form of file and each way."""
    rows = SMOKE_ROWS if options.smoke else ROWS
    table = Table(
        title=f"Import: {rows / 1e6:g} M trades of two days into day files",
        client=(
            "each run a process on one core; the start is what a file of one row takes; the files "
            "are in the page cache; the scripts read four columns and check nothing, `zerocopy "
            "import` reads all, checks each value and syncs each file"
        ),
        head=(
            "file",
            "way",
            "rows a processor second",
            "without the start",
            "processor s (range)",
            "start, processor s",
            "s",
            "peak MB",
        ),
    )
    reason = missing("polars")
    if reason is not None:
        table.skipped = reason
        yield table
        return
    folder = os.path.join(servers.directory, "import")
    progress("import: making the files")
    files = _made_elsewhere(os.path.join(folder, "whole"), rows)
    starts = _made_elsewhere(os.path.join(folder, "start"), 1)
    ways = [OURS, *(name for name in PEERS if missing(name) is None)]
    for path, start in zip(files, starts, strict=True):
        form = "CSV" if path.endswith(".csv") else "Parquet"
        with pinned(servers.server_core):
            runs = _measure(options, folder, path, ways)
            begun = _measure(options, folder, start, ways)
        best = {way: median(run.cpu_s for run in runs[way]) for way in ways}
        for way in ways:
            cpu = [run.cpu_s for run in runs[way]]
            wall = median(run.wall_s for run in runs[way])
            peak = max(run.peak_mb for run in runs[way])
            start_s = median(run.cpu_s for run in begun[way])
            rates = [f"{rows / max(best[way] - less, 1e-3):,.0f}" for less in (0.0, start_s)]
            took = spread(cpu, 2), f"{start_s:.2f}", f"{wall:.2f}", f"{peak:,.0f}"
            table.rows.append((form, way, *rates, *took))
            if way != OURS:
                table.verdicts.append(
                    f"{form}: zerocopy / {way}: **{best[way] / best[OURS]:.2f}** times the rows "
                    "of a processor second"
                )
    table.notes.append("All wrote the same day files, byte for byte.")
    yield table


def _measure(options: Options, folder: str, path: str, ways: list[str]) -> dict[str, list[_Run]]:
    runs: dict[str, list[_Run]] = {way: [] for way in ways}
    for number in range(options.rounds):
        # The order turns round by round: what one way leaves behind meets all the others.
        for way in ways[:: 1 - number % 2 * 2]:
            progress(f"import: {os.path.basename(path)}, round {number + 1}, {way}")
            runs[way].append(_run(way, path, os.path.join(folder, way)))
        wanted = _days(os.path.join(folder, ways[0]))
        if any(_days(os.path.join(folder, way)) != wanted for way in ways):
            raise RuntimeError("import: not all wrote the same day files")
    return runs


def _run(way: str, path: str, root: str) -> _Run:
    """Processor time and memory of one process, from wait4(2)."""
    shutil.rmtree(root, ignore_errors=True)
    if way == OURS:
        command = [sys.executable, "-m", "zerocopy", "import", path, "--root", root]
        command += ["--preset=binance-aggtrades"]
    else:
        command = [sys.executable, "-m", "bench.import_peer", way, path]
        command += [os.path.join(root, *SERIES)]
    begun = time.monotonic()
    environment = {**os.environ, "ZEROCOPY_CONFIG": os.devnull}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"import: {way} ended with {process.returncode}")
    wall_s = time.monotonic() - begun
    return _Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e3)


def _days(root: str) -> dict[str, str]:
    """What tells the day files from others."""
    folder = os.path.join(root, *SERIES)
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _made_elsewhere(folder: str, rows: int) -> list[str]:
    """As `make_files`, in another process: a child's peak begins with what its parent holds."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(make_files, folder, rows).result()


def make_files(folder: str, rows: int) -> list[str]:
    """Aggregate trades as Binance publishes them, as CSV and as Parquet; their paths."""
    import polars as pl  # noqa: PLC0415 - may be missing

    rng = np.random.default_rng(SEED)
    frame = pl.DataFrame(
        {
            "agg_trade_id": np.arange(rows) + 1_715_206_948,
            "price": np.round(29_223 + rng.normal(0, 1, rows).cumsum() / 100, 1),
            "quantity": np.round(rng.exponential(0.3, rows) + 0.001, 3),
            "first_trade_id": np.arange(rows) * 2 + 3_643_221_425,
            "last_trade_id": np.arange(rows) * 2 + 3_643_221_426,
            "transact_time": BEGIN_MS + np.sort(rng.integers(0, SPAN_MS, rows)),
            "is_buyer_maker": rng.integers(0, 2, rows).astype(bool),
        }
    )
    os.makedirs(folder)
    base = os.path.join(folder, "BTCUSDT-aggTrades-2025-01")
    frame.write_csv(f"{base}.csv")
    frame.write_parquet(f"{base}.parquet")
    return [f"{base}.csv", f"{base}.parquet"]
