"""The format `columns`: header bytes exact, records in the order they leave, sums that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.plans import F4, S16, U4, U8, day_records, plan_of, spelled
from zerocopy.core.layout import Dtype, day_from_label
from zerocopy.formats.columns import represent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zerocopy.core.plan import DayRecords, Representation


def shape(
    columns: Mapping[str, Dtype], days: Sequence[DayRecords], skipped: Sequence[int] = ()
) -> Representation:
    """Return what the format makes of these records."""
    return represent(plan_of(columns, days, skipped))


def label_day(label: str) -> int:
    """Return the day of `DD.MM.YY`."""
    day = day_from_label(*label.split("."))
    assert day is not None
    return day


def test_represent_writes_the_header_of_the_contract_to_the_byte() -> None:
    """Compact, keys in the order of the contract, one LF at the end and no other."""
    found = shape({"time": U4}, [day_records(0, 0, 1_000, "t")])
    assert found.content == (
        b'{"columns":[{"name":"time","record_size":4,"num_records":1000,"data_length":4000,"dtype":"<u4"}]}\n'
    )


def test_represent_lists_columns_in_the_order_asked_with_their_own_sizes() -> None:
    """Every column has the same num_records; data_length follows record_size."""
    found = shape({"id": U8, "time": U4, "order": S16}, [day_records(3, 5, 8, "ito")])
    assert found.content == (
        b'{"columns":[{"name":"id","record_size":8,"num_records":3,"data_length":24,"dtype":"<u8"},'
        b'{"name":"time","record_size":4,"num_records":3,"data_length":12,"dtype":"<u4"},'
        b'{"name":"order","record_size":16,"num_records":3,"data_length":48,"dtype":"|S16"}]}\n'
    )
    assert spelled(found.segments) == [("i3", 40, 24), ("t3", 20, 12), ("o3", 80, 48)]


def test_represent_tells_the_skipped_days_after_the_columns() -> None:
    """As DD.MM.YY in the order given; a body of skipped days alone is still a body."""
    skipped = [label_day("31.12.99"), label_day("02.06.25"), label_day("29.02.68")]
    found = shape({"price": F4}, [], skipped)
    assert found.content == (
        b'{"columns":[{"name":"price","record_size":4,"num_records":0,"data_length":0,"dtype":"<f4"}],'
        b'"skipped":["31.12.99","02.06.25","29.02.68"]}\n'
    )
    assert found.segments == ()


def test_represent_without_skipped_days_has_no_such_key() -> None:
    """An empty list is left out, as the contract's first example shows."""
    assert b"skipped" not in shape({"time": U4}, []).content


def test_represent_of_no_records_is_the_header_alone() -> None:
    """No days, or days without records in the range: all num_records 0, no segments."""
    empty = shape({"time": U4, "price": F4}, [])
    assert empty.content == (
        b'{"columns":[{"name":"time","record_size":4,"num_records":0,"data_length":0,"dtype":"<u4"},'
        b'{"name":"price","record_size":4,"num_records":0,"data_length":0,"dtype":"<f4"}]}\n'
    )
    assert (empty.segments, empty.nbytes) == ((), len(empty.content))
    assert shape({"time": U4, "price": F4}, [day_records(1, 6, 6)]) == empty


def test_represent_keeps_odd_column_names_readable() -> None:
    """All punctuation a name may hold goes into JSON unescaped."""
    found = shape({"^a.:+@=&#~-": F4}, [])
    assert found.content.startswith(b'{"columns":[{"name":"^a.:+@=&#~-","record_size":4,')


@given(
    st.lists(st.integers(1, 16), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=6),
    st.lists(st.integers(0, 36_000), max_size=3, unique=True),
)
def test_represent_of_any_days_adds_up(
    sizes: list[int], ranges: list[tuple[int, int]], skipped: list[int]
) -> None:
    """Header, segments and totals tell the same story, and the body is what it should be."""
    names = "abcde"[: len(sizes)]
    days = [day_records(n, first, first + count, names) for n, (first, count) in enumerate(ranges)]
    num_records = sum(count for _, count in ranges)
    dtypes = [Dtype(f"|S{size}", size) for size in sizes]
    found = shape(dict(zip(names, dtypes, strict=True)), days, skipped)
    header = orjson.loads(found.content)
    assert [column["name"] for column in header["columns"]] == list(names)
    assert [column["record_size"] for column in header["columns"]] == sizes
    assert [column["dtype"] for column in header["columns"]] == [f"|S{size}" for size in sizes]
    assert {column["num_records"] for column in header["columns"]} == {num_records}
    assert [c["data_length"] for c in header["columns"]] == [num_records * s for s in sizes]
    assert len(header.get("skipped", [])) == len(skipped)
    assert found.content.count(b"\n") == 1
    nbytes = sum(c["data_length"] for c in header["columns"])
    assert found.nbytes == len(found.content) + nbytes
    assert all(segment.count > 0 for segment in found.segments)
    body = b"".join(
        segment.source.read(segment.offset, segment.count) for segment in found.segments
    )
    expected = b"".join(
        day.sources[i].read(day.records.first * size, (day.records.stop - day.records.first) * size)
        for i, size in enumerate(sizes)
        for day in days
    )
    assert body == expected
