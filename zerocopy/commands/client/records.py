"""The records that a command asks for, and the ways to write them.

Owns what is fetched in which shape. Columns come as they lie on the server, and csv, json, parquet
and npz are made from them here: that costs the server nothing and knows no limit. Where polars is
not installed, the server makes csv and parquet. It must never know an option.
"""

from __future__ import annotations

import calendar
import contextlib
import datetime as dt
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerocopy.client.download import download
from zerocopy.client.requests import Call, data_call, span_parameters, target_of
from zerocopy.client.times import span
from zerocopy.commands.client.making import encode, is_made_here, mapped
from zerocopy.commands.client.options import refuse_to_overwrite
from zerocopy.commands.client.output import StreamSink, appearing, tell_skipped
from zerocopy.core.layout import DAY_S
from zerocopy.streams import tell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from zerocopy.client.frame import Frame
    from zerocopy.client.requests import Series
    from zerocopy.client.sinks import Progress
    from zerocopy.client.times import TimeLike
    from zerocopy.commands.client.asking import Server

AS_THEY_COME = ("columns", "arrow")
"""Formats that the server sends from its files."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records that are asked for, and the ways to write them."""

    server: Server
    of: Series
    start: TimeLike | None
    end: TimeLike | None
    progress: Progress | None

    def frame(self) -> Frame:
        """All records, in memory."""
        call = data_call(self.of, self.start, self.end, self.progress)
        return self.server.run(call)

    def write_file(self, path: str, format_: str, *, replaces: bool) -> None:
        """Write a file, and go on with it if it broke off.

        Raises:
            ZerocopyError: the file has come meanwhile, unless it `replaces` one.
        """
        if format_ in AS_THEY_COME or not is_made_here(format_):
            self._download(path, format_, path, replaces=replaces)
            if format_ == "columns":
                tell_skipped(mapped(path).skipped)
            return
        with _columns_beside(path) as columns:
            self._download(columns, "columns", path, replaces=True)
            frame = mapped(columns)
            with appearing(path, replaces=replaces) as file:
                encode(frame, format_, file)
        tell_skipped(frame.skipped)

    def write_stream(self, format_: str, file: BinaryIO) -> None:
        """Write to a stream that somebody may read as it is written."""
        if format_ in AS_THEY_COME or not is_made_here(format_):
            first_s, stop_s = span(self.start, self.end)
            parameters = self.of.parameters() | span_parameters(first_s, stop_s)
            target = target_of("/api/data", parameters | {"format": format_})
            self.server.run(Call(target, StreamSink(file, self.progress), lambda: None))
        elif format_ == "csv" and self.of.last is None:
            self._write_days(file)
        else:
            frame = self.frame()
            encode(frame, format_, file)
            tell_skipped(frame.skipped)

    def _download(self, path: str, format_: str, wanted: str, *, replaces: bool) -> None:
        """Download to `path`, on the way to the file that is `wanted`."""
        call = download(self.of, path, self.start, self.end, format_, self.progress)

        def result() -> object:
            if not replaces:
                refuse_to_overwrite(path)
            return call.result()

        try:
            self.server.run(Call(call.target, call.sink, result, call.held))
        except KeyboardInterrupt:
            tell(f"zerocopy: {wanted}: interrupted; the same command goes on where it broke off")
            raise

    def _write_days(self, file: BinaryIO) -> None:
        """A csv day by day: the first lines come soon, and no more than a day is in memory."""
        first_s, stop_s = span(self.start, self.end)
        found = self.server.catalog(self.of.symbol, self.of.exchange).get(self.of.type, {})
        spans = list(_days_of(found, first_s, stop_s)) or [(first_s, stop_s)]
        skipped: list[str] = []
        for position, (begin_s, end_s) in enumerate(spans):
            frame = self.server.run(data_call(self.of, begin_s, end_s, self.progress))
            encode(frame, "csv", file, has_head=not position)
            skipped += frame.skipped
        file.flush()
        tell_skipped(skipped)


def _days_of(found: dict[str, Any], first_s: int, stop_s: int) -> Iterator[tuple[int, int]]:
    """The seconds [begin, end) of each day that a type has within [first, stop)."""
    if not found.get("days"):
        return
    missing = set(found["missing_days"])
    day, last = map(dt.date.fromisoformat, (found["first_day"], found["last_day"]))
    while day <= last:
        begin_s = calendar.timegm(day.timetuple())
        end_s = begin_s + DAY_S
        if str(day) not in missing and begin_s < stop_s and first_s < end_s:
            yield max(begin_s, first_s), min(end_s, stop_s)
        day += dt.timedelta(1)


@contextlib.contextmanager
def _columns_beside(path: str) -> Iterator[str]:
    """A name for the columns that a file is made from; they go when it is there, or cannot be."""
    folder, name = os.path.split(path)
    columns = os.path.join(folder, f".{name}.columns")
    try:
        yield columns
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(columns)
