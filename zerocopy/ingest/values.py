"""From a column of a source to records of a dtype; what cannot be held is refused, never bent.

Owns the rules of values: what is a number, what a side is, what fits a dtype, and which digits f4
loses. A value that breaks one raises `ValueRefused` with its row. It must never know files.
"""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocopy.ingest.digits import Loss, count_lost, magnitude

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from zerocopy.core.layout import Dtype

SIDE = "side"
SIDES = {"buy": 0, "b": 0, "bid": 0, "0": 0, "sell": 1, "s": 1, "a": 1, "ask": 1, "1": 1}
"""The taker's side by its word in lower case; Databento writes A where a sell takes from bids."""

_TRUTH = {"true": True, "false": False}
_NO_VALUE = ("", "nan", "null", "none", "na", "n/a")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_FIXED_POINT = 1e9  # Databento: prices are integers of 1e-9
_UNDEFINED = 2**63 - 1  # Databento's price of nothing
_F64_INTEGERS = 2.0**53  # from here on f8 no longer has every integer


class ValueRefused(Exception):  # noqa: N818 - what happened, not whose error
    """A value that cannot become a record: the index of its row, and why."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row
        self.why = why


def records_of(
    series: pl.Series, column: str, dtype: Dtype, loss: Loss, *, is_fixed_point: bool = False
) -> NDArray[Any]:
    """The records of `column`, of the little-endian `dtype` of its file.

    An empty value is NaN where the dtype has one. Counts in `loss` what f4 loses.

    Raises:
        ValueRefused: a value is no number, is not whole, or does not fit.
    """
    kind = dtype.name[1]
    if kind == "S":
        return _texts(series, dtype)
    if column == SIDE:
        return sides(series).astype(dtype.name, copy=False)
    if kind in "iu":
        return _integers(series, column, dtype)
    values, empty = _floats(series, is_fixed_point=is_fixed_point)
    loss.values += len(values)
    loss.empty += empty
    if dtype.nbytes == np.dtype("f8").itemsize:
        return values.astype(dtype.name)
    with np.errstate(over="ignore"):
        records = values.astype(dtype.name)
    largest = magnitude(records)
    if np.isinf(largest):
        too_large = np.isinf(records) & np.isfinite(values)
        if too_large.any():
            row = int(too_large.argmax())
            raise ValueRefused(row, f"{values[row]:g} is too large for f4: {_line(column, 'f8')}")
    count_lost(None if is_fixed_point else series, values, records, loss, largest)
    return records


def sides(series: pl.Series) -> NDArray[np.uint32]:
    """0 where the taker buys, 1 where it sells.

    Words and 0 and 1 mean what they say. True and false mean what the column is called: of
    `is_buyer_maker` the taker sells where it is true.

    Raises:
        ValueRefused: a value is no side, or truth that the column's name does not explain.
    """
    import polars as pl  # noqa: PLC0415 - the extra `import`

    texts = series if series.dtype in {pl.String, pl.Boolean} else series.cast(pl.String)
    if series.dtype == pl.Boolean and not series.null_count():
        codes = [side_of(series.name, word) for word in ("false", "true")]
        if isinstance(codes[0], int):
            is_true = series.to_numpy().view("u1")
            return (is_true if codes[1] else is_true ^ 1).astype(np.uint32)
    found = np.zeros(len(series), np.uint32)
    for word in texts.unique().to_list():
        code = side_of(series.name, "" if word is None else str(word).strip().lower())
        if not isinstance(code, int):
            raise ValueRefused(texts.to_list().index(word), code)
        if code:
            found[(texts == word).to_numpy()] = code
    return found


def side_of(name: str, word: str) -> int | str:
    """The code of a word in lower case in a column of that name, or why there is none."""
    if word in _TRUTH:
        code = _side_of_truth(name, is_true=_TRUTH[word])
        if code is None:
            ways = "call the column is_buyer_maker, is_buy or is_sell"
            return f"{word!r} of {name} can mean either side; {ways}"
        return code
    if word in SIDES:
        return SIDES[word]
    told = repr(word) if word else "nothing"
    return f"{told} is no side: buy or sell, 0 or 1; --map of the other columns leaves it out"


def _side_of_truth(name: str, *, is_true: bool) -> int | None:
    name = name.lower().replace("_", "")
    if "maker" in name and ("buy" in name) != ("sell" in name):
        # The maker buys: the taker sells.
        return int(is_true == ("buy" in name))
    if "maker" not in name and ("buy" in name) != ("sell" in name):
        return int(is_true == ("sell" in name))
    return None


def _floats(series: pl.Series, *, is_fixed_point: bool) -> tuple[NDArray[np.float64], int]:
    """Values, NaN where there is none, and how many of those there are."""
    import polars as pl  # noqa: PLC0415

    if series.dtype == pl.String:
        numbers = series.cast(pl.Float64, strict=False)
        if numbers.null_count() > series.null_count():
            series = series.str.strip_chars()
            is_empty = series.str.to_lowercase().is_in(_NO_VALUE)
            numbers = series.cast(pl.Float64, strict=False)
            _refuse_first(series, numbers.is_null() & series.is_not_null() & ~is_empty)
    elif series.dtype.is_numeric():
        numbers = series.cast(pl.Float64)
    else:
        raise ValueRefused(0, f"{series.name} holds {series.dtype}, not numbers")
    empty = numbers.null_count()
    values = numbers.to_numpy()  # null is NaN
    if series.dtype == pl.String and np.isinf(np.fmax.reduce(np.abs(values), initial=0)):
        _refuse_overflow(series, np.isinf(values))
    if not is_fixed_point or series.dtype.is_float():
        return values, empty
    # A price as a decimal has a dot, always; one without counts billionths.
    if series.dtype == pl.String:
        is_fixed = ~series.fill_null(".").str.contains(".", literal=True).to_numpy()
    else:
        is_fixed = np.ones(len(values), bool)
    scaled = np.where(values == float(_UNDEFINED), np.nan, values / _FIXED_POINT)
    return np.where(is_fixed, scaled, values), empty


def _refuse_overflow(series: pl.Series, is_infinite: NDArray[np.bool_]) -> None:
    """1e400 is a number, and no infinity; `inf` and `infinity` are."""
    for row in np.flatnonzero(is_infinite):
        text = series[int(row)]
        if "inf" not in text.lower():
            raise ValueRefused(int(row), f"{reprlib.repr(text)} is too large for f8")


def _refuse_first(series: pl.Series, bad: pl.Series) -> None:
    row = bad.arg_max()
    if row is None or not bad[row]:
        return
    text = series[row]
    hint = " (a decimal comma?)" if _DECIMAL_COMMA.fullmatch(text) else ""
    raise ValueRefused(row, f"{reprlib.repr(text)} is no number{hint}")


def _integers(series: pl.Series, column: str, dtype: Dtype) -> NDArray[Any]:
    import polars as pl  # noqa: PLC0415

    if series.dtype == pl.String:
        series = series.str.strip_chars()
    elif not series.dtype.is_numeric():
        raise ValueRefused(0, f"{series.name} holds {series.dtype}, not numbers")
    wide = pl.Int64 if dtype.name[1] == "i" else pl.UInt64
    whole = series.cast(wide, strict=False)
    if series.dtype.is_float() or whole.null_count():
        numbers, _ = _floats(series, is_fixed_point=False)
        is_whole = (np.floor(numbers) == numbers) & (np.abs(numbers) < _F64_INTEGERS)
        bad = ~is_whole & ~whole.is_not_null().to_numpy()
        if series.dtype.is_float():
            bad = ~is_whole
        if bad.any():
            row = int(bad.argmax())
            raise ValueRefused(row, f"{series[row]!r} is no whole number, as {dtype.name[1:]} is")
        rest = pl.Series(np.where(is_whole, numbers, 0.0)).cast(wide, strict=False)
        whole = whole.fill_null(rest) if not series.dtype.is_float() else rest
    info = np.iinfo(dtype.name)
    outside = (whole < info.min) | (whole > info.max) | whole.is_null()
    if outside.any():
        row = int(outside.arg_max() or 0)
        better = "i8" if str(series[row]).startswith("-") else "u8"
        raise ValueRefused(
            row, f"{series[row]} does not fit {dtype.name[1:]}: {_line(column, better)}"
        )
    return whole.to_numpy().astype(dtype.name)


def _texts(series: pl.Series, dtype: Dtype) -> NDArray[Any]:
    import polars as pl  # noqa: PLC0415

    if series.dtype != pl.Binary:  # as our own Parquet and Arrow have such columns
        series = series.cast(pl.String).cast(pl.Binary)
    texts = series.fill_null(b"")
    lengths = texts.bin.size()
    row = lengths.arg_max()
    if row is not None and lengths[row] > dtype.nbytes:
        text = reprlib.repr(texts[row].decode("utf-8", "replace"))
        raise ValueRefused(row, f"{text} has {lengths[row]} bytes, more than {dtype.name[1:]}")
    return np.array(texts.to_list(), dtype.name)


def _line(column: str, dtype: str) -> str:
    """What to write into config.toml, and to say to the import."""
    return f'--dtype {column}={dtype}, and {column} = "{dtype}" below [columns] of config.toml'
