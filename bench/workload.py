"""What is asked for: one generated day, and queries of four sizes up to the whole day.

Owns the data and the request targets. It must never know who serves them.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from zerocopy.commands.development.sample_data import GenerateSpec, generate

SEED = 20_250_131
DAY = date(2025, 1, 31)
COLUMNS = ("time", "price")
RECORD_BYTES = 8
"""One record of both columns."""

SIZES = {"4k": 4_096, "64k": 64_000, "1m": 1_000_000}
"""Bytes of the bodies that the queries aim at, header line included; 48m is the whole day."""

HEADER_BYTES = 163
"""The header line of two columns with counts of three and four digits."""

LARGE_RECORDS = 6_000_000
"""Two columns of it are 48 MB: above any socket buffer, below any page cache."""

SMOKE_RECORDS = 120_000

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Workload:
    """The data root, and the request targets over it by size."""

    root: str
    targets: dict[str, str]


def make_workload(root: str, records: int) -> Workload:
    """Generate one day of `records` and pick the queries; files end up in the page cache."""
    spec = GenerateSpec(
        root=root,
        first_day=DAY,
        symbols=("BTC-USD",),
        types=("TRADES",),
        records_per_day=records,
        seed=SEED,
    )
    generate(spec)
    directory = os.path.join(root, "coinbase", "BTC-USD", "TRADES")
    for name in os.listdir(directory):
        warm(os.path.join(directory, name))
    times = array("I")
    with open(os.path.join(directory, f"time.{DAY:%d.%m.%y}.bin"), "rb") as file:
        times.frombytes(file.read())
    targets = {
        size: _target(*pick_range(times, (nbytes - HEADER_BYTES) // RECORD_BYTES))
        for size, nbytes in SIZES.items()
    }
    return Workload(root, {**targets, "48m": _target(times[0], times[-1])})


def pick_range(times: array[int], records: int) -> tuple[int, int]:
    """Both inclusive ends, in unix seconds, of about `records` records, near the middle.

    A second cannot be cut in two, so the range is the one whose count comes nearest.
    """
    firsts = [0, *(index for index, (a, b) in enumerate(pairwise(times), 1) if a != b), len(times)]
    best = (abs(len(times) - records), 0, len(firsts) - 1)
    for begin in range(len(firsts) // 2, len(firsts) - 1):
        wanted = firsts[begin] + records
        above = bisect_left(firsts, wanted, begin + 1, len(firsts) - 1)
        for end in {max(above - 1, begin + 1), above}:
            best = min(best, (abs(firsts[end] - wanted), begin, end))
        if best[0] == 0:
            break
    _, begin, end = best
    return times[firsts[begin]], times[firsts[end] - 1]


def warm(path: str) -> None:
    """Put a file on the disk, then into the page cache by reading it from one end to the other.

    How pages came into the cache decides how large the kernel's folios are, and so what sendfile(2)
    costs: the files of both servers come the same way.
    """
    with open(path, "rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(_READ_BYTES):
            pass


def _target(start_s: int, end_s: int) -> str:
    columns = ",".join(COLUMNS)
    return f"/api/data?symbol=BTC-USD&type=TRADES&columns={columns}&start={start_s}&end={end_s}"
