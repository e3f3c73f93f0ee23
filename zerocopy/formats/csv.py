"""The format `csv`: RFC 4180 with LF, a header of column names, then a line for each record.

Owns how text is made of `S` columns; polars writes the numbers, each in the shortest form that
reads back as the same value of its dtype.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import polars as pl

from zerocopy.formats import frames

if TYPE_CHECKING:
    from zerocopy.core.plan import Plan, Read, Write

MEDIA_TYPE = b"text/csv; charset=utf-8; header=present"

ENCODER = frames.ENCODER

PIECE_TEXTS = 2_048
"""Texts that are decoded one by one at a time, where some are no UTF-8."""


def encode(plan: Plan, read: Read, write: Write) -> None:
    """Write the lines; see `Encode`. Names hold nothing that would have to be quoted."""
    write(",".join(column.name for column in plan.columns).encode() + b"\n")
    texts = [column.name for column in plan.columns if column.dtype.name[1] == "S"]
    for frame in frames.frames(plan, read):
        written = frame.with_columns(_text(frame.get_column(name)) for name in texts)
        lines = io.BytesIO()
        written.write_csv(lines, include_header=False)
        if lines.tell():
            write(lines.getvalue())


def _text(records: pl.Series) -> pl.Series:
    """Records of bytes as text without the NULs at its end; U+FFFD for what is no UTF-8."""
    try:
        text = records.cast(pl.String)
    except pl.exceptions.ComputeError:  # some are no UTF-8
        pieces = (
            records.slice(first, PIECE_TEXTS) for first in range(0, len(records), PIECE_TEXTS)
        )
        replaced = [raw.decode("utf-8", "replace") for piece in pieces for raw in piece.to_list()]
        text = pl.Series(records.name, replaced, dtype=pl.String)
    return text.str.strip_chars_end("\0")
