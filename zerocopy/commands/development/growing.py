"""A day of sample data that grows as a recorder would have it grow.

Owns how far the files of one day are. All ticks of a day are known beforehand, and each file is
always the beginning of what it will be. So to record, to catch up after a pause and to go on after
a crash are one thing: append to each file what it lacks by now. It must never know the demo.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from zerocopy.commands.development.sample_data import COLUMNS
from zerocopy.commands.development.sample_market import RECORD_SIZE_BYTES, S_TO_NS
from zerocopy.core.layout import TIME_COLUMN, file_name

if TYPE_CHECKING:
    from zerocopy.commands.development.sample_market import Ticks


class GrowingDay:
    """The files of one day of one series, a descriptor each, opened at the first record.

    A file that is not the beginning of what it will be has been written by somebody else. Then the
    day `is_foreign`, and none of its files is touched.
    """

    def __init__(self, root: str, ticks: Ticks) -> None:
        import numpy as np

        self._folder = os.path.join(root, ticks.exchange, ticks.symbol, ticks.type_)
        self._day = ticks.day
        chunks = list(ticks.chunks())
        # `time` last: a reader never meets a record of it that the other columns lack for long.
        names = sorted(COLUMNS[ticks.type_], key=lambda name: name == TIME_COLUMN)
        whole = {name: np.concatenate([chunk[name] for chunk in chunks]) for name in names}
        self._at_ns = whole[TIME_COLUMN].astype(np.int64) * S_TO_NS + whole["nanos"]
        self._bytes = {name: memoryview(column.tobytes()) for name, column in whole.items()}
        self._files: dict[str, int] = {}
        self._written: dict[str, int] = {}
        self.is_foreign = False

    def __enter__(self) -> Self:
        """Nothing is open yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every file."""
        while self._files:
            os.close(self._files.popitem()[1])

    def grow(self, now_ns: int) -> int | None:
        """Append every record up to `now_ns` (unix); when the next is due, None where none is left.

        Raises:
            OSError: a file cannot be written; what it lacks is appended the next time.
        """
        records = int(self._at_ns.searchsorted(now_ns, side="right"))
        if records and not self._files:
            self._open()
        if self.is_foreign:
            return None
        for name, fd in self._files.items():
            end = records * RECORD_SIZE_BYTES
            while self._written[name] < end:
                self._written[name] += os.write(fd, self._bytes[name][self._written[name] : end])
        return int(self._at_ns[records]) if records < len(self._at_ns) else None

    def _open(self) -> None:
        """Open or create every file, and see how far each is."""
        os.makedirs(self._folder, exist_ok=True)
        for name, whole in self._bytes.items():
            path = os.path.join(self._folder, file_name(name, self._day))
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._files[name] = fd = os.open(path, flags, 0o644)
            self._written[name] = size = os.fstat(fd).st_size
            with open(fd, "rb", closefd=False) as file:
                self.is_foreign |= size > len(whole) or file.read(size) != whole[:size]
