"""The format `arrow`: an Arrow IPC stream around the records as they lie on disk.

Owns the messages of the stream (Arrow columnar format, IPC streaming format): one schema, record
batches, the end. A column without nulls is its records, padded to 8 bytes, so the buffers of a
batch are the files' own bytes. In memory is what stands between two columns: padding, and the
metadata before each batch. Metadata are flatbuffers; slots and enumerations below are those of
Arrow's Message.fbs and Schema.fbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import flatbuffers  # type: ignore[import-untyped]
import orjson

from zerocopy.core.layout import TIME_COLUMN, day_label
from zerocopy.core.plan import Representation, Segment, ends_of, in_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from zerocopy.core.layout import Dtype
    from zerocopy.core.plan import Column, DayRecords, Plan

MEDIA_TYPE = b"application/vnd.apache.arrow.stream"

BATCH_RECORDS_MIN = 65_536
"""Days share a batch until it holds so many records: readers pay for each batch."""

BATCH_RECORDS_MAX = 16_777_216
"""A longer day is several batches, so that a reader need not hold all of it at once."""

ALIGNMENT = 8
"""Of messages and buffers, in bytes."""

_CONTINUATION = b"\xff\xff\xff\xff"
_END = _CONTINUATION + bytes(4)
_VERSION_V5 = 4
_SCHEMA, _RECORD_BATCH = 1, 3
_INT, _FLOATING_POINT, _FIXED_SIZE_BINARY = 2, 3, 15
_PRECISIONS = {4: 1, 8: 2}  # SINGLE, DOUBLE
_STRUCT_BYTES = 16  # FieldNode and Buffer are two int64 each

_Builder = Any
"""`flatbuffers.Builder`, which carries no types."""


class _Batch(NamedTuple):
    """`length` records: of each day of `pieces` those from `first` to `stop`."""

    length: int
    pieces: Sequence[tuple[DayRecords, int, int]]


def represent(plan: Plan) -> Representation:
    """The schema, batches of all columns, days ascending, and the end of the stream."""
    content: bytes | None = None
    pending = _schema(plan)
    segments: list[Segment] = []
    for batch in _batches(plan.days):
        pending += _batch_message(batch.length, plan.columns)
        for position, (_, dtype) in enumerate(plan.columns):
            if content is None:
                content = pending
            elif pending:
                segments.append(in_memory(pending))
            segments += (
                Segment(day.sources[position], first * dtype.nbytes, (stop - first) * dtype.nbytes)
                for day, first, stop in batch.pieces
            )
            pending = bytes(_padding(batch.length * dtype.nbytes))
    pending += _END
    if content is None:
        content = pending
    else:
        segments.append(in_memory(pending))
    return Representation(MEDIA_TYPE, content, tuple(segments), ends_of(segments), b"arrow")


def _batches(days: Sequence[DayRecords]) -> Iterator[_Batch]:
    assert BATCH_RECORDS_MIN <= BATCH_RECORDS_MAX, "a full batch is complete"
    pieces: list[tuple[DayRecords, int, int]] = []
    length = 0
    for day in days:
        first, stop = day.records
        while first < stop:
            end = min(stop, first + BATCH_RECORDS_MAX - length)
            pieces.append((day, first, end))
            length += end - first
            first = end
            if length >= BATCH_RECORDS_MIN:
                yield _Batch(length, pieces)
                pieces, length = [], 0
    if pieces:
        yield _Batch(length, pieces)


def _padding(nbytes: int) -> int:
    return -nbytes % ALIGNMENT


# ---- messages


def _schema(plan: Plan) -> bytes:
    builder = flatbuffers.Builder(1024)
    told = dict(plan.labels)
    if plan.interval_s is not None:
        told["interval_s"] = str(plan.interval_s)
    if plan.skipped:
        told["skipped"] = orjson.dumps([day_label(day) for day in plan.skipped]).decode()
    fields = _offsets(builder, [_field(builder, column) for column in plan.columns])
    metadata = _key_values(builder, told)
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(1, fields, 0)
    builder.PrependUOffsetTRelativeSlot(2, metadata, 0)
    return _message(builder, _SCHEMA, builder.EndObject(), 0)


def _batch_message(length: int, columns: Sequence[Column]) -> bytes:
    """The metadata of a batch: no column has nulls, so each buffer of validity is empty."""
    builder = flatbuffers.Builder(1024)
    buffers: list[tuple[int, int]] = []
    end = 0
    for _, dtype in columns:
        nbytes = length * dtype.nbytes
        buffers += ((end, 0), (end, nbytes))
        end += nbytes + _padding(nbytes)
    buffers_at = _structs(builder, buffers)
    nodes_at = _structs(builder, [(length, 0)] * len(columns))
    builder.StartObject(5)
    builder.PrependInt64Slot(0, length, 0)
    builder.PrependUOffsetTRelativeSlot(1, nodes_at, 0)
    builder.PrependUOffsetTRelativeSlot(2, buffers_at, 0)
    return _message(builder, _RECORD_BATCH, builder.EndObject(), end)


def _message(builder: _Builder, kind: int, header: int, body_nbytes: int) -> bytes:
    """Encapsulated: continuation, the metadata's length, the metadata, padding."""
    builder.StartObject(5)
    builder.PrependInt16Slot(0, _VERSION_V5, 0)
    builder.PrependUint8Slot(1, kind, 0)
    builder.PrependUOffsetTRelativeSlot(2, header, 0)
    builder.PrependInt64Slot(3, body_nbytes, 0)
    builder.Finish(builder.EndObject())
    metadata = bytes(builder.Output())
    metadata += bytes(_padding(len(metadata)))
    return _CONTINUATION + len(metadata).to_bytes(4, "little") + metadata


# ---- flatbuffers: children before parents, vectors from their end


def _field(builder: _Builder, column: Column) -> int:
    name = builder.CreateString(column.name)
    children = _offsets(builder, [])  # readers demand the vector, though it is empty
    metadata = _key_values(builder, {"unit": "s"} if column.name == TIME_COLUMN else {})
    kind, type_at = _type(builder, column.dtype)
    builder.StartObject(7)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependBoolSlot(1, True, False)  # nullable, as readers have it by default
    builder.PrependUint8Slot(2, kind, 0)
    builder.PrependUOffsetTRelativeSlot(3, type_at, 0)
    builder.PrependUOffsetTRelativeSlot(5, children, 0)
    builder.PrependUOffsetTRelativeSlot(6, metadata, 0)
    return int(builder.EndObject())


def _type(builder: _Builder, dtype: Dtype) -> tuple[int, int]:
    """Which member of the union Type, and where it is."""
    letter = dtype.name[1]
    builder.StartObject(2)
    if letter == "S":
        kind = _FIXED_SIZE_BINARY
        builder.PrependInt32Slot(0, dtype.nbytes, 0)
    elif letter == "f":
        kind = _FLOATING_POINT
        builder.PrependInt16Slot(0, _PRECISIONS[dtype.nbytes], 0)
    else:
        kind = _INT
        builder.PrependInt32Slot(0, 8 * dtype.nbytes, 0)
        builder.PrependBoolSlot(1, letter == "i", False)
    return kind, int(builder.EndObject())


def _key_values(builder: _Builder, told: Mapping[str, str]) -> int:
    """A vector of KeyValue; 0, so no field at all, where there is nothing to tell."""
    pairs = [(builder.CreateString(key), builder.CreateString(told[key])) for key in told]
    offsets = []
    for key_at, value_at in pairs:
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, key_at, 0)
        builder.PrependUOffsetTRelativeSlot(1, value_at, 0)
        offsets.append(builder.EndObject())
    return _offsets(builder, offsets) if offsets else 0


def _offsets(builder: _Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _structs(builder: _Builder, pairs: Sequence[tuple[int, int]]) -> int:
    """A vector of structs of two int64."""
    builder.StartVector(_STRUCT_BYTES, len(pairs), 8)
    for first, second in reversed(pairs):
        builder.PrependInt64(second)
        builder.PrependInt64(first)
    return int(builder.EndVector())
