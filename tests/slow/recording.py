"""Recorders at work, one after the other, and what an answer from their files has to be."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.contract.recorder import (
    COLUMNS,
    GONE,
    READERS,
    RECORDS_A_SECOND,
    SHARED_BYTES,
    column_of,
)
from tests.contract.site import data_of, data_target, header_of
from tests.storage.trees import OPEN_DAY, OPEN_START_S, SIZES, file_name, folder, put
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.server import Answer

TAIL_SECONDS = 20


class Recording:
    """One recorder process that appends `records` to an open day of a series of its own."""

    def __init__(self, root: str, number: int, records: int) -> None:
        self.root = root
        self.series = Series("live", f"R{number}", "MD")
        self.records = records
        self.start_s = OPEN_START_S
        put(root, dict.fromkeys(COLUMNS, b""), OPEN_DAY, self.series)
        self._written = {name: column_of(name, 0, records, self.start_s) for name in COLUMNS}
        shared = os.memfd_create("acknowledged")
        os.ftruncate(shared, SHARED_BYTES)
        self._flushed = memoryview(mmap.mmap(shared, SHARED_BYTES)).cast("Q")
        for reader in range(1, 1 + READERS):
            self._flushed[reader] = GONE  # the recorder waits for nobody
        label = file_name("", OPEN_DAY).removeprefix(".").removesuffix(".bin")
        command = [sys.executable, "-m", "tests.contract.recorder", folder(root, self.series)]
        command += [label, str(self.start_s), str(records), f"/proc/{os.getpid()}/fd/{shared}"]
        self.process = subprocess.Popen(command)
        self._shared = shared

    def target(self, columns: Sequence[str], *, is_tail: bool) -> tuple[str, int, int]:
        """A target, the first record it asks for, and how many are flushed by now."""
        flushed = self._flushed[0]
        first_s = max(0, flushed // RECORDS_A_SECOND - TAIL_SECONDS) if is_tail else 0
        begin_s = self.start_s + first_s
        target = data_target(self.series, begin_s, self.start_s + 86_399, columns)
        return target, first_s * RECORDS_A_SECOND, flushed

    def check(self, answer: Answer, columns: Sequence[str], first: int, flushed: int) -> None:
        """Aligned, a prefix of what is written, and nothing that was flushed is missing."""
        lengths = {column["num_records"] for column in header_of(answer)["columns"]}
        assert len(lengths) == 1, f"not aligned: {lengths}"
        (length,) = lengths
        assert first + length >= flushed, f"{flushed} were flushed, {first} + {length} came"
        data, offset = data_of(answer), 0
        for column in columns:
            size = SIZES.get(column, 4)
            part = data[offset : offset + length * size]
            expected = self._written[column][first * size : (first + length) * size]
            assert part == expected, f"{column}: {length} records from {first} are others"
            offset += length * size
        assert offset == len(data)

    def finish(self) -> None:
        """Wait until all is written, or end it where it hangs."""
        try:
            assert self.process.wait(60) == 0
        finally:
            self.process.kill()

    def remove(self) -> None:
        """Delete its files, as a retention job does, and the memory it shared."""
        shutil.rmtree(os.path.dirname(folder(self.root, self.series)))
        os.close(self._shared)
