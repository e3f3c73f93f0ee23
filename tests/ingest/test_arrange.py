"""The order of records and their repetitions: in one piece, or as the pieces come."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.ingest import arrange
from zerocopy.ingest.arrange import Arrival, in_order, repeated
from zerocopy.ingest.convert import INSTANT, ROW_HASH, Columns

if TYPE_CHECKING:
    import pytest


def columns_of(rows: list[tuple[int, int, int]]) -> Columns:
    """Records of an instant, a price and an id."""
    instants, prices, ids = zip(*rows, strict=True)
    return {
        INSTANT: np.array(instants, np.int64),
        "price": np.array(prices, "<f4"),
        ROW_HASH: np.array(ids, np.uint64),
    }


rows_strategy = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=12
)


@given(rows=rows_strategy, cuts=st.sets(st.integers(1, 11)), is_sorted=st.booleans())
def test_pieces_are_judged_as_the_whole(
    rows: list[tuple[int, int, int]], cuts: set[int], *, is_sorted: bool
) -> None:
    """However a day is cut: whether it is in order, and how many records repeat another one."""
    if is_sorted:
        rows = sorted(rows, key=lambda row: row[0])
    bounds = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    arrival = Arrival()
    for begin, end in itertools.pairwise(bounds):
        arrival.add(columns_of(rows[begin:end]))
    whole = columns_of(rows)
    assert arrival.is_ordered == (in_order(whole) is whole)
    if arrival.is_ordered:
        assert arrival.repeats == len(repeated(whole)) == len(rows) - len({*rows})


def test_very_many_records_of_one_instant_are_left_for_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each piece would be compared with all that came before."""
    monkeypatch.setattr(arrange, "_TIES_MAX", 3)
    arrival = Arrival()
    for number in range(3):
        arrival.add(columns_of([(7, number, 0)]))
        assert arrival.is_ordered
    arrival.add(columns_of([(7, 3, 0)]))
    assert not arrival.is_ordered
