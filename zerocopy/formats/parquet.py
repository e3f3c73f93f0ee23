"""The format `parquet`: zstd, row groups of at most `ROW_GROUP_RECORDS` records, `S` columns raw.

Owns what the writer of polars is given: batches as it asks for them, so that never all records are
in memory, and an object to write to. An error in either comes back as it was raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from polars.io.plugins import register_io_source

from zerocopy.formats import frames

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from zerocopy.core.plan import Plan, Read, Write

MEDIA_TYPE = b"application/vnd.apache.parquet"

ENCODER = frames.ENCODER

ROW_GROUP_RECORDS = 1_048_576


def encode(plan: Plan, read: Read, write: Write) -> None:
    """Write the file; see `Encode`."""
    raised: list[Exception] = []

    def batches(*_asked: object) -> Iterator[pl.DataFrame]:
        try:
            yield from frames.frames(plan, read)
        except Exception as error:
            raised.append(error)
            raise

    target: Any = _Target(write, raised)  # polars asks for all that a file can do and uses this
    source = register_io_source(batches, schema=frames.empty_frame(plan).schema)
    try:
        source.sink_parquet(target, compression="zstd", row_group_size=ROW_GROUP_RECORDS)
    except Exception as error:  # noqa: BLE001 - raised again, but not in the words of polars
        raise (raised[0] if raised else error) from None


class _Target:
    """A file to polars."""

    def __init__(self, write: Write, raised: list[Exception]) -> None:
        self._write = write
        self._raised = raised

    def write(self, data: Any) -> int:
        """Hand on all of `data`."""
        try:
            self._write(bytes(data))
        except Exception as error:
            self._raised.append(error)
            raise
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is open here."""
