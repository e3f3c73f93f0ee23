"""The records of one day in the order of its files: sorted, repetitions found, merged.

Owns the order (by time, then nanos, then as they came) and what an exact duplicate is. It must
never know files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zerocopy.core.layout import TIME_COLUMN
from zerocopy.ingest.convert import ROW_HASH
from zerocopy.ingest.recipe import NANOS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    from numpy.typing import NDArray

_NS_PER_S = 1_000_000_000
_ODD = 0x9E37_79B9_7F4A_7C15  # spreads keys over 64 bits: 2^64 over the golden ratio


def instants(columns: Mapping[str, NDArray[Any]] | NDArray[Any]) -> NDArray[np.uint64]:
    """Nanoseconds of each record."""
    names = columns.dtype.names if isinstance(columns, np.ndarray) else columns.keys()
    found = columns[TIME_COLUMN].astype(np.uint64) * np.uint64(_NS_PER_S)
    return found + columns[NANOS] if NANOS in (names or ()) else found


def in_order(records: NDArray[Any]) -> NDArray[Any]:
    """The records by time and nanos; those of one instant stay as they are."""
    keys = instants(records)
    if (keys[1:] >= keys[:-1]).all():
        return records
    return records[np.argsort(keys, kind="stable")]


def repeated(records: NDArray[Any]) -> NDArray[np.intp]:
    """The indices of records in order that are the same as an earlier one, all of the source's row.

    Only records of one instant are compared, so a day without any costs one pass.
    """
    keys = instants(records)
    is_tie = keys[1:] == keys[:-1]
    if not is_tie.any():
        return np.empty(0, np.intp)
    rows = np.flatnonzero(np.append(is_tie, False) | np.append(False, is_tie))
    mixed = records[ROW_HASH][rows] ^ (keys[rows] * np.uint64(_ODD))
    if len(np.unique(mixed)) == len(mixed):
        return np.empty(0, np.intp)
    some = records[rows]
    frame = _frame({name: some[name] for name in some.dtype.names or ()})
    first = frame.with_row_index("#at").unique(frame.columns, keep="first", maintain_order=True)
    keep = first.get_column("#at").to_numpy()
    return np.delete(rows, keep)


def without_known(
    records: NDArray[Any], existing: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[Any], int]:
    """The records that a day does not have yet, and how many it has.

    The second of two equal records is known if the day has two of them.
    """
    known = _numbered(existing)
    added = _numbered({name: records[name] for name in existing}).with_row_index("#at")
    names = [name for name in added.columns if name != "#at"]
    left = added.join(known, on=names, how="anti", nulls_equal=True, maintain_order="left")
    keep = np.sort(left.get_column("#at").to_numpy())
    return records[keep], len(records) - len(keep)


def merged(
    existing: Mapping[str, NDArray[Any]], added: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Both, by time and nanos; at one instant what was there comes first."""
    keys = np.concatenate([instants(existing), instants(added)])
    order = np.argsort(keys, kind="stable")
    return {name: np.concatenate([existing[name], added[name]])[order] for name in added}


def _numbered(columns: Mapping[str, NDArray[Any]]) -> pl.DataFrame:
    """Records with a number among their equals."""
    import polars as pl  # noqa: PLC0415 - the extra `import`

    frame = _frame(columns)
    return frame.with_columns(pl.int_range(pl.len()).over(frame.columns).alias("#number"))


def _frame(columns: Mapping[str, NDArray[Any]]) -> pl.DataFrame:
    import polars as pl  # noqa: PLC0415

    # A float's bits: NaN equals NaN, and 0.0 is not -0.0.
    return pl.DataFrame(
        {
            name: (
                column.tolist()
                if column.dtype.kind == "S"
                else np.ascontiguousarray(column).view(f"u{column.dtype.itemsize}")
            )
            for name, column in columns.items()
        }
    )
