"""How an answer in the format `columns` lies in memory: one buffer, each column aligned.

Owns the header line and the places of the columns. It must not know where bytes come from.

Each column begins at a multiple of 64 bytes, which is what Arrow recommends, so that numpy, polars
and Arrow use it as it is. The buffer is numpy's: it asks the kernel for huge pages (madvise(2)),
and its memory is not written before the records are.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zerocopy.client.errors import UnexpectedAnswer
from zerocopy.client.frame import Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALIGNMENT = 64
"""Bytes; https://arrow.apache.org/docs/format/Columnar.html, "Buffer Alignment and Padding"."""

NBYTES_MAX = 1 << 58
"""Bytes of a column: 32 of them still have a size."""

_DTYPE = re.compile(r"<[uif][248]|\|[ui]1|\|S[1-9][0-9]{0,2}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an answer; it begins `offset` bytes behind the buffer's aligned beginning."""

    name: str
    dtype: np.dtype[Any]
    nbytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What a header line says, and where the records are to lie."""

    columns: tuple[Column, ...]
    num_records: int
    skipped: tuple[str, ...]
    interval_s: int | None
    cursor: str | None

    @property
    def nbytes(self) -> int:
        """Bytes of all records."""
        return sum(column.nbytes for column in self.columns)

    def allocate(self) -> NDArray[np.uint8]:
        """Memory for all columns; its first byte is aligned, its content undefined."""
        end = sum(_padded(column.nbytes) for column in self.columns)
        memory = np.empty(end + ALIGNMENT, np.uint8)
        return memory[-memory.ctypes.data % ALIGNMENT :]

    def frame(self, memory: NDArray[np.uint8]) -> Frame:
        """The frame over `memory`, whose columns cannot be written."""
        columns = {}
        for column in self.columns:
            raw = memory[column.offset : column.offset + column.nbytes]
            columns[column.name] = raw.view(column.dtype)
            columns[column.name].flags.writeable = False
        return Frame(columns, skipped=self.skipped, interval_s=self.interval_s, cursor=self.cursor)


def parse_header(line: bytes) -> Layout:
    """The layout that a header line describes.

    Raises:
        UnexpectedAnswer: it is no header line, or contradicts itself.
    """
    try:
        header = json.loads(line)
        columns, offset = [], 0
        for told in header["columns"]:
            dtype = _dtype(told["dtype"])
            nbytes = told["num_records"] * dtype.itemsize
            if type(nbytes) is not int or not 0 <= nbytes < NBYTES_MAX:
                raise ValueError("a column has no number of records")
            if told["data_length"] != nbytes or told["record_size"] != dtype.itemsize:
                raise ValueError("a column contradicts itself")
            columns.append(Column(str(told["name"]), dtype, nbytes, offset))
            offset += _padded(nbytes)
        counts = {told["num_records"] for told in header["columns"]}
        if len(counts) != 1:
            raise ValueError("the columns differ in length")
        return Layout(
            tuple(columns),
            counts.pop(),
            tuple(header.get("skipped", ())),
            header.get("interval_s"),
            header.get("cursor"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UnexpectedAnswer(
            "the answer does not begin with the header line of the columns format; "
            "is this a zerocopy server?"
        ) from None


def frame_of(message: bytes) -> Frame:
    """The frame of a whole answer that lies in memory; its records are copied once.

    Raises:
        UnexpectedAnswer: it is none.
    """
    at = message.find(b"\n") + 1
    layout = parse_header(message[:at])
    if len(message) - at != layout.nbytes:
        raise UnexpectedAnswer("the message is not as long as its header line says")
    memory = layout.allocate()
    source = np.frombuffer(message, np.uint8)
    for column in layout.columns:
        memory[column.offset : column.offset + column.nbytes] = source[at : at + column.nbytes]
        at += column.nbytes
    return layout.frame(memory)


def _dtype(spelled: str) -> np.dtype[Any]:
    if _DTYPE.fullmatch(spelled) is None:
        raise ValueError(spelled)
    return np.dtype(spelled)


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
