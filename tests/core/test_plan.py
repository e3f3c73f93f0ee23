"""The plan: header bytes exact, segments in the order they leave, sums that agree."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.core.layout import Dtype, day_from_label
from zerocopy.core.plan import DayRecords, Plan, Segment, compose, in_memory
from zerocopy.core.timeindex import RecordRange

U4, F4, U8, S16 = Dtype("<u4", 4), Dtype("<f4", 4), Dtype("<u8", 8), Dtype("|S16", 16)


class NamedSource:
    """A source that is recognised by its name; its bytes are its name over and over."""

    def __init__(self, name: str) -> None:
        self.name = name

    def fileno(self) -> int:
        """Fail: composing opens nothing."""
        raise NotImplementedError

    def read(self, offset: int, count: int) -> bytes:
        """Return bytes that show source and offset."""
        endless = self.name.encode() * (offset + count)
        return endless[offset : offset + count]

    def ready(self, offset: int, count: int, *, mapped: bool = False) -> int:
        """Fail: composing opens nothing."""
        raise NotImplementedError

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """Return what `read` returns."""
        return self.read(offset, count)


def day_records(day: int, first: int, stop: int, columns: str = "tp") -> DayRecords:
    """Return the records [first, stop) of a day, with a source `t0`, `p0` for each column."""
    sources = [NamedSource(f"{column}{day}") for column in columns]
    return DayRecords(day, RecordRange(first, stop), sources)


def spelled(plan: Plan) -> list[tuple[str, int, int]]:
    """Return the segments as (source, offset, count)."""
    found = []
    for segment in plan.segments:
        assert isinstance(segment.source, NamedSource)
        found.append((segment.source.name, segment.offset, segment.count))
    return found


def label_day(label: str) -> int:
    """Return the day of `DD.MM.YY`."""
    day = day_from_label(*label.split("."))
    assert day is not None
    return day


def test_compose_writes_the_header_of_the_contract_to_the_byte() -> None:
    """Compact, keys in the order of the contract, one LF at the end and no other."""
    plan = compose(["time"], [U4], [day_records(0, 0, 1_000, "t")], [])
    assert plan.header == (
        b'{"columns":[{"name":"time","record_size":4,"num_records":1000,"data_length":4000,"dtype":"<u4"}]}\n'
    )


def test_compose_lists_columns_in_the_order_asked_with_their_own_sizes() -> None:
    """Every column has the same num_records; data_length follows record_size."""
    plan = compose(["id", "time", "order"], [U8, U4, S16], [day_records(3, 5, 8, "ito")], [])
    assert plan.header == (
        b'{"columns":[{"name":"id","record_size":8,"num_records":3,"data_length":24,"dtype":"<u8"},'
        b'{"name":"time","record_size":4,"num_records":3,"data_length":12,"dtype":"<u4"},'
        b'{"name":"order","record_size":16,"num_records":3,"data_length":48,"dtype":"|S16"}]}\n'
    )
    assert spelled(plan) == [("i3", 40, 24), ("t3", 20, 12), ("o3", 80, 48)]


def test_compose_sends_all_of_a_column_days_ascending_before_the_next() -> None:
    """Column after column, never day after day."""
    plan = compose(["time", "price"], [U4, F4], [day_records(1, 2, 5), day_records(7, 0, 1)], [])
    assert spelled(plan) == [("t1", 8, 12), ("t7", 0, 4), ("p1", 8, 12), ("p7", 0, 4)]
    assert plan.data_nbytes == 32


def test_compose_tells_the_skipped_days_after_the_columns() -> None:
    """As DD.MM.YY in the order given; a body of skipped days alone is still a body."""
    skipped = [label_day("31.12.99"), label_day("02.06.25"), label_day("29.02.68")]
    plan = compose(["price"], [F4], [], skipped)
    assert plan.header == (
        b'{"columns":[{"name":"price","record_size":4,"num_records":0,"data_length":0,"dtype":"<f4"}],'
        b'"skipped":["31.12.99","02.06.25","29.02.68"]}\n'
    )
    assert plan.segments == ()


def test_compose_without_skipped_days_has_no_such_key() -> None:
    """An empty list is left out, as the contract's first example shows."""
    assert b"skipped" not in compose(["time"], [U4], [], []).header


def test_compose_of_no_records_is_the_header_alone() -> None:
    """No days, or days without records in the range: all num_records 0, no segments."""
    empty = compose(["time", "price"], [U4, F4], [], [])
    assert empty.header == (
        b'{"columns":[{"name":"time","record_size":4,"num_records":0,"data_length":0,"dtype":"<u4"},'
        b'{"name":"price","record_size":4,"num_records":0,"data_length":0,"dtype":"<f4"}]}\n'
    )
    assert (empty.segments, empty.data_nbytes, empty.nbytes) == ((), 0, len(empty.header))
    assert compose(["time", "price"], [U4, F4], [day_records(1, 6, 6)], []) == empty


def test_compose_leaves_out_days_without_records() -> None:
    """A segment always has bytes: an empty day costs no sendfile(2)."""
    days = [day_records(1, 0, 0), day_records(2, 9, 10), day_records(3, 4, 4)]
    assert spelled(compose(["t", "p"], [U4, Dtype("<i2", 2)], days, [])) == [
        ("t2", 36, 4),
        ("p2", 18, 2),
    ]


def test_compose_takes_offsets_and_counts_beyond_32_bits() -> None:
    """Ten thousand million records of 16 bytes are 160 GB, and stay exact."""
    plan = compose(["order"], [S16], [day_records(1, 10**10, 2 * 10**10, "o")], [])
    assert spelled(plan) == [("o1", 160_000_000_000, 160_000_000_000)]
    assert b'"data_length":160000000000,' in plan.header


def test_compose_keeps_odd_column_names_readable() -> None:
    """All punctuation a name may hold goes into JSON unescaped."""
    plan = compose(["^a.:+@=&#~-"], [F4], [], [])
    assert plan.header.startswith(b'{"columns":[{"name":"^a.:+@=&#~-","record_size":4,')


@given(
    st.lists(st.integers(1, 16), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=6),
    st.lists(st.integers(0, 36_000), max_size=3, unique=True),
)
def test_compose_of_any_days_adds_up(
    sizes: list[int], ranges: list[tuple[int, int]], skipped: list[int]
) -> None:
    """Header, segments and totals tell the same story, and the body is what it should be."""
    names = "abcde"[: len(sizes)]
    days = [day_records(n, first, first + count, names) for n, (first, count) in enumerate(ranges)]
    num_records = sum(count for _, count in ranges)
    dtypes = [Dtype(f"|S{size}", size) for size in sizes]
    plan = compose(list(names), dtypes, days, skipped)
    header = orjson.loads(plan.header)
    assert [column["name"] for column in header["columns"]] == list(names)
    assert [column["record_size"] for column in header["columns"]] == sizes
    assert [column["dtype"] for column in header["columns"]] == [f"|S{size}" for size in sizes]
    assert {column["num_records"] for column in header["columns"]} == {num_records}
    assert [c["data_length"] for c in header["columns"]] == [num_records * s for s in sizes]
    assert len(header.get("skipped", [])) == len(skipped)
    assert plan.header.count(b"\n") == 1
    assert plan.data_nbytes == sum(c["data_length"] for c in header["columns"])
    assert plan.nbytes == len(plan.header) + plan.data_nbytes
    assert all(segment.count > 0 for segment in plan.segments)
    body = b"".join(segment.source.read(segment.offset, segment.count) for segment in plan.segments)
    expected = b"".join(
        day.sources[i].read(day.records.first * size, (day.records.stop - day.records.first) * size)
        for i, size in enumerate(sizes)
        for day in days
    )
    assert body == expected


def test_plan_counts_header_and_data() -> None:
    """`nbytes` is the Content-Length."""
    assert Plan(b"{}\n", (Segment(NamedSource("t"), 0, 8),), (8,)).nbytes == 11


@pytest.mark.parametrize("days", [(1, 1), (2, 1)])
def test_compose_of_days_that_do_not_ascend_is_a_programmers_error(days: tuple[int, int]) -> None:
    """A day twice would send its records twice."""
    with pytest.raises(AssertionError, match="ascend"):
        compose(["t", "p"], [U4, F4], [day_records(day, 0, 1) for day in days], [])


def test_compose_with_a_dtype_missing_is_a_programmers_error() -> None:
    """One dtype for each column."""
    with pytest.raises(AssertionError, match="one dtype"):
        compose(["t", "p"], [U4], [], [])


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
