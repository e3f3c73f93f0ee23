"""A series that grows: what a recorder would append."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from tests.storage.trees import OPEN_START_S

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DAY_S = 86_400


class Ticker:
    """Appends records to the files of an open day of `symbol`; their prices count from 0."""

    def __init__(self, root: Path, symbol: str) -> None:
        self.symbol = symbol
        self.count = 0
        self.day_s = OPEN_START_S
        self.day = datetime.fromtimestamp(self.day_s, UTC)
        self._folder = root / "coinbase" / symbol / "MD"
        self._folder.mkdir(parents=True)
        self.append(0)

    def append(self, count: int) -> None:
        """So many records, the times last, as a recorder that takes care."""
        prices = np.arange(self.count, self.count + count, dtype="<f4")
        self._write("price", prices, "ab")
        self._write("time", self._times(self.count, count), "ab")
        self.count += count

    def replace(self, count: int) -> None:
        """The day is another one, of so many records."""
        for name, values in (
            ("price", np.arange(count, dtype="<f4")),
            ("time", self._times(0, count)),
        ):
            self._write(f"new-{name}", values, "wb")
            self._path(f"new-{name}").rename(self._path(name))
        self.count = count

    def _times(self, first: int, count: int) -> NDArray[np.uint32]:
        return (self.day_s + np.arange(first, first + count) // 1_000).astype("<u4")

    def _write(self, name: str, values: NDArray[np.generic], mode: str) -> None:
        with self._path(name).open(mode) as file:
            file.write(values.tobytes())

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.{self.day:%d.%m.%y}.bin"
