"""Readers of each format that nobody here wrote, and the oracle's answer in the same shape."""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LETTERS = {
    "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i1": "b", "i2": "h", "i4": "i", "i8": "q",
    "f4": "f", "f8": "d",
}  # fmt: skip
"""Of dtypes, those of `struct`."""

ARROW_TYPES = {
    "<u4": "uint32", "<u8": "uint64", "<u2": "uint16", "|u1": "uint8",
    "<i4": "int32", "<i8": "int64", "<i2": "int16", "|i1": "int8",
    "<f4": "float", "<f8": "double",
}  # fmt: skip


def columns_of(body: bytes) -> dict[str, tuple[str, bytes]]:
    """Of an answer in the format `columns`: dtype and records of each, in order."""
    line, _, data = body.partition(b"\n")
    found: dict[str, tuple[str, bytes]] = {}
    end = 0
    for column in json.loads(line)["columns"]:
        begin, end = end, end + column["data_length"]
        found[column["name"]] = column["dtype"], data[begin:end]
    assert end == len(data)
    return found


def arrow_table(body: bytes) -> Any:
    """What pyarrow reads of a stream, after it has checked all there is to check."""
    import pyarrow as pa  # type: ignore[import-untyped]  # noqa: PLC0415 - tests without it are skipped

    source = pa.BufferReader(body)
    table = pa.ipc.open_stream(source).read_all()
    table.validate(full=True)
    assert source.tell() == len(body), "nothing after the end of the stream"
    return table


def check_arrow(body: bytes, expected: bytes, labels: Mapping[str, str]) -> None:
    """Fail unless pyarrow and polars read of `body` what the oracle's `expected` holds."""
    import polars as pl  # noqa: PLC0415 - tests without it are skipped

    table = arrow_table(body)
    wanted = columns_of(expected)
    assert table.column_names == list(wanted)
    for name, (dtype, records) in wanted.items():
        field, column = table.schema.field(name), table.column(name)
        assert field.metadata == ({b"unit": b"s"} if name == "time" else None)
        width = int(dtype[2:])
        fixed = f"fixed_size_binary[{width}]"
        assert str(field.type) == (fixed if dtype[1] == "S" else ARROW_TYPES[dtype])
        assert column.null_count == 0
        pieces = [_records(chunk, width) for chunk in column.chunks]
        assert b"".join(pieces) == records
    skipped = json.loads(expected.partition(b"\n")[0]).get("skipped")
    told = {**labels, "skipped": json.dumps(skipped, separators=(",", ":"))}
    if skipped is None:
        del told["skipped"]
    assert table.schema.metadata == {key.encode(): told[key].encode() for key in told}
    frame = pl.read_ipc_stream(body)
    assert frame.columns == list(wanted)
    for name, (dtype, records) in wanted.items():
        series = frame.get_column(name)
        found = b"".join(series.to_list()) if dtype[1] == "S" else series.to_numpy().tobytes()
        assert found == records


def _records(chunk: Any, width: int) -> bytes:
    """The bytes of one array, of which nothing is null."""
    validity, data = chunk.buffers()
    assert validity is None or chunk.null_count == 0
    return bytes(data)[chunk.offset * width : (chunk.offset + len(chunk)) * width]


# ---- computed formats: values, whatever reads them


def values_of(body: bytes) -> dict[str, list[Any]]:
    """Of an answer in the format `columns`: the values of each column, `S` as raw bytes."""
    found: dict[str, list[Any]] = {}
    for name, (dtype, records) in columns_of(body).items():
        width = int(dtype[2:])
        if dtype[1] == "S":
            found[name] = [records[at : at + width] for at in range(0, len(records), width)]
        else:
            letter = LETTERS[dtype[1:]]
            found[name] = list(struct.unpack(f"<{len(records) // width}{letter}", records))
    return found


def text_of(raw: bytes) -> str:
    """An `S` record as text."""
    return raw.rstrip(b"\0").decode("utf-8", "replace")


def check_json(body: bytes, expected: bytes) -> None:
    """Fail unless the standard library reads of `body` what the oracle's `expected` holds."""
    told = json.loads(expected.partition(b"\n")[0])
    document = json.loads(body)
    wanted = values_of(expected)
    keys = ("columns", "interval_s", "num_records", "skipped")
    assert list(document) == [key for key in keys if key == "num_records" or key in told]
    assert document.get("interval_s") == told.get("interval_s")
    assert document.get("skipped") == told.get("skipped")
    assert list(document["columns"]) == list(wanted)
    dtypes = {column["name"]: column["dtype"][1:] for column in told["columns"]}
    for name, values in wanted.items():
        read = document["columns"][name]
        assert len(read) == len(values) == document["num_records"]
        if dtypes[name][0] == "S":
            assert read == [text_of(raw) for raw in values]
        elif dtypes[name][0] == "f":
            letter = LETTERS[dtypes[name]]
            for value, found in zip(values, read, strict=True):
                assert (found is None) == (not math.isfinite(value))
                if found is not None:
                    assert struct.pack("<" + letter, found) == struct.pack("<" + letter, value)
        else:
            assert read == values
            assert all(type(found) is int for found in read)


def check_csv(body: bytes, expected: bytes) -> None:
    """The same of the standard library's csv; the header ends by LF alone."""
    wanted = values_of(expected)
    dtypes = {name: dtype[1:] for name, (dtype, _) in columns_of(expected).items()}
    lines = csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True)
    assert next(lines) == list(wanted)
    assert body.endswith(b"\n")
    assert not body.partition(b"\n")[0].endswith(b"\r")
    columns = list(zip(*lines, strict=True)) or [()] * len(wanted)
    for (name, values), read in zip(wanted.items(), columns, strict=True):
        assert len(read) == len(values)
        if dtypes[name][0] == "S":
            assert list(read) == [text_of(raw) for raw in values]
        elif dtypes[name][0] == "f":
            letter = LETTERS[dtypes[name]]
            assert pack(letter, map(float, read)) == pack(letter, values)
            assert {text for text in read if text[-1] in "nfNy"} <= {"NaN", "inf", "-inf"}
        else:
            assert list(read) == [str(value) for value in values]


def pack(letter: str, values: Iterable[float]) -> bytes:
    """Floats as records, with one NaN for all."""
    return b"".join(
        struct.pack("<" + letter, math.nan if math.isnan(value) else value) for value in values
    )


def check_parquet(body: bytes, expected: bytes) -> None:
    """The same of pyarrow and polars: dtypes, raw texts, row groups and compression."""
    import polars as pl  # noqa: PLC0415 - tests without it are skipped
    import pyarrow.parquet as pq  # type: ignore[import-untyped]  # noqa: PLC0415

    file = pq.ParquetFile(io.BytesIO(body))
    table = file.read()
    wanted = columns_of(expected)
    assert table.column_names == list(wanted)
    frame = pl.read_parquet(io.BytesIO(body))
    for name, (dtype, records) in wanted.items():
        kind = str(table.schema.field(name).type)
        assert kind == ("large_binary" if dtype[1] == "S" else ARROW_TYPES[dtype])
        assert table.column(name).null_count == 0
        if dtype[1] == "S":
            assert b"".join(table.column(name).to_pylist()) == records
            assert b"".join(frame.get_column(name).to_list()) == records
        else:
            assert table.column(name).to_numpy().tobytes() == records
            assert frame.get_column(name).to_numpy().tobytes() == records
    for index in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(index)
        assert 0 <= group.num_rows <= 1_048_576
        if group.num_rows:
            assert {group.column(place).compression for place in range(len(wanted))} == {"ZSTD"}


CHECKS = {"json": check_json, "csv": check_csv, "parquet": check_parquet}
"""What fails unless a body in a computed format holds what the oracle's does."""
