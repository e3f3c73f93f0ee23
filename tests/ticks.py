"""Three days of one series for tests of whole answers: how to ask for them, what must come."""

from __future__ import annotations

import os
from array import array
from datetime import timedelta
from functools import cache

from tests.naive import naive_answer
from tests.storage.trees import DAY, DAY_S, DAY_START_S, SERIES, put

DAYS = 3
END_S = DAY_START_S + DAYS * DAY_S - 1
SMALL_RECORDS = 500
"""Of the first day: what `SMALL` asks for; some 4 KB."""


def make_ticks(root: str, records_per_day: int) -> None:
    """Write `time` (u32, ascending, with repetitions) and `price` (f32, exact quarters)."""
    for index in range(DAYS):
        start_s = DAY_START_S + index * DAY_S
        times = (start_s + tick * DAY_S // records_per_day for tick in range(records_per_day))
        prices = ((tick * 7 + index) % 4_001 / 4 for tick in range(records_per_day))
        columns = {"time": array("I", times).tobytes(), "price": array("f", prices).tobytes()}
        for path in put(root, columns, DAY + timedelta(days=index)).values():
            os.utime(path, (DAY_START_S, DAY_START_S))


def ticks_target(
    start_s: int = DAY_START_S, end_s: int = END_S, columns: str = "time,price"
) -> str:
    """The request target for [start_s, end_s], all of it unless told otherwise."""
    exchange, symbol, type_ = SERIES
    return (
        f"/api/data?exchange={exchange}&symbol={symbol}&type={type_}"
        f"&start={start_s}&end={end_s}&columns={columns}"
    )


@cache
def ticks_body(
    root: str, start_s: int = DAY_START_S, end_s: int = END_S, columns: str = "time,price"
) -> bytes:
    """The body that the oracle gives; counted once, for a root that does not change."""
    return naive_answer(root, *SERIES, start_s, end_s, columns.split(","))


def small_end_s(records_per_day: int) -> int:
    """The second up to which the first day has about `SMALL_RECORDS` records."""
    return DAY_START_S + SMALL_RECORDS * DAY_S // records_per_day
