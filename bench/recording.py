"""Recording and verifying, beside the least that could do the same.

Owns rows, batches and a store, and who is measured: a recorder beside loops that write the same
bytes and look at nothing, `zerocopy verify` beside cat and sha256sum over the same files. Rounds
take turns. All run on one core, files are in the page cache.
"""

from __future__ import annotations

import os
import resource
import shutil
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from bench.peers import pinned
from bench.rounds import progress
from bench.section import Table, spread
from zerocopy.core.layout import DAY_S, Dtypes, file_name
from zerocopy.ingest import Recorder
from zerocopy.ingest.verifying.day import Place
from zerocopy.ingest.verifying.verify import Verifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.rounds import Options
    from bench.servers import Servers

DAY = 20_089
"""2025-01-01, in days since the epoch."""

COLUMNS = ("price", "size", "side")
ROWS, BATCH, BATCHES = 200_000, 10_000, 300
SMOKE = 100
"""How many times less is measured in a smoke run."""

STORE_DAYS, STORE_RECORDS = 8, 8_000_000
OURS = "zerocopy"

Way = Callable[[str], int]
"""Does the work below a path; how many units it was."""


def measure_recording(options: Options, servers: Servers) -> Iterator[Table]:
    """One table of rows a second, one of bytes a second."""
    scale = SMOKE if options.smoke else 1
    folder = os.path.join(servers.directory, "recording")
    with pinned(servers.client_core):
        yield _recorded(options, folder, scale)
        yield _verified(options, folder, scale)
    shutil.rmtree(folder)


def _recorded(options: Options, folder: str, scale: int) -> Table:
    table = Table(
        title="Rows recorded",
        client=(
            "rows of a time and three columns; zerocopy orders, checks and flushes them to four "
            "files, its peers write the same bytes and look at nothing"
        ),
        head=("rows", "by", "rows a second (range)", "µs of processor a row"),
    )
    ways = {"one by one": _one_by_one(scale), f"batches of {BATCH:,}": _in_batches(scale)}
    for label, each in ways.items():
        for name, (wall, cpu) in _rounds(options, folder, label, each).items():
            table.rows.append((label, name, spread(wall), spread(cpu, 3)))
    return table


def _one_by_one(scale: int) -> dict[str, Way]:
    rows = [
        (DAY * DAY_S + at // 1_000, 104.5 + at % 7, 0.25, at & 1) for at in range(ROWS // scale)
    ]

    def ours(path: str) -> int:
        with _recorder(path) as recorder:
            for row in rows:
                recorder.append(row)
        return len(rows)

    def by_struct(path: str) -> int:
        pack = struct.Struct("<IffI").pack
        with open(path, "wb") as file:
            file.writelines(pack(*row) for row in rows)
        return len(rows)

    return {OURS: ours, "struct.pack, file.writelines": by_struct}


def _in_batches(scale: int) -> dict[str, Way]:
    count = BATCHES // min(scale, BATCHES)
    batch = {
        "time": np.full(BATCH, DAY * DAY_S, "<u4"),
        "price": np.linspace(100, 110, BATCH, dtype="<f4"),
        "size": np.linspace(1, 2, BATCH, dtype="<f4"),
        "side": np.arange(BATCH, dtype="<u4") % 2,
    }

    def ours(path: str) -> int:
        with _recorder(path) as recorder:
            for _ in range(count):
                recorder.extend(batch)
        return count * BATCH

    def by_tofile(path: str) -> int:
        os.mkdir(path)
        with ExitStack() as stack:
            files = {
                name: stack.enter_context(open(f"{path}/{name}", "wb", buffering=0))
                for name in batch
            }
            for _ in range(count):
                for name, column in batch.items():
                    column.tofile(files[name])
        return count * BATCH

    return {OURS: ours, "ndarray.tofile": by_tofile}


def _verified(options: Options, folder: str, scale: int) -> Table:
    root = os.path.join(folder, "store")
    series = os.path.join(root, "e", "s", "T")
    os.makedirs(series)
    count = STORE_RECORDS // scale
    times = np.linspace(0, DAY_S - 1, count).astype("<u4")
    prices = np.linspace(100, 110, count, dtype="<f4")
    for day in range(DAY, DAY + STORE_DAYS):
        (times + np.uint32(day * DAY_S)).tofile(f"{series}/{file_name('time', day)}")
        for name in ("price", "size"):
            prices.tofile(f"{series}/{file_name(name, day)}")
    files = [os.path.join(series, name) for name in sorted(os.listdir(series))]
    nbytes = sum(os.path.getsize(path) for path in files)

    def by_verify(_path: str) -> int:
        with Verifier(Place(root, Dtypes({}), (DAY + 99) * DAY_S)) as verifier:
            names, findings = verifier.names()
            if findings or [*verifier.series(names[0])]:
                raise RuntimeError("ingest: a sound store was not found to be sound")
        return nbytes

    def by_command(*command: str) -> Way:
        def run(_path: str) -> int:
            subprocess.run([*command, *files], check=True, stdout=subprocess.DEVNULL)
            return nbytes

        return run

    ways = {OURS: by_verify, "cat": by_command("cat"), "sha256sum": by_command("sha256sum")}
    for run in ways.values():
        run("")  # the page cache is warm
    table = Table(
        title="Stores verified",
        client=f"{nbytes / 1e9:.2f} GB of times and floats, every byte read, in the page cache",
        head=("by", "GB a second (range)", "processor s a GB"),
    )
    for name, (wall, cpu) in _rounds(options, folder, "store verified", ways).items():
        gb = [rate / 1e9 for rate in wall]
        table.rows.append((name, spread(gb, 2), spread([each * 1e3 for each in cpu], 2)))
    return table


def _rounds(
    options: Options, folder: str, label: str, ways: dict[str, Way]
) -> dict[str, tuple[list[float], list[float]]]:
    """Units a second, and µs of processor a unit, of each way in each round."""
    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for number in range(options.rounds):
        for name, run in ways.items():
            progress(f"{label}: round {number + 1}, {name}")
            path = os.path.join(folder, "round")
            os.makedirs(folder, exist_ok=True)
            cpu_s, begun_s = _cpu_s(), time.perf_counter()
            units = run(path)
            wall_s = time.perf_counter() - begun_s
            used_s = _cpu_s() - cpu_s
            _remove(path)
            found[name][0].append(units / wall_s)
            found[name][1].append(used_s / units * 1e6)
    return found


def _cpu_s() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _recorder(path: str) -> Recorder:
    return Recorder(path, exchange="e", symbol="s", type="T", columns=COLUMNS, fsync="never")


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.unlink(path)
