"""Digits that f4 loses: counted exactly as Decimal counts them."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from zerocopy.core.layout import parse_dtype
from zerocopy.ingest.digits import Loss
from zerocopy.ingest.values import records_of


def counted(values: list[Any]) -> Loss:
    """What is counted for a column of f4."""
    loss = Loss()
    records_of(pl.Series("x", values), "x", parse_dtype("x", "f4"), loss)
    return loss


def is_lost(text: str) -> bool:
    """Whether f4 is off by more than half a unit of the last digit of a text, by Decimal."""
    number = Decimal(text)
    digits, exponent = number.as_tuple()[1:]
    assert isinstance(exponent, int)
    assert digits
    return abs(Decimal(float(np.float32(float(text)))) - number) > Decimal(5).scaleb(exponent - 1)


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("0.316", False),
        ("0.31600000", True),
        ("29223.0", False),
        ("29223.00000000", False),
        ("162305.70000000", True),
        ("162305.7", False),
        ("16777217", True),
        ("16777216", False),
        ("1.5e-3", False),
        ("1.2345678e-5", False),
        ("1.23456789e-5", True),
        ("0", False),
        ("", False),
        ("inf", False),
    ],
)
def test_text_is_judged_by_its_last_printed_digit(text: str, *, lost: bool) -> None:
    """A trailing zero is a digit."""
    assert counted(["1.5", text]).lost == lost
    if text not in {"", "inf"}:
        assert is_lost(text) == lost


def test_count_is_that_of_decimal_arithmetic() -> None:
    """Prices and sizes of every magnitude, seeded."""
    rng = random.Random(18)
    texts = [
        f"{rng.choice(('', '-'))}{rng.random() * 10 ** rng.randint(-4, 9):.{rng.randint(0, 9)}f}"
        for _ in range(3_000)
    ]
    loss = counted(texts)
    wanted = [text for text in texts if is_lost(text)]
    assert 300 < len(wanted) < 2_700
    assert (loss.values, loss.lost) == (len(texts), len(wanted))
    worst = max(abs(Decimal(float(np.float32(float(text)))) - Decimal(text)) for text in wanted)
    assert loss.worst == pytest.approx(float(worst))


def test_values_of_f8_are_judged_by_their_shortest_form() -> None:
    """What Parquet holds was never printed: 0.1 is one digit, a third is sixteen."""
    assert counted([0.1, 39_432.48, 0.000263, 1e10, float("nan"), float("inf")]).lost == 0
    rng = random.Random(81)
    values = [
        round(rng.random() * 10 ** rng.randint(-3, 6), rng.randint(0, 9)) for _ in range(3_000)
    ]
    wanted = [value for value in values if is_lost(f"{Decimal(repr(value)):f}")]
    assert 300 < len(wanted) < 2_700
    assert counted(values).lost == len(wanted)
    loss = counted([0.5, 1 / 3])
    assert (loss.lost, loss.example) == (1, "0.3333333333333333 becomes 0.33333334")


def test_empty_values_are_counted() -> None:
    """They are NaN in the day file, and the report says so."""
    assert counted(["", None, "None", "1"]).empty == 3
