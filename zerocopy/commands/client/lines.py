"""Records as lines: for people, as csv, as JSON.

Owns the forms of a line, and where a stream of records ends. It must never know where frames are
from.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from zerocopy.client.frame import Frame
from zerocopy.client.times import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

    from zerocopy.client.requests import Series
    from zerocopy.client.times import TimeLike

_NO_NUMBERS: Final = frozenset({"NaN", "inf", "-inf"})


def lines_of(frame: Frame) -> list[list[str]]:
    """Each column's records as text, as csv has them."""
    return [list(map(_text, values)) for values in frame.values()]


def cells_of(frame: Frame) -> dict[str, list[str]]:
    """The same for people, by column: times in UTC, which take in `nanos`."""
    cells = dict(zip(frame, lines_of(frame), strict=True))
    if "time" in cells:
        cells["time"] = [str(moment) for moment in frame.time]
        cells.pop("nanos", None)
    return cells


def _text(value: object) -> str:
    """A number in its shortest form, as the csv of the server has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    text = str(value)
    return "NaN" if text == "nan" else text


class _Writer:
    """Writes frames to a stream, which is flushed behind each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._has_begun = False

    def __call__(self, frame: Frame) -> None:
        """Write the records of a frame, and before the first what its columns are."""
        text = self._records(frame)
        if not self._has_begun:
            self._has_begun = True
            text = self._head(frame) + text
        self._file.write(text.encode())
        self._file.flush()

    def _head(self, frame: Frame) -> str:  # noqa: ARG002 - of those that have one
        return ""

    def _records(self, frame: Frame) -> str:
        raise NotImplementedError


class _Csv(_Writer):
    """The csv of the server, LF and all."""

    def _head(self, frame: Frame) -> str:
        return ",".join(frame) + "\n"

    def _records(self, frame: Frame) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(zip(*lines_of(frame), strict=True))
        return text.getvalue()


class _Json(_Writer):
    """An object a line; NaN and infinities are null, as in the json of the server."""

    def _records(self, frame: Frame) -> str:
        names = [json.dumps(name) for name in frame]
        columns = [
            [json.dumps(text) for text in column]
            if frame[name].dtype.kind == "S"
            else ["null" if text in _NO_NUMBERS else text for text in column]
            for name, column in zip(frame, lines_of(frame), strict=True)
        ]
        return "".join(
            "{" + ",".join(f"{name}:{text}" for name, text in zip(names, row, strict=True)) + "}\n"
            for row in zip(*columns, strict=True)
        )


class _Text(_Writer):
    """For people: times in UTC, columns below each other."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._widths: dict[str, int] = {}

    def _head(self, frame: Frame) -> str:
        names = [name for name in frame if name in self._widths]
        return self._line(frame, dict(zip(names, names, strict=True)))

    def _records(self, frame: Frame) -> str:
        cells = cells_of(frame)
        for name, column in cells.items():
            self._widths[name] = max(self._widths.get(name, len(name)), *map(len, column), 0)
        rows = zip(*cells.values(), strict=True)
        return "".join(self._line(frame, dict(zip(cells, row, strict=True))) for row in rows)

    def _line(self, frame: Frame, row: dict[str, str]) -> str:
        padded = (
            cell.ljust(self._widths[name])
            if frame[name].dtype.kind == "S"
            else cell.rjust(self._widths[name])
            for name, cell in row.items()
        )
        return "  ".join(padded).rstrip() + "\n"


FORMS: Final[Mapping[str, Callable[[BinaryIO], Callable[[Frame], None]]]] = {
    "text": _Text,
    "csv": _Csv,
    "json": _Json,
}


class Ending:
    """The end of a stream: the first record at or after a time, itself excluded; None is none."""

    def __init__(self, end: TimeLike | None) -> None:
        self._stop_s = None if end is None else seconds("end", end)
        self._is_time_ours = False

    def with_time(self, of: Series) -> Series:
        """The series to ask for: with `time` as its last column where only we need it."""
        if self._stop_s is None or "time" in of.columns.split(","):
            return of
        self._is_time_ours = True
        return replace(of, columns=f"{of.columns},time")

    def cut(self, frame: Frame) -> tuple[Frame, bool]:
        """The records before the end, and whether it has come."""
        if self._stop_s is None:
            return frame, False
        count = int(np.searchsorted(frame["time"], self._stop_s))
        is_last = count < len(frame)
        wanted = frame[:count]
        if self._is_time_ours:
            wanted = Frame({name: values for name, values in wanted.items() if name != "time"})
        return wanted, is_last
