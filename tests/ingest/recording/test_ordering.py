"""Which rows are written, and in which order, compared with a list that takes one after another."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.ingest.recording.ordering import Ordering

DTYPE = np.dtype([("time", "<u4"), ("nanos", "<u4"), ("number", "<u4")])
NOW_S = 1_000
FUTURE_S = 5

Row = tuple[int, int, int]


def ordering(reorder_s: int, floor_s: int = 0) -> Ordering:
    """At a clock of `NOW_S`."""
    return Ordering(
        reorder_s=reorder_s, future_s=FUTURE_S, floor_s=floor_s, sort_by=("time", "nanos")
    )


def model(rows: list[Row], reorder_s: int, floor_s: int) -> tuple[list[Row], int, int]:
    """What is written, and how many were late and of the future."""
    written, late, future, newest = [], 0, 0, 0
    for row in rows:
        if row[0] > NOW_S + FUTURE_S:
            future += 1
        elif row[0] < max(newest - reorder_s, floor_s):
            late += 1
        else:
            newest = max(newest, row[0])
            written.append(row)
    if reorder_s:
        written.sort(key=lambda row: row[:2])
    return written, late, future


@given(
    st.lists(st.tuples(st.integers(980, 1_008), st.integers(0, 3)), max_size=60),
    st.lists(st.integers(0, 12), max_size=12),
    st.sampled_from([0, 1, 4, 10]),
    st.sampled_from([0, 985]),
)
def test_rows_come_out_as_from_a_list_however_they_are_flushed(
    times: list[tuple[int, int]], flushes: list[int], reorder_s: int, floor_s: int
) -> None:
    """Sorted, stably, none lost, none twice; the same rows are late however often it is flushed."""
    rows = [(second, nanos, number) for number, (second, nanos) in enumerate(times)]
    order = ordering(reorder_s, floor_s)
    out: list[Row] = []
    at = 0
    for count in (*flushes, len(rows)):
        out += order.accept(np.array(rows[at : at + count], DTYPE), NOW_S, 0.0).tolist()
        assert [row[0] for row in out] == sorted(row[0] for row in out)
        at += count
    rest = order.release()
    out += [] if rest is None else rest.tolist()
    assert (out, order.late, order.future) == model(rows, reorder_s, floor_s)
    assert order.held == order.held_bytes == 0


def test_rows_of_a_feed_that_went_quiet_are_held_no_longer_than_reorder_s() -> None:
    """Then they are written, and what is older comes too late."""
    order = ordering(10)
    assert not len(order.accept(np.array([(990, 0, 1), (988, 0, 2)], DTYPE), NOW_S, 50.0))
    assert order.held == 2
    none = np.empty(0, DTYPE)
    assert not len(order.accept(none, NOW_S, 59.9))
    assert order.accept(none, NOW_S, 60.0)["number"].tolist() == [2, 1]
    assert not len(order.accept(np.array([(989, 0, 3), (991, 0, 4)], DTYPE), NOW_S, 60.0))
    assert (order.late, order.held) == (1, 1)


def test_one_row_of_the_future_makes_no_other_late() -> None:
    """It is refused, and the rows behind it are taken."""
    order = ordering(0)
    rows = np.array([(NOW_S + FUTURE_S + 1, 0, 1), (900, 0, 2), (899, 0, 3)], DTYPE)
    assert order.accept(rows, NOW_S, 0.0)["number"].tolist() == [2]
    assert (order.future, order.late) == (1, 1)
