"""Rows of shared memory: which process counts where, and when each event loop was last alive.

Owns the handing out of rows. A process that runs has a row to itself, so workers of two generations
count side by side; the row of one that has gone is given to the next, which adds to what it finds,
so that no sum ever falls. What a gauge said of the gone is wiped out as soon as it is reaped.

A heartbeat is the time of CLOCK_MONOTONIC, the same in all processes, in a memory of its own.
"""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING

from zerocopy.access.shared_counts import WORLD, SharedCounts, add_rows, make_counts
from zerocopy.observe import named_counters
from zerocopy.observe.counter_rows import reset_gauges

if TYPE_CHECKING:
    from zerocopy.observe.metrics import Collector

_BEAT_BYTES = 8


class SharedCounters:
    """The rows of all processes; there are as many as ever ran at once."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._free: list[int] = []
        self.beats_fd = os.memfd_create("zerocopy-heartbeats")
        self.names_fd = collector.names_fd = named_counters.make_names()
        self.limits_fd = make_counts()

    @property
    def counters_fd(self) -> int:
        """The memory of the rows, for a worker to open its own."""
        return self._collector.counters_fd

    def take(self, worker: int) -> int:
        """An unused row, for the process at the place `worker`."""
        if not self._free:
            self._free.append(self._collector.add_row())
            # Here and not in the workers: a slow one could cut off the rows of another.
            os.ftruncate(self.beats_fd, len(self._collector.rows) * _BEAT_BYTES)
            named_counters.add_row(self.names_fd, len(self._collector.rows))
            add_rows(self.limits_fd, limits_row(len(self._collector.rows)))
        self._free.sort()
        row = self._free.pop(0)
        self._collector.workers_by_row[row] = worker
        return row

    def wipe(self, row: int) -> None:
        """The process of `row` is gone, and holds nothing any more."""
        reset_gauges(self._collector.rows[row])
        SharedCounts(self.limits_fd, limits_row(row)).begin()

    def give_back(self, row: int) -> None:
        """The process of `row` is gone and has no successor."""
        self.wipe(row)
        del self._collector.workers_by_row[row]
        self._free.append(row)

    def beat_age_s(self, row: int) -> float:
        """Seconds since the event loop of `row` was last alive; since boot where it never was."""
        beat = os.pread(self.beats_fd, _BEAT_BYTES, row * _BEAT_BYTES)
        return time.monotonic() - int.from_bytes(beat, "little") / 1e9


def limits_row(row: int) -> int:
    """The row of the limits that belongs to a row of the counters: the first is the world's."""
    return row + WORLD + 1


def open_heartbeat(beats_fd: int, row: int) -> memoryview:
    """The place of one worker: a single number of 64 bits, shared and writable."""
    return memoryview(mmap.mmap(beats_fd, 0)).cast("Q")[row : row + 1]
