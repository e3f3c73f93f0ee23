"""Rows of counters in shared memory (memfd_create(2)): one for each process that counts.

Owns how a row is laid out. A worker only adds to its own row; who reads them is the supervisor's
business, and what the page for Prometheus needs is never imported here: a worker has no page.
"""

from __future__ import annotations

import mmap
import os

from zerocopy.core.counters import SLOTS

_SLOT_BYTES = 8
ROW_BYTES = len(SLOTS) * _SLOT_BYTES


def make_counters(workers: int) -> int:
    """A descriptor of zeroed shared memory with one row for each worker."""
    fd = os.memfd_create("zerocopy-counters")
    os.ftruncate(fd, workers * ROW_BYTES)
    return fd


def open_row(counters_fd: int, worker: int) -> memoryview:
    """The row of one worker: `len(SLOTS)` numbers of 64 bits, shared and writable."""
    memory = mmap.mmap(counters_fd, 0)
    return memoryview(memory).cast("Q")[worker * len(SLOTS) : (worker + 1) * len(SLOTS)]


def reset_gauges(row: memoryview) -> None:
    """What a dead predecessor held is gone; what it counted stays."""
    for index, slot in enumerate(SLOTS):
        if slot.kind in ("gauge", "shared"):
            row[index] = 0
