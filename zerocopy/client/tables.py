"""Columns as other libraries' tables, and as text.

Owns the one way into each library that copies least. Each library is imported when it is used.
"""

from __future__ import annotations

import html as markup
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocopy.client.errors import MissingPackage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

ROWS_MAX = 10
"""Rows of a repr; of a longer frame the first and the last half."""

_NUMBER_KINDS = "iufM"


def times(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.datetime64]:
    """The column `time` as datetime64: [ns] with `nanos` beside it, else [s].

    Raises:
        KeyError: there is no column `time`.
    """
    if "time" not in columns:
        raise KeyError("no column time in this frame: ask for it with columns='time,…'")
    values = columns["time"].astype(np.int64)
    if "nanos" in columns:
        values *= 1_000_000_000
        values += columns["nanos"].astype(np.int64, copy=False)
        return values.view("datetime64[ns]")
    return values.view("datetime64[s]")


def to_arrow(columns: Mapping[str, NDArray[Any]]) -> Any:
    """A pyarrow Table over the memory of the columns."""
    return _arrow_table(_package("pyarrow"), columns)


def to_polars(columns: Mapping[str, NDArray[Any]]) -> Any:
    """A polars DataFrame: by Arrow over the same memory, else copied by polars."""
    pl = _package("polars")
    try:
        pa = importlib.import_module("pyarrow")
    except ImportError:
        return pl.DataFrame({name: _for_polars(values) for name, values in columns.items()})
    return pl.from_arrow(_arrow_table(pa, columns), rechunk=False)


def to_pandas(columns: Mapping[str, NDArray[Any]]) -> Any:
    """A pandas DataFrame over the memory of the columns."""
    pd = _package("pandas")
    return pd.DataFrame({name: _plain(values) for name, values in columns.items()}, copy=False)


def text(columns: Mapping[str, NDArray[Any]], notes: Sequence[str]) -> str:
    """A small table for terminals: names, some rows, and what `notes` say."""
    cells = _cells(columns)
    widths = [max(map(len, column)) for column in cells]
    lines = [
        "  ".join(
            cell.rjust(width) if row and kind else cell.ljust(width)
            for cell, width, kind in zip(line, widths, _is_right(columns), strict=True)
        ).rstrip()
        for row, line in enumerate(zip(*cells, strict=True))
    ]
    return "\n".join([*lines, ", ".join(notes)])


def html(columns: Mapping[str, NDArray[Any]], notes: Sequence[str]) -> str:
    """The same for notebooks."""
    rows = [*zip(*_cells(columns), strict=True)]
    head, *body = [
        "".join(f"<{tag}>{markup.escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
    ] or [""]
    lines = "".join(f"<tr>{row}</tr>" for row in body)
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        f"<p>{markup.escape(', '.join(notes))}</p>"
    )


def _arrow_table(pa: Any, columns: Mapping[str, NDArray[Any]]) -> Any:
    return pa.table({name: _arrow_array(pa, values) for name, values in columns.items()})


def _arrow_array(pa: Any, values: NDArray[Any]) -> Any:
    """An Arrow array over the memory of a contiguous numpy array; strided ones are copied."""
    values = np.ascontiguousarray(values)
    kind = pa.binary(values.dtype.itemsize) if values.dtype.kind == "S" else None
    if kind is None:
        kind = pa.from_numpy_dtype(values.dtype)
    data = pa.py_buffer(values.view(np.uint8) if len(values) else b"")
    return pa.Array.from_buffers(kind, len(values), [None, data])


def _plain(values: NDArray[Any]) -> Any:
    """Bytes as objects, trailing NULs included as in Arrow; numbers as they are."""
    return values.view(f"V{values.dtype.itemsize}").tolist() if values.dtype.kind == "S" else values


def _for_polars(values: NDArray[Any]) -> Any:
    """As `_plain`; times of whole seconds in ms, the coarsest unit of polars, as by Arrow."""
    is_seconds = values.dtype == np.dtype("datetime64[s]")
    return values.astype("datetime64[ms]") if is_seconds else _plain(values)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingPackage(f"{name} is not installed: pip install {name}") from None


def _is_right(columns: Mapping[str, NDArray[Any]]) -> list[bool]:
    return [values.dtype.kind in _NUMBER_KINDS for values in columns.values()]


def _cells(columns: Mapping[str, NDArray[Any]]) -> list[list[str]]:
    """Of each column its name and its rows as text, with a row of dots where some are left out."""
    return [[name, *_rows(name, values)] for name, values in columns.items()]


def _told(value: bytes) -> str:
    """Text as it is, other bytes as hexadecimal digits."""
    text = value.decode("ascii", "replace")
    return text if value.isascii() and text.isprintable() else value.hex()


def _rows(name: str, values: NDArray[Any]) -> list[str]:
    half = ROWS_MAX // 2
    is_cut = len(values) > ROWS_MAX
    shown = np.concatenate((values[:half], values[-half:])) if is_cut else values
    if name == "time" and shown.dtype.kind == "u":
        shown = shown.astype(np.int64).view("datetime64[s]")
    rows = [_told(value) if isinstance(value, bytes) else str(value) for value in shown]
    return [*rows[:half], "…", *rows[half:]] if is_cut else rows
