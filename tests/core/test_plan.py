"""The plan: the records of each day and column, the segments they are, and what is in memory."""

from __future__ import annotations

from array import array

import pytest

from tests.formats.plans import F4, S16, U4, NamedSource, day_records, plan_of, spelled
from zerocopy.core.layout import Dtype
from zerocopy.core.plan import Representation, Segment, ends_of, in_memory


def test_segments_are_all_of_a_column_days_ascending_before_the_next() -> None:
    """Column after column, never day after day; each record as wide as its dtype."""
    plan = plan_of(
        {"time": U4, "order": S16}, [day_records(1, 2, 5, "to"), day_records(7, 0, 1, "to")]
    )
    assert spelled(plan.segments()) == [("t1", 8, 12), ("t7", 0, 4), ("o1", 32, 48), ("o7", 0, 16)]
    assert plan.num_records == 4


def test_segments_leave_out_days_without_records() -> None:
    """A segment always has bytes: an empty day costs no sendfile(2)."""
    days = [day_records(1, 0, 0), day_records(2, 9, 10), day_records(3, 4, 4)]
    plan = plan_of({"t": U4, "p": Dtype("<i2", 2)}, days)
    assert spelled(plan.segments()) == [("t2", 36, 4), ("p2", 18, 2)]


def test_segments_have_offsets_and_counts_beyond_32_bits() -> None:
    """Ten thousand million records of 16 bytes are 160 GB, and stay exact."""
    plan = plan_of({"order": S16}, [day_records(1, 10**10, 2 * 10**10, "o")])
    assert spelled(plan.segments()) == [("o1", 160_000_000_000, 160_000_000_000)]


def test_ends_are_counted_from_the_first_segment() -> None:
    """Where each ends, in 8 bytes each; nothing has none."""
    segments = [Segment(NamedSource("t"), 0, count) for count in (8, 1, 10**10)]
    assert ends_of(segments) == array("Q", [8, 9, 10**10 + 9])
    assert len(ends_of([])) == 0


def test_representation_counts_content_and_segments() -> None:
    """`nbytes` is the Content-Length."""
    segments = (Segment(NamedSource("t"), 0, 8),)
    assert Representation(b"a/b", b"{}\n", segments, ends_of(segments)).nbytes == 11
    assert Representation(b"a/b", b"{}\n", (), ()).nbytes == 3


@pytest.mark.parametrize("days", [(1, 1), (2, 1)])
def test_plan_of_days_that_do_not_ascend_is_a_programmers_error(days: tuple[int, int]) -> None:
    """A day twice would send its records twice."""
    with pytest.raises(AssertionError, match="ascend"):
        plan_of({"t": U4, "p": F4}, [day_records(day, 0, 1) for day in days])


def test_plan_with_a_source_missing_is_a_programmers_error() -> None:
    """A source for each column of each day."""
    with pytest.raises(AssertionError, match="a source for each column"):
        plan_of({"t": U4, "p": F4}, [day_records(1, 0, 1, "t")])


def test_what_is_in_memory_is_a_source_that_waits_for_nothing() -> None:
    """It has no descriptor, is always ready, and gives any part of its bytes."""
    segment = in_memory(b"0123456789")
    source = segment.source
    assert (segment.offset, segment.count) == (0, 10)
    assert source.fileno() is None
    assert source.ready(2, 3) == 3
    assert source.read(2, 3) == b"234"
    assert bytes(source.view(2, 3)) == b"234"


def test_nothing_in_memory_is_a_programmers_error() -> None:
    """A segment has bytes."""
    with pytest.raises(AssertionError):
        in_memory(b"")
