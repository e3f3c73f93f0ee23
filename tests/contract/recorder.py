"""A recorder as in the field: a process that appends to today's files as fast as it can.

`python -m tests.contract.recorder FOLDER LABEL START_S RECORDS ACKNOWLEDGED`: each column is
written through a buffer of its own in pieces of a few bytes, so that records are torn and columns
are of different length nearly always. Now and then all buffers are flushed and the number of
records that are then on disk is written to the file ACKNOWLEDGED. Record i of every column
encodes i.

Readers write into the same file how many answers they have had. The recorder waits for them now and
then, so that all meet it at work, however busy the machine is.
"""

from __future__ import annotations

import mmap
import os
import random
import struct
import sys
import time

RECORDS_A_SECOND = 40
"""How many records share a second of `time`."""

BATCH = 25
"""Records made before anything is written; a few batches lie in a buffer."""

PIECE_BYTES_MAX = 13
"""Bytes of one write(2): never more than a few records, and rarely whole ones."""

COLUMNS = ("time", "price", "id", "order")

READERS = 3
"""Places for their numbers of answers, behind the number of records."""

SHARED_BYTES = 8 * (1 + READERS)

PAUSES = 16
ANSWERS_A_PAUSE = 3
"""Of each reader: one at least was then asked for since the last pause."""

PAUSE_S = 20.0
GONE = 1 << 62
"""What a reader that asks no more writes for its number of answers."""


def record(column: str, index: int, start_s: int) -> bytes:
    """Record `index` of a column."""
    if column == "time":
        return struct.pack("<I", start_s + index // RECORDS_A_SECOND)
    if column == "price":
        return struct.pack("<f", index)  # exact below 2**24
    if column == "id":
        return struct.pack("<Q", index * 0x0001_0000_0001)
    return b"order-%010d" % index


def column_of(column: str, first: int, stop: int, start_s: int) -> bytes:
    """The records [first, stop) of a column."""
    return b"".join(record(column, index, start_s) for index in range(first, stop))


def main() -> None:
    """Write all records, then end."""
    folder, label, start, records, acknowledged = sys.argv[1:]
    chance = random.Random(17)
    start_s = int(start)
    files = {
        column: os.open(f"{folder}/{column}.{label}.bin", os.O_WRONLY | os.O_APPEND)
        for column in COLUMNS
    }
    buffers = {column: bytearray() for column in COLUMNS}
    with open(acknowledged, "r+b") as file:
        shared = memoryview(mmap.mmap(file.fileno(), SHARED_BYTES)).cast("Q")
    pauses = {int(records) * number // PAUSES // BATCH * BATCH for number in range(PAUSES)}
    for first in range(0, int(records), BATCH):
        if first in pauses:
            wait_for_readers(shared)
        stop = min(first + BATCH, int(records))
        for column in COLUMNS:
            buffers[column] += column_of(column, first, stop, start_s)
        is_flush = chance.random() < 0.05 or stop == int(records)
        for column in chance.sample(COLUMNS, len(COLUMNS)):
            buffer, left = buffers[column], 0 if is_flush else chance.randrange(700)
            while len(buffer) > left:
                piece = buffer[: chance.randint(1, PIECE_BYTES_MAX)]
                os.write(files[column], piece)
                del buffer[: len(piece)]
        if is_flush:
            shared[0] = stop


def wait_for_readers(shared: memoryview) -> None:
    """Return once each has had some answers more, or at a deadline."""
    wanted = [min(GONE, answers + ANSWERS_A_PAUSE) for answers in shared[1:]]
    deadline_s = time.monotonic() + PAUSE_S
    while any(map(int.__lt__, shared[1:], wanted)) and time.monotonic() < deadline_s:
        time.sleep(0.001)


if __name__ == "__main__":
    main()
