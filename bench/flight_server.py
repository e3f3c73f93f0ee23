"""`python -m bench.flight_server PORT ROOT`: the day of the workload by Arrow Flight (pyarrow).

Owns what one would write for it: a table over the mapped day files, made once and sent to whoever
asks, whatever the ticket.
"""

from __future__ import annotations

import glob
import os
import sys

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import flight

DTYPES = {"time": "<u4", "price": "<f4"}
BATCH_RECORDS = 1 << 20


class Server(flight.FlightServerBase):  # type: ignore[misc]
    """Serves one table."""

    def __init__(self, port: int, root: str) -> None:
        super().__init__(f"grpc://127.0.0.1:{port}")
        folder = os.path.join(root, "coinbase", "BTC-USD", "TRADES")
        columns = {}
        for name, dtype in DTYPES.items():
            [path] = glob.glob(os.path.join(folder, f"{name}.*.bin"))
            columns[name] = pa.array(np.memmap(path, dtype, "r"))
        self._table = pa.table(columns)

    def do_get(self, _context: object, _ticket: object) -> object:
        """All of it."""
        batches = self._table.to_batches(max_chunksize=BATCH_RECORDS)
        return flight.GeneratorStream(self._table.schema, iter(batches))


if __name__ == "__main__":
    Server(int(sys.argv[1]), sys.argv[2]).serve()
