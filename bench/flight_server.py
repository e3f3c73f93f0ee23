"""`python -m bench.flight_server PORT ROOT`: the days of a workload by Arrow Flight (pyarrow).

Owns what one would write for it: a table over the mapped day files, made once and sent to whoever
asks. A ticket is a number of days, from the first one; an empty one is all.
"""

from __future__ import annotations

import glob
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import flight

if TYPE_CHECKING:
    from collections.abc import Iterator

DTYPES = {"time": "<u4", "price": "<f4"}
BATCH_RECORDS = 1 << 20


class Server(flight.FlightServerBase):  # type: ignore[misc]
    """Serves one table."""

    def __init__(self, port: int, root: str) -> None:
        folder = os.path.join(root, "coinbase", "BTC-USD", "TRADES")
        self._days = [
            pa.table({name: pa.array(np.memmap(path, DTYPES[name], "r")) for name, path in day})
            for day in _days(folder)
        ]
        super().__init__(f"grpc://127.0.0.1:{port}")  # answers from here on

    def do_get(self, _context: object, ticket: flight.Ticket) -> object:
        """So many days."""
        table = pa.concat_tables(self._days[: int(ticket.ticket or len(self._days))])
        batches = table.to_batches(max_chunksize=BATCH_RECORDS)
        return flight.GeneratorStream(table.schema, iter(batches))


def _days(folder: str) -> Iterator[list[tuple[str, str]]]:
    """Name and path of each column, day by day."""
    for path in sorted(glob.glob(os.path.join(folder, "time.*.bin")), key=_day_of):
        _, _, day = os.path.basename(path).partition(".")
        yield [(name, os.path.join(folder, f"{name}.{day}")) for name in DTYPES]


def _day_of(path: str) -> list[str]:
    """Year, month and day of a file."""
    return path.split(".")[-2:-5:-1]


if __name__ == "__main__":
    Server(int(sys.argv[1]), sys.argv[2]).serve()
