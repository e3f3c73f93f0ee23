"""Digits that f4 loses: counted against what was printed.

Owns the question whether a value, read back from f4, is within half a unit of its last printed
digit. Of text the last digit is the last one there, a trailing zero too: 0.31600000 is lost, for
f4 reads back as 0.31600001. Of a value that comes as f8 it is the last one of its shortest form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

DECIMALS_MAX = 22
"""Powers of ten up to here are exact in f8."""

_EXPONENTS = [*range(DECIMALS_MAX + 1), *range(-DECIMALS_MAX, 0)]
_POWERS = np.array([float(f"1e{exponent}") for exponent in _EXPONENTS])  # by exponent, -1 is last


@dataclass(slots=True)
class Loss:
    """What became of a column's values.

    Those that are `empty` are NaN now; those that are `lost` are off, as f4, by more than half a
    unit of their last printed digit.
    """

    values: int = 0
    empty: int = 0
    lost: int = 0
    worst: float = 0.0
    example: str = ""


def magnitude(records: NDArray[Any]) -> np.float32:
    """The largest absolute value, 0 where there is none; NaN is passed over."""
    largest: np.float32 = np.maximum(
        np.fmax.reduce(records, initial=0), -np.fmin.reduce(records, initial=0)
    )
    return largest


def count_lost(
    series: pl.Series | None,
    values: NDArray[np.float64],
    records: NDArray[Any],
    loss: Loss,
    largest: np.float32,
) -> None:
    """Count in `loss` the values that `records`, of f4, do not hold to their last digit.

    `series` is what was printed, or None where nothing was. `largest` is the `magnitude` of the
    records.
    """
    if np.isinf(largest):
        largest = np.abs(records[np.isfinite(records)]).max(initial=0)
    # Half of the step between two f4 at the largest value bounds every error.
    error_max = float(np.spacing(largest)) / 2
    decimals = None if series is None else _printed_decimals(series)
    if decimals is None:
        is_lost, errors = _lost_of_shortest(values, records, error_max)
    else:
        if error_max <= 0.5 * _POWERS[-max(int(decimals.max(initial=0)), 0)]:
            return
        with np.errstate(invalid="ignore"):
            errors = np.abs(records.astype("f8") - values)
            # Half a unit exactly is none too much; the subtraction may be off by one step of f8.
            is_lost = errors > 0.5 * _POWERS[-decimals] + np.spacing(np.abs(values))
    count = int(np.count_nonzero(is_lost))
    if not count:
        return
    loss.lost += count
    row = int(np.where(is_lost, errors, -1.0).argmax())
    if errors[row] < loss.worst:
        return
    loss.worst = float(errors[row])
    if decimals is None or series is None:
        loss.example = f"{values[row]!s} becomes {records[row]!s}"
    else:
        loss.example = f"{series[row]} becomes {records[row]:.{max(decimals[row], 0)}f}"


def _printed_decimals(series: pl.Series) -> NDArray[np.int64] | None:
    """Digits after the dot of each text, four of 1.5e-3; None where the series is no text."""
    import polars as pl  # noqa: PLC0415 - the extra `import`

    if series.dtype != pl.String:
        return None
    frame = pl.DataFrame({"text": series.fill_null("0") if series.null_count() else series})
    text = pl.col("text")
    length = text.str.len_bytes().cast(pl.Int64)
    dot = text.str.find(".", literal=True).cast(pl.Int64)
    found: NDArray[np.int64] = (
        frame.select((length - dot - 1).fill_null(0)).to_series().to_numpy().copy()
    )
    if text_has_exponent(frame.get_column("text")):
        is_scientific = (
            frame.select(text.str.contains(r"[\d.][eE][+-]?\d+$")).to_series().to_numpy()
        )
        for row in np.flatnonzero(is_scientific):
            mantissa, _, exponent = frame["text"][int(row)].lower().partition("e")
            found[row] = len(mantissa.partition(".")[2]) - int(exponent)
    return np.clip(found, -DECIMALS_MAX, DECIMALS_MAX)


def text_has_exponent(texts: pl.Series) -> bool:
    """Whether any is written like 1e-5; a plain search takes a third of a pattern's time."""
    lower = texts.str.contains("e", literal=True).any()
    return bool(lower or texts.str.contains("E", literal=True).any())


def _lost_of_shortest(
    values: NDArray[np.float64], records: NDArray[Any], error_max: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which values lose digits, where the shortest form that reads back as the value is printed.

    A value keeps its digits if it has no more decimals than its error leaves exact.
    """
    exact = math.floor(-math.log10(2 * error_max)) if error_max else DECIMALS_MAX
    safe = _POWERS[max(min(exact, DECIMALS_MAX), -DECIMALS_MAX)]
    with np.errstate(over="ignore", invalid="ignore"):
        read_back = values * safe
        np.rint(read_back, out=read_back)
        read_back /= safe
    is_lost = read_back != values
    rows = np.flatnonzero(is_lost)
    errors = np.zeros(len(values) if len(rows) else 0)
    if len(rows):
        some = values[rows]
        with np.errstate(invalid="ignore", over="ignore"):
            off = np.abs(records[rows].astype("f8") - some)
            least = np.maximum(off - np.spacing(np.abs(some)), 10.0**-DECIMALS_MAX)
            exponent = np.floor(-np.log10(2 * least))
            exponent = np.clip(exponent, -DECIMALS_MAX, DECIMALS_MAX)
            scale = _POWERS[np.nan_to_num(exponent).astype(np.int64)]
            # NaN and infinities are as they were.
            is_lost[rows] = (off > 0) & (np.rint(some * scale) / scale != some)
        errors[rows] = np.nan_to_num(off)
    return is_lost, errors
