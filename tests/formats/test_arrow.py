"""The format `arrow`: pyarrow and polars read what the oracle says; the bytes are the files'."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.formats.plans import S16, U4, U8, NamedSource, day_records, plan_of, spelled
from tests.formats.readers import ARROW_TYPES, arrow_table, check_arrow
from tests.naive import naive_answer
from tests.storage.test_planner_properties import cases
from tests.storage.trees import DTYPES, SERIES, U32_MAX, bench, body_of, put, query
from tests.table import each
from zerocopy.core.layout import Dtype, parse_dtype
from zerocopy.formats import arrow
from zerocopy.formats.arrow import represent
from zerocopy.storage.dayfile import DayFile
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from tests.storage.test_planner_properties import Case
    from zerocopy.core.plan import Plan, Representation

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pytest.importorskip("polars", reason="polars is not installed")

MARKET_DATA = Path(__file__).resolve().parents[3] / "shared" / "market-data"


def whole(found: Representation) -> bytes:
    """The bytes of a representation, which must be as many as it says."""
    parts = [segment.source.read(segment.offset, segment.count) for segment in found.segments]
    body = found.content + b"".join(parts)
    assert len(body) == found.nbytes
    return body


def files_of(found: Representation) -> list[tuple[str, int, int]]:
    """The segments that are files' bytes."""
    return spelled([part for part in found.segments if isinstance(part.source, NamedSource)])


def read_back(plan: Plan) -> bytes:
    """The records of a plan as they lie in its sources, column after column."""
    parts = [(part.source, part.offset, part.count) for part in plan.segments()]
    return b"".join(source.read(offset, count) for source, offset, count in parts)


@each("text", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"])
def test_a_number_is_the_number_of_the_same_width(text: str) -> None:
    """Signed, unsigned and floating point; nothing is converted."""
    dtype = parse_dtype("x", text)
    plan = plan_of({"x": dtype}, [day_records(0, 1, 8, "x")])
    table = arrow_table(whole(represent(plan)))
    assert str(table.schema.field("x").type) == ARROW_TYPES[dtype.name]
    assert bytes(table.column("x").chunk(0).buffers()[1])[: 7 * dtype.nbytes] == read_back(plan)


@pytest.mark.parametrize("size", [1, 3, 8, 16, 255])
def test_text_is_binary_of_fixed_size(size: int) -> None:
    """NULs at its end included, for they may mean something."""
    plan = plan_of({"x": Dtype(f"|S{size}", size)}, [day_records(0, 2, 7, "x")])
    table = arrow_table(whole(represent(plan)))
    assert table.schema.field("x").type.byte_width == size
    assert b"".join(table.column("x").to_pylist()) == read_back(plan)


def test_columns_are_padded_to_8_bytes_from_the_beginning_of_the_stream() -> None:
    """Every column begins at a multiple of 8, so that a reader may map what it got."""
    columns = {"t": U4, "x": Dtype("|u1", 1), "o": S16, "y": Dtype("|S3", 3), "u": U8}
    found = represent(
        plan_of(columns, [day_records(1, 0, 5, "txoyu"), day_records(2, 3, 4, "txoyu")])
    )
    assert files_of(found)[0] == ("t1", 0, 20)
    begun = len(found.content)
    for before, segment in zip((None, *found.segments), found.segments, strict=False):
        in_one_buffer = before is not None and isinstance(before.source, NamedSource)
        if isinstance(segment.source, NamedSource) and not in_one_buffer:
            assert begun % 8 == 0
        begun += segment.count
    assert begun == found.nbytes
    assert begun % 8 == 0


def test_no_records_are_a_schema_and_an_end() -> None:
    """Of days without records as well; the skipped days are told."""
    for days in ([], [day_records(3, 4, 4)]):
        found = represent(plan_of({"time": U4, "p": U8}, days, [0, 1]))
        table = arrow_table(whole(found))
        assert (found.segments, table.num_rows) == ((), 0)
        assert table.column_names == ["time", "p"]
        assert table.schema.metadata == {b"skipped": b'["01.01.70","02.01.70"]'}


@pytest.mark.parametrize(
    ("least", "most", "lengths"),
    [
        (1, 100, [5, 1, 7, 3]),
        (6, 100, [6, 7, 3]),
        (100, 100, [16]),
        (4, 4, [4, 4, 4, 4]),
        (3, 5, [5, 5, 3, 3]),
    ],
)
def test_short_days_share_a_batch_and_long_ones_are_several(
    monkeypatch: pytest.MonkeyPatch, least: int, most: int, lengths: list[int]
) -> None:
    """The files' bytes are the same, in an order that keeps the columns of a batch together."""
    monkeypatch.setattr(arrow, "BATCH_RECORDS_MIN", least)
    monkeypatch.setattr(arrow, "BATCH_RECORDS_MAX", most)
    days = [day_records(day, first, stop) for day, first, stop in ((1, 0, 5), (2, 9, 9), (3, 1, 2))]
    days += [day_records(4, 2, 9), day_records(6, 0, 3)]
    plan = plan_of({"time": U4, "p": U8}, days)
    found = represent(plan)
    table = arrow_table(whole(found))
    assert [len(batch) for batch in table.to_batches()] == lengths
    data = b"".join(table.column(name).to_numpy().tobytes() for name in ("time", "p"))
    assert data == read_back(plan)
    assert sum(count for _, _, count in files_of(found)) == 16 * 12


@given(
    st.lists(st.sampled_from(["u1", "u2", "i4", "f8", "S3", "S16"]), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=6),
    st.integers(1, 60),
    st.integers(0, 60),
)
def test_any_days_in_any_batches_are_read_back(
    dtypes: list[str], ranges: list[tuple[int, int]], least: int, more: int
) -> None:
    """Content, segments and metadata tell the same story."""
    names = "abcde"[: len(dtypes)]
    days = [day_records(n, first, first + count, names) for n, (first, count) in enumerate(ranges)]
    columns = {name: parse_dtype(name, text) for name, text in zip(names, dtypes, strict=True)}
    plan = plan_of(columns, days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "BATCH_RECORDS_MIN", least)
        patch.setattr(arrow, "BATCH_RECORDS_MAX", least + more)
        body = whole(represent(plan))
    table = arrow_table(body)
    assert table.num_rows == plan.num_records
    assert all(len(batch) <= least + more for batch in table.to_batches())
    parts: list[bytes] = []
    for name, dtype in columns.items():
        chunks = table.column(name).chunks
        parts += (bytes(chunk.buffers()[1])[: len(chunk) * dtype.nbytes] for chunk in chunks)
    assert b"".join(parts) == read_back(plan)


@given(case=cases(), small=st.booleans())
def test_arrow_of_any_tree_and_query_equals_the_oracle(case: Case, *, small: bool) -> None:
    """Gaps, skipped days, torn tails, short columns, tails: value for value, in two readers."""
    known = {column for files in case.days.values() for column in files}
    columns = [column for column in case.columns if column in known]
    if not columns:
        return
    with tempfile.TemporaryDirectory() as root:
        for day, files in case.days.items():
            put(root, files, day)
        wanted = query(case.start_s, case.end_s, columns, last=case.last)
        with bench(root, small_bytes_max=1 << 20 if small else 0) as opened:
            body = body_of(opened.plan(wanted, represent))
        ends = case.start_s, case.end_s
        expected = naive_answer(root, *SERIES, *ends, columns, DTYPES, case.last)
        check_arrow(body, expected, SERIES._asdict())


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason="../shared/market-data is not there")
def test_arrow_of_recorded_market_data_equals_the_oracle() -> None:
    """Every recorded series: all of it, one record, no record, and random cuts and tails."""
    chance = random.Random(20_220_101)
    root = str(MARKET_DATA)
    with bench(root, small_bytes_max=0) as opened:
        for directory in sorted(MARKET_DATA.glob("*/*/*/")):
            series = Series(*directory.parts[-3:])
            data = b"".join(file.read_bytes() for file in sorted(directory.glob("time.*.bin")))
            times = sorted(memoryview(data).cast("I"))
            columns = sorted({file.name.split(".", 1)[0] for file in directory.glob("*.bin")})
            asked: list[tuple[int, int, int | None]] = [(0, U32_MAX, None), (0, U32_MAX, 1)]
            asked += [(0, 0, None), (times[0], times[-1], 1_000), (times[-1], times[-1], None)]
            for _ in range(4):
                start_s, end_s = sorted(chance.choices(times, k=2))
                asked.append((start_s, end_s, chance.choice([None, 10, 5_000])))
            for start_s, end_s, last in asked:
                chosen = chance.sample(columns, chance.randint(1, len(columns)))
                planned = opened.plan(query(start_s, end_s, chosen, series, last), represent)
                expected = naive_answer(root, *series, start_s, end_s, chosen, None, last)
                check_arrow(body_of(planned), expected, series._asdict())


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason="../shared/market-data is not there")
def test_nearly_all_bytes_of_a_long_answer_are_the_files() -> None:
    """A month of minute bars shares a batch: what is in memory is less than a hundredth."""
    series = Series("ftx", "BTC-PERP", "BARS")
    with bench(str(MARKET_DATA), small_bytes_max=0) as opened:
        found = opened.plan(query(columns=("time", "close"), series=series), represent)
    segments = found.representation.segments
    from_files = sum(part.count for part in segments if isinstance(part.source, DayFile))
    assert from_files >= 0.99 * found.representation.nbytes
