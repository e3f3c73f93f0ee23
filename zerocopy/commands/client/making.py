"""A frame as a file of any format, made here.

Owns which formats there are and what they are made with. The encoders are those of the server, so
a file has the same records however it came about. It must never know where a frame is from.
"""

from __future__ import annotations

import os
import zipfile
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from zerocopy.client.frame import Frame
from zerocopy.client.layout import parse_header
from zerocopy.client.sinks import HEADER_LINE_MAX
from zerocopy.core.layout import Dtype, day_from_label
from zerocopy.core.plan import Column, DayRecords, Plan, in_memory
from zerocopy.core.timeindex import RecordRange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from numpy.typing import NDArray

    from zerocopy.core.plan import Read

    Write = Callable[[bytes], object]

WITH_POLARS: Final = ("csv", "parquet")

_PIECE_RECORDS: Final = 1 << 18
"""Records of a column that are copied at a time: 1 to 2 MB."""


def is_made_here(format_: str) -> bool:
    """Whether this machine has what it takes to make a format from columns."""
    return format_ not in WITH_POLARS or find_spec("polars") is not None


def mapped(path: str) -> Frame:
    """The frame over a file in the format `columns`; its pages are read when they are used."""
    with open(path, "rb") as file:
        header = file.readline(HEADER_LINE_MAX)
    layout = parse_header(header)
    memory: Any = np.memmap(path, np.uint8, "r") if os.path.getsize(path) else None
    columns, begin = {}, len(header)
    for column in layout.columns:
        columns[column.name] = memory[begin : begin + column.nbytes].view(column.dtype)
        begin += column.nbytes
    return Frame(columns, skipped=layout.skipped, interval_s=layout.interval_s)


def encode(frame: Frame, format_: str, file: BinaryIO, *, has_head: bool = True) -> None:
    """Write `frame` to `file` in a format; `has_head=False` leaves out the first line of a csv.

    Raises:
        OSError: it cannot be written.
    """
    if format_ == "npz":
        _write_npz(frame, file)
        return
    days = []
    if len(frame):
        days = [DayRecords(0, RecordRange(0, len(frame)), [_NO_SOURCE] * len(frame.columns))]
    plan = Plan(
        tuple(Column(name, Dtype(v.dtype.str, v.dtype.itemsize)) for name, v in frame.items()),
        days,
        skipped=[day for label in frame.skipped if (day := _day(label)) is not None],
        interval_s=frame.interval_s,
    )
    if format_ == "columns":
        _write_columns(plan, frame, file)
    elif format_ == "arrow":
        _write_arrow(plan, frame, file)
    else:
        write = file.write if has_head else _without_first(file.write)
        _encoder(format_)(plan, _reading(frame), write)


def _encoder(format_: str) -> Callable[[Plan, Read, Write], None]:
    if format_ == "csv":
        from zerocopy.formats import csv

        return csv.encode
    if format_ == "parquet":
        from zerocopy.formats import parquet

        return parquet.encode
    from zerocopy.formats import json

    return json.encode


def _reading(frame: Frame) -> Read:
    columns = list(frame.values())

    def read(_day: DayRecords, position: int, first: int, count: int) -> bytes:
        return columns[position][first : first + count].tobytes()

    return read


def _without_first(write: Write) -> Write:
    """Leave out what is written first: the head of a csv is written on its own."""
    is_first = True

    def rest(data: bytes) -> object:
        nonlocal is_first
        if is_first:
            is_first = False
            return None
        return write(data)

    return rest


def _write_columns(plan: Plan, frame: Frame, file: BinaryIO) -> None:
    from zerocopy.formats.columns import header_line

    file.write(header_line(plan))
    for values in frame.values():
        file.writelines(_pieces(values))


def _write_arrow(plan: Plan, frame: Frame, file: BinaryIO) -> None:
    from zerocopy.formats import arrow

    sources = [in_memory(values.tobytes()).source for values in frame.values() if len(values)]
    days = [DayRecords(0, RecordRange(0, len(frame)), sources)] if sources else []
    found = arrow.represent(Plan(plan.columns, days, plan.skipped, interval_s=plan.interval_s))
    file.write(found.content)
    file.writelines(piece.source.read(piece.offset, piece.count) for piece in found.segments)


class _Forward:
    """A file that is only written to: /dev/null says that it seeks, and `>>` seeks elsewhere."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write
        self.flush = file.flush


def _write_npz(frame: Frame, file: BinaryIO) -> None:
    """As numpy.savez, which cannot name an array `file` and wants all in memory."""
    target: Any = _Forward(file)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in frame.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                head = {"descr": values.dtype.str, "fortran_order": False, "shape": values.shape}
                np.lib.format.write_array_header_1_0(member, head)
                for piece in _pieces(values):
                    member.write(piece)


def _pieces(values: NDArray[Any]) -> Iterator[bytes]:
    for first in range(0, len(values), _PIECE_RECORDS):
        yield values[first : first + _PIECE_RECORDS].tobytes()


def _day(label: str) -> int | None:
    return day_from_label(*label.split("."))


_NO_SOURCE: Any = None
"""The encoders read by the function they are given."""
