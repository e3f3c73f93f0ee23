"""Values: what fits a dtype is kept, what does not is refused with the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from zerocopy.core.layout import parse_dtype
from zerocopy.ingest.digits import Loss
from zerocopy.ingest.values import ValueRefused, records_of


def records(values: list[Any], dtype: str, name: str = "x", source: str = "theirs") -> list[Any]:
    """The records of a column."""
    series = pl.Series(source, values)
    found = records_of(series, name, parse_dtype(name, dtype), Loss())
    assert found.dtype.str[1:] == dtype
    return list(found.tolist())


def refused(values: list[Any], dtype: str, name: str = "x", source: str = "theirs") -> str:
    """Why a value is refused; its row in front."""
    with pytest.raises(ValueRefused) as raised:
        records(values, dtype, name, source)
    return f"{raised.value.row} {raised.value.why}"


def test_numbers_are_read_as_they_are_written() -> None:
    """Signs, exponents, blanks, infinities; nothing is NaN."""
    texts = ["1.5", "-0.25", "+3", "1e-5", "2E3", " 7 ", "inf", "-inf", ".5", "5."]
    assert records(texts, "f8") == [*map(float, texts)]
    empty = records(["", "nan", "NaN", "null", "None", "N/A", None], "f4")
    assert np.isnan(empty).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("abc", "1 'abc' is no number"),
        ("1,5", "1 '1,5' is no number (a decimal comma?)"),
        ("1 000", "1 '1 000' is no number"),
        ("true", "1 'true' is no number"),
        ("0x10", "1 '0x10' is no number"),
        ("1_000", "1 '1_000' is no number"),
        ("1e400", "1 '1e400' is too large for f8"),
        ("-1e400", "1 '-1e400' is too large for f8"),
    ],
)
def test_text_that_is_no_number_is_refused(text: str, words: str) -> None:
    """By its row."""
    assert refused(["1", text], "f4") == words


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8"])
def test_integers_reach_from_the_least_to_the_greatest(dtype: str) -> None:
    """As text and as numbers; one more does not fit, and the dtype that would is named."""
    info = np.iinfo(dtype)
    edges = [int(info.min), int(info.max)]
    assert records([*map(str, edges)], dtype) == edges
    assert records(edges, dtype) == edges
    for outside in (info.min - 1, info.max + 1):
        why = refused(["0", str(outside)], dtype)
        assert why.startswith(f"1 {outside} does not fit {dtype}: --dtype x=") or "whole" in why


def test_integers_are_whole() -> None:
    """79.0 is; 79.5 is not, nor is nothing."""
    assert records(["79.0", "1e3"], "u4") == [79, 1000]
    assert records([79.0, 80.0], "u4") == [79, 80]
    for value in ("79.5", "", None):
        assert "is no whole number, as u4 is" in refused(["1", value], "u4")
    assert "is no whole number" in refused([1.0, 1.5], "u4")


def test_text_columns_hold_bytes() -> None:
    """Shorter ones end in NULs; longer ones are refused."""
    assert records(["ab", None, "é"], "S3") == [b"ab", b"", "é".encode()]
    assert "has 4 bytes, more than S3" in refused(["ab", "abcd"], "S3")


def test_bytes_of_parquet_are_kept_as_they_are() -> None:
    """This server's own Parquet has them; they need not be UTF-8."""
    assert records([b"a\xff", None, b"b\0\0"], "S3") == [b"a\xff", b"", b"b"]
    assert "has 4 bytes, more than S3" in refused([b"ab", b"ab\xffd"], "S3")


def test_f4_overflow_is_refused_with_the_line_to_add() -> None:
    """A finite value never becomes infinite."""
    why = refused(["1", "1e39"], "f4", "price")
    line = '--dtype price=f8, and price = "f8" below [columns] of config.toml'
    assert why == f"1 1e+39 is too large for f4: {line}"


@pytest.mark.parametrize(
    ("source", "values", "wanted"),
    [
        ("side", ["buy", "SELL", " Buy ", "s"], [0, 1, 0, 1]),
        ("side", ["bid", "ask", "B", "A"], [0, 1, 0, 1]),
        ("side", ["0", "1"], [0, 1]),
        ("side", [0, 1], [0, 1]),
        ("is_buyer_maker", ["true", "TRUE", "True", "false", "FALSE", "False"], [1, 1, 1, 0, 0, 0]),
        ("isBuyerMaker", [True, False], [1, 0]),
        ("seller_is_maker", [True, False], [0, 1]),
        ("is_buy", [True, False], [0, 1]),
        ("isSell", ["true", "false"], [1, 0]),
    ],
)
def test_side_is_the_takers(source: str, values: list[Any], wanted: list[int]) -> None:
    """0 buys, 1 sells; where the buyer is the maker, the taker sells."""
    assert records(values, "u4", "side", source) == wanted


@pytest.mark.parametrize(
    ("source", "values", "words"),
    [
        ("flag", [True], "can mean either side; call the column is_buyer_maker"),
        ("maker", ["true"], "can mean either side"),
        ("side", ["buy", "hold"], "1 'hold' is no side: buy or sell, 0 or 1"),
        ("side", ["buy", "N"], "1 'n' is no side"),
        ("side", ["buy", None], "1 nothing is no side"),
        ("side", [1, -1], "1 '-1' is no side"),
        ("side", [1, 2], "1 '2' is no side"),
    ],
)
def test_side_that_is_not_told_is_refused(source: str, values: list[Any], words: str) -> None:
    """Truth that its column's name does not explain, and words of neither side."""
    assert words in refused(values, "u4", "side", source)
