"""What the records of one file say, read once by pread(2) in pieces that stay in the cache.

Owns the reading of whole columns: order and range of times, NaN of floats. A mapping would be no
faster, and end the process where somebody truncates the file meanwhile.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

PIECE_BYTES = 1 << 18
"""Read and looked at in one go: it is in the second-level cache of a core then."""

_buffers = threading.local()


class TimeScan(NamedTuple):
    """Times of a day, `records` of them.

    `descents` of them are earlier than the one before, first at record `descent`; `before` and
    `after` lie outside the day. `far` are those that are more than a day away from it.
    """

    records: int
    first_s: int
    last_s: int
    newest_s: int
    descents: int
    descent: int
    before: int
    after: int
    far: int


def scan_times(fd: int, count: int, start_s: int, end_s: int) -> TimeScan:
    """Look at `count` times of the day from `start_s` to before `end_s`, in unix seconds.

    Raises:
        OSError: they cannot be read.
    """
    first = last = newest = descents = before = after = far = 0
    descent, done = -1, 0
    day_s = end_s - start_s
    for times in _pieces(fd, np.dtype("<u4"), count):
        if not done:
            first = int(times[0])
        elif times[0] < last:
            descents, descent = descents + 1, descent if descents else done
        falls = times[1:] < times[:-1]
        low, high = int(times[0]), int(times[-1])
        if falls.any():
            descent = descent if descents else done + 1 + int(falls.argmax())
            descents += int(np.count_nonzero(falls))
            low, high = int(times.min()), int(times.max())
        if low < start_s or high >= end_s:
            before += int(np.count_nonzero(times < start_s))
            after += int(np.count_nonzero(times >= end_s))
            far += int(np.count_nonzero(times < max(0, start_s - day_s)))
            far += int(np.count_nonzero(times >= end_s + day_s))
        newest = max(newest, high)
        last = int(times[-1])
        done += len(times)
    return TimeScan(done, first, last, newest, descents, descent, before, after, far)


def count_nan(fd: int, count: int, dtype: np.dtype[Any]) -> int:
    """How many of `count` records are NaN.

    Raises:
        OSError: they cannot be read.
    """
    total = 0
    for values in _pieces(fd, dtype, count):
        # The smallest of values is NaN if one of them is: a third of the cost of asking each.
        if np.isnan(values.min()):
            total += int(np.count_nonzero(np.isnan(values)))
    return total


def _pieces(fd: int, dtype: np.dtype[Any], count: int) -> Iterator[NDArray[Any]]:
    """The first `count` records, or fewer if the file is shorter by now; each until the next."""
    buffer = getattr(_buffers, "piece", None)
    if buffer is None:
        buffer = _buffers.piece = np.empty(PIECE_BYTES, np.uint8)
    size, at = dtype.itemsize, 0
    while at < count:
        wanted = min(count - at, PIECE_BYTES // size)
        got = os.preadv(fd, [buffer[: wanted * size].data], at * size) // size
        if not got:
            return
        yield buffer[: got * size].view(dtype)
        at += got
