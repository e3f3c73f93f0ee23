"""Rows become records, value for value; what does not fit is refused with the column's name."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest

from zerocopy.core.errors import ConfigError, IngestError
from zerocopy.ingest.recording.rows import RowFormat

AT_S = 1_748_736_000  # 2025-06-01 00:00 UTC
DTYPES = {"id": "u8", "order": "S4", "exact": "f8", "small": "i1"}


def row_format(*columns: str, unit: str = "s", nanos: bool = False) -> RowFormat:
    """Of these columns, with the dtypes above."""
    return RowFormat(columns, DTYPES, unit, nanos=nanos)


def test_pack_writes_each_column_in_its_dtype() -> None:
    """As struct would, one value behind the other, from a tuple or a mapping in any order."""
    form = row_format("price", "id", "order", "exact", "side", "small")
    expected = struct.pack("<IfQ4sdIb", AT_S, 1.5, 2**63, b"ab", 0.1, 1, -3)
    row = (AT_S, 1.5, 2**63, "ab", 0.1, True, -3)
    assert form.pack(row) == expected
    assert form.pack(dict(reversed([*zip(form.fields, row, strict=True)]))) == expected
    assert form.pack((np.int64(AT_S), np.float32(1.5), *row[2:])) == expected


@pytest.mark.parametrize(
    ("unit", "value", "expected"),
    [
        ("s", AT_S, (AT_S, 0)),
        ("s", AT_S + 0.25, (AT_S, 250_000_000)),
        ("s", AT_S + 0.9999999999, (AT_S + 1, 0)),
        ("s", 1_700_000_000.123456, (1_700_000_000, 123_456_000)),
        ("ms", 1_700_000_000_123.456, (1_700_000_000, 123_456_000)),
        ("s", np.datetime64(AT_S * 10**9 + 7, "ns"), (AT_S, 7)),
        ("ms", AT_S * 1_000 + 7, (AT_S, 7_000_000)),
        ("us", AT_S * 1_000_000 + 7, (AT_S, 7_000)),
        ("ns", AT_S * 1_000_000_000 + 7, (AT_S, 7)),
        ("ms", np.datetime64(AT_S * 1_000_000 + 7, "us"), (AT_S, 7_000)),
        ("s", datetime.fromtimestamp(AT_S, UTC) + timedelta(microseconds=3), (AT_S, 3_000)),
        ("ns", datetime(2025, 6, 1, 2, tzinfo=timezone(timedelta(hours=2))), (AT_S, 0)),
    ],
)
def test_times_of_every_kind_are_the_same_second_and_nanoseconds(
    unit: str, value: Any, expected: tuple[int, int]
) -> None:
    """One by one and as a batch."""
    form = row_format("price", unit=unit, nanos=True)
    assert form.pack((value, 2.0)) == struct.pack("<IIf", *expected, 2.0)
    if not isinstance(value, datetime):
        rows = form.batch({"time": np.array([value]), "price": [2.0]})
        assert rows.tobytes() == struct.pack("<IIf", *expected, 2.0)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((AT_S, "x", 1, 0), "price: 'x' does not fit f4"),
        ((AT_S, 1e40, 1, 0), "price: 1e+40 does not fit f4"),
        ((AT_S, None, 1, 0), "price: None does not fit f4"),
        ((AT_S, 1.0, -1, 0), "id: -1 does not fit u8"),
        ((AT_S, 1.0, 1.5, 0), "id: 1.5 does not fit u8"),
        ((AT_S, 1.0, 2**64, 0), f"id: {2**64} does not fit u8"),
        ((AT_S * 1_000, 1.0, 1, 0), "is not between 1970 and 2106"),
        ((-1, 1.0, 1, 0), "is not between 1970 and 2106"),
        ((float("nan"), 1.0, 1, 0), "time: nan is none"),
        ((np.float32(AT_S), 1.0, 1, 0), "time: f4 cannot tell one minute from the next"),
        ((np.datetime64("2600-01-01", "s"), 1.0, 1, 0), "is not between 1970 and 2106"),
        (("2025-06-01", 1.0, 1, 0), "neither a number nor a datetime"),
        ((datetime(2025, 6, 1), 1.0, 1, 0), "has no zone"),  # noqa: DTZ001 - that is the case
        ((AT_S, 1.0, 1), "has 3 values; time, price, id, side are wanted"),
        ({"time": AT_S, "price": 1.0, "id": 1}, "has no side"),
        ({"time": AT_S, "price": 1.0, "id": 1, "side": 0, "x": 1}, "has x, which no column is for"),
    ],
)
def test_pack_refuses_what_would_have_to_be_bent(row: Any, words: str) -> None:
    """The sentence names the column and the value."""
    with pytest.raises(IngestError) as refused:
        row_format("price", "id", "side").pack(row)
    assert words in refused.value.detail


def test_pack_refuses_a_text_that_is_too_long_instead_of_cutting_it() -> None:
    """Bytes count, not characters."""
    form = row_format("order")
    assert form.pack((AT_S, "äb")) == struct.pack("<I4s", AT_S, "äb".encode())
    for value in ("abcde", "ääb", 7):
        with pytest.raises(IngestError, match="order: "):
            form.pack((AT_S, value))


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"price": [1e40], "id": [1]}, "price: a value is too large for f4"),
        ({"price": ["x"], "id": [1]}, "price: <U1 cannot become f4 without loss"),
        ({"price": [1.0], "id": [1.0]}, "id: float64 cannot become u8 without loss"),
        ({"price": [1.0], "id": [-1]}, "id: -1 to -1 does not fit u8"),
        ({"price": [1.0, 2.0], "id": [1]}, "columns of one length are wanted"),
        ({"price": [1.0]}, "has no id"),
        ({"price": [1.0], "id": [1], "x": [1]}, "has x, which no column is for"),
        ({"time": [AT_S * 1_000], "price": [1.0], "id": [1]}, "not all s are between 1970"),
        ({"time": np.array(["NaT"], "M8[s]"), "price": [1.0], "id": [1]}, "NaT is none"),
        ({"time": [float("inf")], "price": [1.0], "id": [1]}, "NaN or infinity is none"),
        ({"time": ["x"], "price": [1.0], "id": [1]}, "neither numbers nor datetime64"),
        ({"time": np.array([AT_S], "f4"), "price": [1.0], "id": [1]}, "f4 cannot tell one minute"),
        (
            {"time": np.array(["2600-01-01"], "M8[s]"), "price": [1.0], "id": [1]},
            "not all datetimes are between 1970 and 2106",
        ),
    ],
)
def test_batch_refuses_what_would_have_to_be_bent(columns: dict[str, Any], words: str) -> None:
    """None of its rows is taken."""
    with pytest.raises(IngestError) as refused:
        row_format("price", "id").batch({"time": [AT_S], **columns})
    assert words in refused.value.detail


def test_batch_and_rows_are_the_same_records() -> None:
    """Also where the arrays have other dtypes than the files, and NaN stays NaN."""
    form = row_format("price", "order", "side")
    rows = [(AT_S, 0.1, b"abcd", 1), (AT_S + 1, float("nan"), b"", 0)]
    packed = b"".join(map(form.pack, rows))
    times, prices, orders, sides = zip(*rows, strict=True)
    batch = form.batch({"time": times, "price": prices, "order": orders, "side": np.array(sides)})
    assert batch.tobytes() == packed == form.rows_of(packed).tobytes()


@pytest.mark.parametrize("columns", [("a/b",), ("time",), ("price", "price"), ("nanos", "x")])
def test_columns_that_cannot_be_are_refused(columns: tuple[str, ...]) -> None:
    """No name, time itself, one twice, and nanos beside those that are made."""
    with pytest.raises(ConfigError):
        row_format(*columns, nanos=True)
    with pytest.raises(ConfigError, match="one of s, ms, us, ns"):
        row_format("price", unit="min")
