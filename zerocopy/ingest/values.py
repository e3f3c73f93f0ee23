"""From a column of a source to records of a dtype; what cannot be held is refused, never bent.

Owns the rules of values: what is a number, what a side is, what fits a dtype, and which digits f4
loses. A value that breaks one raises `ValueRefused` with its row. It must never know files.
"""

from __future__ import annotations

import math
import re
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
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
_DECIMALS_MAX = 22  # powers of ten up to here are exact in f8


class ValueRefused(Exception):  # noqa: N818 - what happened, not whose error
    """A value that cannot become a record: the index of its row, and why."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row = row
        self.why = why


@dataclass(slots=True)
class Loss:
    """What f4 lost of a column: values that are off by more than half of their last digit."""

    values: int = 0
    lost: int = 0
    worst: float = 0.0
    example: str = ""

    def add(self, values: int, lost: int, worst: float, example: str) -> None:
        """Count some more."""
        self.values += values
        self.lost += lost
        if lost and worst >= self.worst:
            self.worst, self.example = worst, example


def records_of(
    series: pl.Series, column: str, dtype: Dtype, loss: Loss, *, is_fixed_point: bool = False
) -> NDArray[Any]:
    """The records of `column`, of the little-endian `dtype` of its file.

    An empty value is NaN where the dtype has one. Counts in `loss` what f4 loses.

    Raises:
        ValueRefused: a value is no number, is not whole, or does not fit.
    """
    import numpy as np  # noqa: PLC0415 - 0.1 s of a command that may not need it

    kind = dtype.name[1]
    if kind == "S":
        return _texts(series, dtype)
    if column == SIDE:
        return sides(series).astype(dtype.name)
    if kind in "iu":
        return _integers(series, column, dtype)
    values = _floats(series, is_fixed_point=is_fixed_point)
    if dtype.nbytes == np.dtype("f8").itemsize:
        return values.astype(dtype.name)
    with np.errstate(over="ignore"):
        records = values.astype(dtype.name)
    too_large = np.isinf(records) & np.isfinite(values)
    if too_large.any():
        row = int(too_large.argmax())
        raise ValueRefused(row, f"{values[row]:g} is too large for f4: {_line(column, 'f8')}")
    _count_lost(series, values, records, loss)
    return records


def sides(series: pl.Series) -> NDArray[np.uint32]:
    """0 where the taker buys, 1 where it sells.

    Words and 0 and 1 mean what they say. True and false mean what the column is called: of
    `is_buyer_maker` the taker sells where it is true.

    Raises:
        ValueRefused: a value is no side, or truth that the column's name does not explain.
    """
    import polars as pl  # noqa: PLC0415 - the extra `import`

    texts = series.cast(pl.String).str.strip_chars().str.to_lowercase()
    words = texts.unique().to_list()
    mapped: dict[str | None, int] = {}
    for word in words:
        code = SIDES.get(word or "")
        if word in _TRUTH:
            code = _side_of_truth(series.name, is_true=_TRUTH[word])
            if code is None:
                row = int((texts == word).arg_max() or 0)
                raise ValueRefused(
                    row,
                    f"{word!r} of {series.name} can mean either side; call the column "
                    "is_buyer_maker, is_buy or is_sell",
                )
        if code is None:
            row = int((texts.eq_missing(pl.Series([word], dtype=pl.String))).arg_max() or 0)
            raise ValueRefused(row, f"{series[row]!r} is no side: buy or sell, 0 or 1")
        mapped[word] = code
    found = texts.replace_strict([*mapped], [*mapped.values()], return_dtype=pl.UInt32)
    array: NDArray[np.uint32] = found.to_numpy()
    return array


def _side_of_truth(name: str, *, is_true: bool) -> int | None:
    name = name.lower().replace("_", "")
    if "maker" in name and ("buy" in name) != ("sell" in name):
        # The maker buys: the taker sells.
        return int(is_true == ("buy" in name))
    if "maker" not in name and ("buy" in name) != ("sell" in name):
        return int(is_true == ("sell" in name))
    return None


def _floats(series: pl.Series, *, is_fixed_point: bool) -> NDArray[np.float64]:
    import numpy as np  # noqa: PLC0415
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
    values = numbers.fill_null(math.nan).to_numpy()
    if not is_fixed_point or series.dtype.is_float():
        return np.asarray(values)
    # A price as a decimal has a dot, always; one without counts billionths.
    if series.dtype == pl.String:
        is_fixed = ~series.fill_null(".").str.contains(".", literal=True).to_numpy()
    else:
        is_fixed = np.ones(len(values), bool)
    scaled = np.where(values == float(_UNDEFINED), math.nan, values / _FIXED_POINT)
    return np.where(is_fixed, scaled, values)


def _refuse_first(series: pl.Series, bad: pl.Series) -> None:
    row = bad.arg_max()
    if row is None or not bad[row]:
        return
    text = series[row]
    hint = " (a decimal comma?)" if _DECIMAL_COMMA.fullmatch(text) else ""
    raise ValueRefused(row, f"{reprlib.repr(text)} is no number{hint}")


def _integers(series: pl.Series, column: str, dtype: Dtype) -> NDArray[Any]:
    import numpy as np  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    if series.dtype == pl.String:
        series = series.str.strip_chars()
    elif not series.dtype.is_numeric():
        raise ValueRefused(0, f"{series.name} holds {series.dtype}, not numbers")
    wide = pl.Int64 if dtype.name[1] == "i" else pl.UInt64
    whole = series.cast(wide, strict=False)
    if series.dtype.is_float() or whole.null_count():
        numbers = _floats(series, is_fixed_point=False)
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
    import numpy as np  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    texts = series.cast(pl.String).fill_null("")
    lengths = texts.str.len_bytes()
    row = lengths.arg_max()
    if row is not None and lengths[row] > dtype.nbytes:
        text = reprlib.repr(texts[row])
        raise ValueRefused(row, f"{text} has {lengths[row]} bytes, more than {dtype.name[1:]}")
    return np.array(texts.cast(pl.Binary).to_list(), dtype.name)


def _line(column: str, dtype: str) -> str:
    """What to write into config.toml, and to say to the import."""
    return f'--dtype {column}={dtype}, and {column} = "{dtype}" below [columns] of config.toml'


# ---- digits that f4 loses


def _count_lost(
    series: pl.Series, values: NDArray[np.float64], records: NDArray[Any], loss: Loss
) -> None:
    """Count values whose f4 is off by more than half a unit of their last printed digit."""
    import numpy as np  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    finite = values[np.isfinite(values)]
    if not len(finite):
        return
    # Half of the step between two f4 at the largest value bounds every error.
    error_max = float(np.spacing(np.abs(finite).max().astype("f4"))) / 2
    is_text = series.dtype == pl.String
    decimals = _printed_decimals(series) if is_text else None
    if decimals is not None:
        if error_max <= 0.5 * 10.0 ** -int(decimals.max()):
            loss.add(len(values), 0, 0.0, "")
            return
        errors = np.abs(records.astype("f8") - values)
        is_lost = errors > 0.5 * _powers()[-np.minimum(decimals, _DECIMALS_MAX)]
    else:
        is_lost, errors = _lost_of_shortest(values, records, error_max)
    count = int(np.count_nonzero(is_lost))
    if not count:
        loss.add(len(values), 0, 0.0, "")
        return
    row = int(np.where(is_lost, errors, 0.0).argmax())
    if decimals is None:
        example = f"{values[row]!s} becomes {records[row]!s}"
    else:
        example = f"{series[row]} becomes {records[row]:.{max(decimals[row], 0)}f}"
    loss.add(len(values), count, float(errors[row]), example)


def _powers() -> NDArray[np.float64]:
    """Powers of ten by exponent, negative ones from the end: -22 to 22."""
    import numpy as np  # noqa: PLC0415

    exponents = [*range(_DECIMALS_MAX + 1), *range(-_DECIMALS_MAX, 0)]
    return np.array([float(f"1e{exponent}") for exponent in exponents])


def _printed_decimals(series: pl.Series) -> NDArray[np.int64]:
    """Digits after the dot of each text; those of 1.5e-3 are four."""
    import numpy as np  # noqa: PLC0415
    import polars as pl  # noqa: PLC0415

    frame = pl.DataFrame({"text": series.fill_null("0")})
    text = pl.col("text")
    dot = text.str.find(".", literal=True)
    decimals = (text.str.len_bytes().cast(pl.Int64) - dot.cast(pl.Int64) - 1).fill_null(0)
    found: NDArray[np.int64] = frame.select(decimals).to_series().to_numpy().copy()
    scientific = frame.select(text.str.contains("[eE]")).to_series().to_numpy()
    for row in np.flatnonzero(scientific):
        mantissa, _, exponent = frame["text"][int(row)].lower().partition("e")
        found[row] = len(mantissa.partition(".")[2]) - int(exponent)
    return np.clip(found, -_DECIMALS_MAX, _DECIMALS_MAX)


def _lost_of_shortest(
    values: NDArray[np.float64], records: NDArray[Any], error_max: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which values of f8 lose digits, where their shortest decimal form counts as printed.

    A value keeps its digits if it has no more decimals than its error leaves exact.
    """
    import numpy as np  # noqa: PLC0415

    safe = 10.0 ** min(math.floor(-math.log10(2 * error_max)) if error_max else 22, _DECIMALS_MAX)
    with np.errstate(over="ignore", invalid="ignore"):
        is_lost = (np.rint(values * safe) / safe != values) & np.isfinite(values)
    errors = np.zeros(len(values))
    rows = np.flatnonzero(is_lost)
    if len(rows):
        some = values[rows]
        off = np.abs(records[rows].astype("f8") - some)
        with np.errstate(divide="ignore"):
            exponent = np.where(off > 0, np.floor(-np.log10(2 * off)), _DECIMALS_MAX)
        scale = _powers()[np.clip(exponent, -_DECIMALS_MAX, _DECIMALS_MAX).astype(np.int64)]
        is_lost[rows] = (off > 0) & (np.rint(some * scale) / scale != some)
        errors[rows] = off
    return is_lost, errors
