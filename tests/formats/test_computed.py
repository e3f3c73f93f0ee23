"""The formats `json`, `csv` and `parquet`: readers nobody here wrote agree on any values."""

from __future__ import annotations

import io
import json
import random
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.plans import Columns, plan_in_memory, sample
from tests.formats.readers import CHECKS, LETTERS
from tests.naive import naive_answer
from tests.storage.trees import U32_MAX, bench, query
from zerocopy.core.errors import OverloadError
from zerocopy.service.representations import encoder_of, written
from zerocopy.storage.records import Capture, RecordReader
from zerocopy.storage.tree import Series

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zerocopy.core.plan import DayRecords

pl = pytest.importorskip("polars", reason="polars is not installed")
pytest.importorskip("pyarrow", reason="pyarrow is not installed")

MARKET_DATA = Path(__file__).resolve().parents[3] / "shared" / "market-data"
EACH = pytest.mark.parametrize("name", CHECKS)
KINDS = (*LETTERS, "S1", "S5")


def oracle(columns: Mapping[str, tuple[str, bytes]]) -> bytes:
    """The body in the format `columns`, written by hand."""
    told = [
        {
            "name": name,
            "data_length": len(data),
            "dtype": ("|" if kind[0] == "S" or kind[1:] == "1" else "<") + kind,
        }
        for name, (kind, data) in columns.items()
    ]
    header = {"columns": told, "skipped": ["10.02.70"]}
    return json.dumps(header).encode() + b"\n" + b"".join(data for _, data in columns.values())


@st.composite
def some_columns(draw: st.DrawFn) -> tuple[Columns, list[int]]:
    """Some columns of any dtypes and values, bit for bit, and where days end."""
    length = draw(st.integers(0, 12))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    columns: Columns = {}
    for index, kind in enumerate(kinds):
        nbytes = length * int(kind[1:])
        columns[f"c.{index}:{kind}"] = kind, draw(st.binary(min_size=nbytes, max_size=nbytes))
    cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=3))})
    return columns, cuts


@settings(deadline=None, max_examples=3 * settings().max_examples)
@given(some_columns())
def test_any_values_are_read_as_they_were(given_: tuple[Columns, list[int]]) -> None:
    """Of any dtypes, in any days: bit for bit, but for NaN, which is one value in text."""
    columns, cuts = given_
    for name, check in CHECKS.items():
        _, body = written(name, plan_in_memory(columns, cuts))
        check(body, oracle(columns))


@pytest.mark.parametrize(("texts", "most"), [(0, 65_536), (1, 32_768), (2, 16_384)])
def test_frames_with_texts_have_fewer_records(texts: int, most: int) -> None:
    """What makes a frame copies each text, and holds the interpreter's lock meanwhile."""
    from zerocopy.formats.frames import frames  # noqa: PLC0415 - needs polars

    count = 70_000
    columns = {"time": ("u4", bytes(4 * count))}
    columns |= {f"s{number}": ("S1", bytes(count)) for number in range(texts)}
    plan = plan_in_memory(columns, (0, 40_000, count))
    with_sources = [[data for _, data in columns.values()]] * 2
    sizes = [int(kind[1:]) for kind, _ in columns.values()]

    def read(day: DayRecords, position: int, first: int, number: int) -> bytes:
        size = sizes[position]
        return with_sources[day.day][position][first * size : (first + number) * size]

    heights = [frame.height for frame in frames(plan, read)]
    assert sum(heights) == count
    assert {*heights[:-1]} == {most}


@EACH
@pytest.mark.parametrize(
    ("batch", "count"),
    [
        *((1_000, count) for count in (0, 1, 1_000, 2_101)),
        *(pytest.param(65_536, count, marks=pytest.mark.slow) for count in (65_536, 140_001)),
    ],
)
def test_more_records_than_a_batch_are_all_there(
    monkeypatch: pytest.MonkeyPatch, name: str, batch: int, count: int
) -> None:
    """One batch, and some; days that end where batches do not. The bytes are the same each time."""
    monkeypatch.setattr("zerocopy.formats.frames.BATCH_RECORDS_MAX", batch)
    columns = sample(count)
    plan = plan_in_memory(columns, [0, count // 3, count])
    _, body = written(name, plan)
    CHECKS[name](body, oracle(columns))
    assert written(name, plan)[1] == body


def test_row_groups_hold_at_most_so_many_records() -> None:
    """1,048,576, the last one fewer."""
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415

    count = 1_048_576 + 5
    columns = {"x": ("u4", struct.pack(f"<{count}I", *range(count)))}
    body = written("parquet", plan_in_memory(columns, [0, 1_000, count]))[1]
    metadata = pq.ParquetFile(io.BytesIO(body)).metadata
    groups = [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)]
    assert groups == [1_048_576, 5]


@EACH
def test_what_reading_and_writing_raise_comes_back_as_it_was(name: str) -> None:
    """No words of a library take its place."""
    encoder = encoder_of(name)
    plan = plan_in_memory(sample(100), [0, 100])

    def fail(*_: object) -> Any:
        raise OverloadError("no room")

    def read(day: DayRecords, position: int, first: int, count: int) -> bytes:
        size = plan.columns[position].dtype.nbytes
        return day.sources[position].read(first * size, count * size)

    for arguments in ((read, fail), (fail, len)):
        with pytest.raises(OverloadError, match="no room"):
            encoder.encode(plan, *arguments)


@pytest.mark.skipif(not MARKET_DATA.is_dir(), reason="../shared/market-data is not there")
@EACH
def test_recorded_market_data_equals_the_oracle(name: str) -> None:
    """Every recorded series: all of it, one record, none, and random cuts and tails."""
    chance = random.Random(20_220_101)
    root = str(MARKET_DATA)
    encoder = encoder_of(name)
    with bench(root, small_bytes_max=0) as opened:
        for directory in sorted(MARKET_DATA.glob("*/*/*/")):
            series = Series(*directory.parts[-3:])
            data = b"".join(file.read_bytes() for file in sorted(directory.glob("time.*.bin")))
            times = sorted(memoryview(data).cast("I"))
            columns = sorted({file.name.split(".", 1)[0] for file in directory.glob("*.bin")})
            start_s, end_s = sorted(chance.choices(times, k=2))
            for first_s, last_s, last in (
                (0, U32_MAX, None), (0, U32_MAX, 1), (0, 0, None), (start_s, end_s, 500),
            ):  # fmt: skip
                chosen = chance.sample(columns, chance.randint(1, len(columns)))
                capture = Capture()
                asked = query(first_s, last_s, chosen, series, last)
                planned = opened.planner.plan(asked, capture)
                parts: list[bytes] = []
                files, plan = opened.files, capture.plans[-1]
                with RecordReader(files, series, plan, planned) as records:
                    encoder.encode(plan, records.read, parts.append)
                planned.close()
                wanted = naive_answer(root, *series, first_s, last_s, chosen, None, last)
                CHECKS[name](b"".join(parts), wanted)
