"""Which rows may be written now, in order: the rest is held back, or is too late.

Owns the rule of lateness. It depends on the rows and their order of arrival, not on when somebody
flushes: a row is late if it is more than `reorder_s` older than the newest before it, or older than
what is written. Values in, values out: the clocks come with each call.

    newest - reorder_s           newest
          │  held back, sorted      │
    ──────┼─────────────────────────┤
    late  │ in time
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from zerocopy.core.layout import TIME_COLUMN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[Any]


class Ordering:
    """Holds rows back until nothing older can come in time.

    `floor_s` is the newest unix second that is written: no row may be older. Rows that are more
    than `future_s` ahead of the clock are refused: one wrong unit would make all others late.
    `sort_by` are the columns that order rows, `time` first.
    """

    def __init__(
        self, *, reorder_s: int, future_s: int, floor_s: int, sort_by: tuple[str, ...]
    ) -> None:
        self.late = self.future = 0
        self.floor_s = floor_s
        self._reorder_s = reorder_s
        self._future_s = future_s
        self._sort_by = sort_by
        self._newest_s = 0
        self._held: Rows | None = None
        self._arrived: NDArray[np.float64] = np.empty(0)

    @property
    def held(self) -> int:
        """Rows that are held back."""
        return 0 if self._held is None else len(self._held)

    @property
    def held_bytes(self) -> int:
        """What they take."""
        return 0 if self._held is None else self._held.nbytes

    def accept(self, rows: Rows, now_s: float, clock_s: float) -> Rows:
        """Take rows as they arrived; those that may be written now, sorted.

        `now_s` is the unix time, `clock_s` a clock that never steps: no row is held back for longer
        than `reorder_s` of it.
        """
        rows = self._in_time(rows, now_s)
        if not self._reorder_s:
            return rows
        held = rows if self._held is None else np.concatenate((self._held, rows))
        arrived = np.concatenate((self._arrived, np.full(len(rows), clock_s)))
        times = held[TIME_COLUMN]
        # Rows of the second itself may still come in time.
        is_due = times < max(0, self._newest_s - self._reorder_s)
        overdue = times[arrived <= clock_s - self._reorder_s]
        if len(overdue):
            is_due |= times <= overdue.max()
        self._held, self._arrived = held[~is_due], arrived[~is_due]
        return self._sorted(held[is_due])

    def release(self) -> Rows | None:
        """All that is held back, sorted; at the end."""
        held, self._held = self._held, None
        self._arrived = np.empty(0)
        return None if held is None else self._sorted(held)

    def _in_time(self, rows: Rows, now_s: float) -> Rows:
        """The rows that are neither late nor of the future; counts the others."""
        if not len(rows):
            return rows
        is_future = rows[TIME_COLUMN] > now_s + self._future_s
        if is_future.any():
            self.future += int(np.count_nonzero(is_future))
            rows = rows[~is_future]
        times = rows[TIME_COLUMN].astype(np.int64)
        newest = np.maximum.accumulate(np.concatenate(([self._newest_s], times)))
        is_late = times < np.maximum(newest[:-1] - self._reorder_s, self.floor_s)
        self._newest_s = int(newest[-1])
        if is_late.any():
            self.late += int(np.count_nonzero(is_late))
            rows = rows[~is_late]
        if len(rows) and not self._reorder_s:
            self.floor_s = int(rows[TIME_COLUMN][-1])
        return rows

    def _sorted(self, rows: Rows) -> Rows:
        if not len(rows):
            return rows
        order = np.lexsort(tuple(rows[name] for name in reversed(self._sort_by)))
        rows = rows[order]
        self.floor_s = max(self.floor_s, int(rows[TIME_COLUMN][-1]))
        return rows
