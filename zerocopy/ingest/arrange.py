"""The records of one day in the order of its files: sorted, repetitions found, merged.

Owns the order (by time, then nanos, then as they came) and what an exact duplicate is. It must
never know files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zerocopy.core.layout import TIME_COLUMN
from zerocopy.ingest.convert import INSTANT, ROW_HASH, Columns
from zerocopy.ingest.recipe import NANOS
from zerocopy.ingest.times import NS_PER_S

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

_PIECE_RECORDS = 1 << 15
_TIES_MAX = 1 << 16
"""Records of one instant that are compared with those of the next piece; more wait for the end."""
_ODD = 0x9E37_79B9_7F4A_7C15  # spreads keys over 64 bits: 2^64 over the golden ratio


class Arrival:
    """How the records of a day come, piece by piece.

    `is_ordered` says whether they are in order so far. If they are, `repeats` of them are the same
    as an earlier one, as `repeated` would find them.
    """

    def __init__(self) -> None:
        self.is_ordered = True
        self.repeats = 0
        self._last: Columns = {}  # the records of the last instant

    def add(self, columns: Columns) -> None:
        """Some more; at least one."""
        keys = columns[INSTANT]
        last = self._last
        if not self.is_ordered:
            return
        if (keys[1:] < keys[:-1]).any() or (last and keys[0] < last[INSTANT][0]):
            self._give_up()
            return
        self.repeats += len(repeated(columns))
        begin = int(np.searchsorted(keys, keys[-1], "left"))
        ties = {name: column[begin:].copy() for name, column in columns.items()}
        if last and keys[0] == last[INSTANT][0]:
            stop = int(np.searchsorted(keys, keys[0], "right"))
            first = {name: column[:stop] for name, column in columns.items()}
            both = {name: np.concatenate([last[name], first[name]]) for name in columns}
            self.repeats += len(repeated(both)) - len(repeated(last)) - len(repeated(first))
            ties = ties if begin else both
        self._last = ties
        if len(ties[INSTANT]) > _TIES_MAX:
            self._give_up()

    def _give_up(self) -> None:
        self.is_ordered, self.repeats, self._last = False, 0, {}


def in_order(columns: Columns) -> Columns:
    """The records by their instants; those of one instant stay as they are."""
    keys = columns[INSTANT]
    if (keys[1:] >= keys[:-1]).all():
        return columns
    order = np.argsort(keys, kind="stable")
    return {name: column[order] for name, column in columns.items()}


def repeated(columns: Columns) -> NDArray[np.intp]:
    """The indices of records in order that are the same as an earlier one, row hash included.

    Only records of one instant are compared, so a day without any costs one pass.
    """
    keys = columns[INSTANT]
    is_tie = keys[1:] == keys[:-1]
    if not is_tie.any():
        return np.empty(0, np.intp)
    rows = np.flatnonzero(np.append(is_tie, False) | np.append(False, is_tie))
    if ROW_HASH in columns:
        # Where ids differ this ends it: one sort of integers.
        mixed = columns[ROW_HASH][rows] ^ (keys[rows].view("u8") * np.uint64(_ODD))
        mixed.sort()
        if (mixed[1:] != mixed[:-1]).all():
            return np.empty(0, np.intp)
    frame = _frame({name: column[rows] for name, column in columns.items()})
    first = frame.with_row_index("#at").unique(frame.columns, keep="first", maintain_order=True)
    return np.delete(rows, first.get_column("#at").to_numpy())


def without(columns: Columns, indices: NDArray[np.intp]) -> Columns:
    """All records but those."""
    return {name: np.delete(column, indices) for name, column in columns.items()}


def without_known(columns: Columns, existing: Columns) -> tuple[Columns, int]:
    """The records that a day does not have yet, and how many it has.

    The second of two equal records is known if the day has two of them.
    """
    known = _numbered(existing)
    added = _numbered({name: columns[name] for name in existing}).with_row_index("#at")
    names = [name for name in added.columns if name != "#at"]
    left = added.join(known, on=names, how="anti", nulls_equal=True, maintain_order="left")
    keep = np.sort(left.get_column("#at").to_numpy())
    count = len(columns[TIME_COLUMN])
    return {name: column[keep] for name, column in columns.items()}, count - len(keep)


def merged(existing: Columns, added: Columns) -> Columns:
    """Files' columns of both, by time and nanos; at one instant what was there comes first."""
    keys = np.concatenate([instants_of(existing), instants_of(added)])
    order = np.argsort(keys, kind="stable")
    return {name: np.concatenate([existing[name], added[name]])[order] for name in added}


def instants_of(columns: Columns) -> NDArray[np.int64]:
    """Unix nanoseconds of each record of files' columns."""
    found = columns[TIME_COLUMN].astype(np.int64) * NS_PER_S
    return found + columns[NANOS] if NANOS in columns else found


def as_files(columns: Columns, *, with_nanos: bool) -> Columns:
    """The columns as files have them: time and nanos made of the instants, the rest as it is."""
    instants = columns[INSTANT]
    time = np.empty(len(instants), "<u4")
    nanos = np.empty(len(instants) if with_nanos else 0, "<u4")
    # Piece by piece: what lies between is as wide as the instants, and stays in the cache so.
    for at in range(0, len(instants), _PIECE_RECORDS):
        piece = slice(at, at + _PIECE_RECORDS)
        seconds = instants[piece] // NS_PER_S
        time[piece] = seconds
        if with_nanos:
            nanos[piece] = instants[piece] - seconds * NS_PER_S
    made: Columns = {TIME_COLUMN: time} | ({NANOS: nanos} if with_nanos else {})
    own = {name: column for name, column in columns.items() if name not in {INSTANT, ROW_HASH}}
    return made | own


def _numbered(columns: Columns) -> pl.DataFrame:
    """Records with a number among their equals."""
    import polars as pl  # noqa: PLC0415 - the extra `import`

    frame = _frame(columns)
    return frame.with_columns(pl.int_range(pl.len()).over(frame.columns).alias("#number"))


def _frame(columns: Columns) -> pl.DataFrame:
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
