"""When a day is closed: the one rule for what caches may keep and what is mapped (decision 9).

The clock and the times of files are values that come in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from zerocopy.core.layout import DAY_S

if TYPE_CHECKING:
    from collections.abc import Sequence

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Settling:
    """The rule, as configured.

    `settle_s` are the seconds without a change that close a past day, `gap_days` the days that a
    calendar day without files counts as open after its end.
    """

    settle_s: float
    gap_days: int

    def closes_s(self, day: int, changed_ns: int) -> float:
        """The unix second from which a day is closed whose files changed last at `changed_ns`.

        That is the newest of their modification and change times: a copy that keeps the first
        (rsync -a, cp -p) moves the second, and files of a day are copied one after another.
        """
        return max((day + 1) * DAY_S, changed_ns / _NS_PER_S + self.settle_s)

    def gaps_close_s(self, first_day: int, last_day: int, days: Sequence[int]) -> float:
        """The unix second from which no day from `first_day` to `last_day` without files is open.

        `days` are those with files, ascending. The last gap decides, and one from before the last
        `gap_days` is closed when the last day is past, so no more of them are looked at.
        """
        gap = last_day
        for day in islice(reversed(days), self.gap_days):
            if day != gap:
                break
            gap -= 1
        return 0.0 if gap < first_day else float((gap + 1 + self.gap_days) * DAY_S)
