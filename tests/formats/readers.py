"""Readers of each format that nobody here wrote, and the oracle's answer in the same shape."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

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
