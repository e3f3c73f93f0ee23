"""CSV of unknown make: its delimiter, its header, and its rows as text.

Owns the questions whose wrong answer shifts columns: which character divides the fields, whether
the first line names them, whether each line has as many. Each has one answer or is refused. Blocks
of bytes are cut at the end of a line outside quotes and parsed by polars, every field as a string.
"""

from __future__ import annotations

import csv
import io
import re
from typing import IO, TYPE_CHECKING, NamedTuple

import numpy as np

from zerocopy.core.errors import IngestError
from zerocopy.ingest.tables import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from zerocopy.ingest.sources import Source

BLOCK_BYTES = 8 << 20
"""Text that is parsed at once. polars takes some ten times as much memory for it."""

LINE_BYTES_MAX = 1 << 20
"""A longer line is no line of a table."""

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}

_BOM = b"\xef\xbb\xbf"
DATUM = re.compile(r"[+-]?(\d[\d.,:]*|\.\d+)([eE][+-]?\d+)?|\d{4}[-/]?\d{2}[-/]?\d{2}([ T].*)?")
"""What no column is called: a number, a date, a clock time."""


class Layout(NamedTuple):
    """How to read a file's lines: `names` of the fields, `1` `2` `3` where no header tells them."""

    delimiter: str
    has_header: bool
    names: tuple[str, ...]

    def describe(self) -> str:
        """For the report."""
        header = "a header" if self.has_header else "no header"
        return f"{DELIMITERS.get(self.delimiter, self.delimiter)} between fields, {header}"


def read_layout(
    source: Source, block: bytes, delimiter: str | None, *, has_header: bool | None
) -> Layout:
    """Find out how the lines of `block`, the begin of a file, are made; flags decide what they say.

    Raises:
        IngestError: more than one delimiter would fit; a header names a column twice.
    """
    text = block.removeprefix(_BOM)[:LINE_BYTES_MAX].decode("utf-8", "replace").lstrip("\r\n")
    first_line = text.partition("\n")[0].rstrip("\r")
    if "\r" in first_line and '"' not in first_line:
        raise IngestError(f"{source.name}: lines end with CR alone; convert it: tr '\\r' '\\n'")
    try:
        return _layout_of(source, first_line, delimiter, has_header=has_header)
    except csv.Error as error:
        raise IngestError(f"{source.name}: the first line is no CSV: {error}") from error


def _layout_of(
    source: Source, first_line: str, delimiter: str | None, *, has_header: bool | None
) -> Layout:
    if delimiter is None:
        fitting = [mark for mark in DELIMITERS if len(_fields(first_line, mark)) > 1]
        if len(fitting) > 1:
            names = " or ".join(DELIMITERS[mark] for mark in fitting)
            raise IngestError(f"{source.name}: fields are divided by {names}: --delimiter decides")
        delimiter = fitting[0] if fitting else ","
    fields = [field.strip() for field in _fields(first_line, delimiter)]
    if has_header is None:
        has_header = not any(DATUM.fullmatch(field) for field in fields) and any(fields)
    if not has_header:
        return Layout(delimiter, False, tuple(str(at + 1) for at in range(len(fields))))
    named = [field for field in fields if field]
    if len(set(named)) != len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise IngestError(f"{source.name}: the header names {twice} twice")
    # pandas leaves the name of its index empty.
    return Layout(delimiter, True, tuple(name or str(at + 1) for at, name in enumerate(fields)))


def _fields(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


def csv_batches(
    source: Source, stream: IO[bytes], find_layout: Callable[[bytes], Layout]
) -> Iterator[Batch]:
    """The rows of a CSV file; `find_layout` is asked about the first block.

    Raises:
        IngestError: a line has too few or too many fields, a NUL byte, an open quote, no UTF-8.
    """
    layout: Layout | None = None
    first_line = 1
    for block, begin in _blocks(source, stream):
        text = block
        if layout is None:
            layout = find_layout(text)
            if layout.has_header:
                text, skipped = _after_header(text)
                first_line = begin + skipped
        else:
            first_line = begin
        parser = _Block(source, layout, text, first_line)
        frame = parser.parse()
        if frame.height:
            yield Batch(frame, parser.place)


def _fields_of(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _after_header(block: bytes) -> tuple[bytes, int]:
    """What follows the first line that is not blank, and how many lines that skips."""
    at = skipped = 0
    while at < len(block):
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end + 1
        skipped += 1
        if block[at:end].strip():
            return block[end:], skipped
        at = end
    return b"", skipped


def _blocks(source: Source, stream: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Pieces of whole lines, each with the number of its first line."""
    line = 1
    while True:
        block = stream.read(BLOCK_BYTES)
        if not block:
            return
        # The line that the block ends in, and further ones while a quote is open.
        tail = stream.readline(LINE_BYTES_MAX)
        quotes = block.count(b'"') if b'"' in block else 0
        quotes += tail.count(b'"')
        while quotes % 2 and (more := stream.readline(LINE_BYTES_MAX)):
            quotes += more.count(b'"')
            tail += more
            if len(tail) > LINE_BYTES_MAX:
                break
        if len(tail) >= LINE_BYTES_MAX:
            line += _newlines(block)
            words = "has no end within a megabyte: an open quote, or no CSV"
            raise IngestError(f"{source.name}: line {line}: {words}")
        if tail:
            block += tail
        if line == 1:
            block = block.removeprefix(_BOM)
        yield block, line
        line += _newlines(block)


def _newlines(block: bytes) -> int:
    # Three times as fast as bytes.count.
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))


class _Block:
    """One piece of a file, and the slow way through it where the fast one finds a fault."""

    def __init__(self, source: Source, layout: Layout, text: bytes, first_line: int) -> None:
        self._source = source
        self._layout = layout
        # polars takes the first line for the measure of all.
        self._text = text.lstrip(b"\r\n")
        self._first_line = first_line + text.count(b"\n", 0, len(text) - len(self._text))

    def parse(self) -> pl.DataFrame:
        import polars as pl  # noqa: PLC0415 - the extra `import`

        if b"\0" in self._text:
            line = self._first_line + self._text.count(b"\n", 0, self._text.index(b"\0"))
            raise self._error(line, "holds a NUL byte")
        if not self._text or self._text.isspace():
            return pl.DataFrame()
        try:
            frame = pl.read_csv(
                self._text,
                has_header=False,
                separator=self._layout.delimiter,
                schema=dict.fromkeys(self._layout.names, pl.String),
            )
        except pl.exceptions.PolarsError as error:
            self._check_lines()
            words = str(error).partition("\n")[0]
            raise self._error(self._first_line, f"or one after it: {words}") from error
        # A line that is too short has nulls at its end, a blank one has only nulls.
        last = frame.get_column(self._layout.names[-1])
        if last.null_count():
            blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
            frame = frame.filter(~blank)
            if last.null_count() > blank.sum() or len(self._layout.names) == 1:
                self._check_lines()
        return frame

    def place(self, row: int) -> str:
        """Where the row begins: lines are counted, blank ones included."""
        for at, (line, _) in enumerate(self._rows()):
            if at == row:
                return f"line {line}"
        raise AssertionError("a row of this block")

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row that is not blank, with the number of its first line."""
        try:
            text = self._text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self._first_line + self._text.count(b"\n", 0, error.start)
            raise self._error(line, "is not UTF-8") from error
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=self._layout.delimiter)
        line = self._first_line
        try:
            for row in reader:
                if any(row):
                    yield line, row
                line = self._first_line + reader.line_num
        except csv.Error as error:
            raise self._error(line, f"is no CSV: {error}") from error

    def _check_lines(self) -> None:
        """Raise for the first line that has another number of fields than the first line."""
        count = len(self._layout.names)
        for line, row in self._rows():
            if len(row) != count:
                raise self._error(line, f"has {_fields_of(len(row))}, not {count}")

    def _error(self, line: int, what: str) -> IngestError:
        return IngestError(f"{self._source.name}: line {line}: {what}")
