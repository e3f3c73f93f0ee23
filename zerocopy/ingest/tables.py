"""The rows of a source, in batches of bounded memory.

Owns what a `Batch` is: a polars frame with the source's own column names, and the way back from a
row to its place in the file. Text (CSV, NDJSON) comes as strings, so that nothing is lost before a
rule has looked at it; Parquet, Arrow and DBN come with their types. It must never know what a
column means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core.errors import IngestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from zerocopy.ingest.sources import Opened, Source

BATCH_ROWS = 65_536
"""Rows of a typed batch: its columns are half a MB, for which malloc needs no new pages."""

_JSON_ROWS = 65_536  # as Python objects they take 1 KB each


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows; `place` tells where in the source a row of `frame` is: `line 17`."""

    frame: pl.DataFrame
    place: Callable[[int], str]


def typed_batches(source: Source, opened: Opened) -> Iterator[Batch]:
    """The rows of a Parquet or Arrow file, in order.

    Raises:
        IngestError: it is damaged.
    """
    import polars as pl  # noqa: PLC0415 - the extra `import`

    assert opened.path is not None
    try:
        if opened.kind == "Arrow stream":
            # A stream has no index: polars reads it as a whole.
            frames: Iterator[pl.DataFrame] = iter([pl.read_ipc_stream(opened.path)])
        else:
            scan = pl.scan_parquet if opened.kind == "Parquet" else pl.scan_ipc
            # A path below /proc is a file like any other, but for its name.
            lazy = scan(opened.path, glob=False)
            frames = lazy.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
        first = 0
        for frame in frames:
            yield Batch(frame, _rows_from(first))
            first += frame.height
    except (pl.exceptions.PolarsError, OSError) as error:
        line = str(error).strip().partition("\n")[0]
        raise IngestError(f"{source.name}: cannot be read as {opened.kind}: {line}") from error


def json_batches(source: Source, opened: Opened) -> Iterator[Batch]:
    """The objects of an NDJSON file, one a line; each value as its text, null where it has none.

    Raises:
        IngestError: a line is no JSON object, or a value is an array or an object.
    """
    import orjson  # noqa: PLC0415

    names: dict[str, None] = {}
    rows: list[dict[str, object]] = []
    lines: list[int] = []
    for number, text in enumerate(opened.stream, 1):
        line = text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise IngestError(f"{source.name}: line {number}: is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise IngestError(f"{source.name}: line {number}: is no JSON object")
        names.update(dict.fromkeys(row))
        rows.append(row)
        lines.append(number)
        if len(rows) == _JSON_ROWS:
            yield _json_batch(source, names, rows, lines)
            rows, lines = [], []
    if rows:
        yield _json_batch(source, names, rows, lines)


def _json_batch(
    source: Source, names: dict[str, None], rows: list[dict[str, object]], lines: list[int]
) -> Batch:
    import polars as pl  # noqa: PLC0415

    columns = {}
    for name in names:
        texts = []
        for row, line in zip(rows, lines, strict=True):
            value = row.get(name)
            if isinstance(value, dict | list):
                raise IngestError(f"{source.name}: line {line}: {name} is no single value")
            texts.append(value if value is None or isinstance(value, str) else _text(value))
        columns[name] = pl.Series(texts, dtype=pl.String)
    return Batch(pl.DataFrame(columns), lambda row: f"line {lines[row]}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _rows_from(first: int) -> Callable[[int], str]:
    return lambda row: f"row {first + row + 1}"
