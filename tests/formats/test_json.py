"""The format `json`: what any reader of JSON finds is what lies in the files, in any pieces."""

from __future__ import annotations

import json
import math
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.plans import day_records, plan_of
from tests.table import each
from zerocopy.core.layout import parse_dtype
from zerocopy.formats import json as format_json
from zerocopy.formats.json import document, encode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zerocopy.core.plan import DayRecords

FORMATS = {
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "f4": "f", "f8": "d",
}  # fmt: skip


def written(
    columns: Mapping[str, tuple[str, bytes]], ranges: Sequence[tuple[int, int]], skipped: int = 0
) -> bytes:
    """The body of days that hold these records of the columns; each is one column, whole."""
    kinds = {name: parse_dtype("x", text) for name, (text, _) in columns.items()}
    days = [day_records(day, *ends, "x" * len(kinds)) for day, ends in enumerate(ranges)]
    contents = [data for _, data in columns.values()]
    plan = plan_of(kinds, days, range(skipped))

    def read(_day: DayRecords, position: int, first: int, count: int) -> bytes:
        width = plan.columns[position].dtype.nbytes
        return contents[position][first * width : (first + count) * width]

    parts: list[bytes] = []
    encode(plan, read, parts.append)
    return b"".join(parts)


def test_json_is_as_in_the_contract() -> None:
    """Compact, columns in their order, then the number of records, then the skipped days."""
    times, prices = struct.pack("<3I", 1, 2, 3), struct.pack("<3f", 0.1, 2.0, -1e30)
    assert written({"time": ("u4", times), "price": ("f4", prices)}, [(0, 1), (1, 3)], 1) == (
        b'{"columns":{"time":[1,2,3],"price":[0.1,2.0,-1e+30]},"num_records":3,'
        b'"skipped":["01.01.70"]}'
    )
    assert written({"time": ("u4", b"")}, []) == b'{"columns":{"time":[]},"num_records":0}'


@each(("kind", "letter"), FORMATS.items())
def test_json_values_at_the_ends_of_every_number(kind: str, letter: str) -> None:
    """Integers in full, beyond 2**53 as well; a number that is none is null."""
    bits = 8 * int(kind[1])
    values: list[Any] = [0, 2**bits - 1] if kind[0] == "u" else [-(2 ** (bits - 1)), -1]
    wanted: list[Any] = list(values)
    if kind[0] == "f":
        values = [math.nan, math.inf, -math.inf, 0.25, -0.0]
        wanted = [None, None, None, 0.25, -0.0]
    data = struct.pack(f"<{len(values)}{letter}", *values)
    body = written({"x": (kind, data)}, [(0, len(values))])
    assert json.loads(body)["columns"]["x"] == wanted


def test_json_text_ends_before_its_nuls() -> None:
    """NULs inside stay, quotes are escaped, and bytes that are no UTF-8 are replaced."""
    data = b"abc\0" + b"a\0b\0" + b"\0\0\0\0" + b'"\\\n\xff'
    body = written({"x": ("S4", data)}, [(0, 4)])
    assert json.loads(body)["columns"]["x"] == ["abc", "a\0b", "", '"\\\n\ufffd']


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(width=32), st.integers(-128, 127), st.binary(max_size=3))))
def test_json_at_once_is_json_in_pieces(records: list[tuple[float, int, bytes]]) -> None:
    """A live message has the very bytes that a response in json has."""
    columns = {
        "price": ("f4", b"".join(struct.pack("<f", value) for value, _, _ in records)),
        "level": ("i1", b"".join(struct.pack("<b", value) for _, value, _ in records)),
        "maker": ("S3", b"".join(text.ljust(3, b"\0") for _, _, text in records)),
    }
    kinds = [(name, parse_dtype("x", text)) for name, (text, _) in columns.items()]
    blocks = [data for _, data in columns.values()]
    expected = written(columns, [(0, len(records))] if records else [])
    assert document(kinds, blocks, len(records)) == expected


@settings(deadline=None)
@given(
    st.lists(st.floats(width=32), max_size=40),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 9),
)
def test_json_of_any_floats_in_any_pieces(values: list[float], cuts: list[int], piece: int) -> None:
    """The shortest digits that read back as the same f4, wherever pieces and days end."""
    ends = sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})
    ranges = list(pairwise(ends))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(format_json, "PIECE_RECORDS", piece)
        body = written({"x": ("f4", struct.pack(f"<{len(values)}f", *values))}, ranges)
    found = json.loads(body)["columns"]["x"]
    for value, read in zip(values, found, strict=True):
        if math.isfinite(value):
            assert struct.pack("<f", read) == struct.pack("<f", value)
        else:
            assert read is None
