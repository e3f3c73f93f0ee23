"""DATA frames of a body, built in one buffer that all connections of a worker use in turn.

Owns the buffer and the cutting; `transport/body.py` has the position. The bytes of a file are
copied once, from its mapping or by preadv(2), to where they stand in their frames. A channel
encrypts from there, or a connection keeps what its client does not take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.plan import spread
from zerocopy.transport.body import SEGMENT_COST_BYTES
from zerocopy.transport.http2.head import (
    DATA,
    END_STREAM,
    FRAME_HEADER_BYTES,
    frame_header,
    write_data_header,
)

if TYPE_CHECKING:
    from zerocopy.transport.body import Body

BUFFER_BYTES = 262_144
"""Bytes of a turn with their frame headers: sixteen full records of TLS."""

_FLAGS_AT = 4


class FrameBuffer:
    """Builds the frames of one turn of one stream. They are valid until the next `fill`."""

    __slots__ = ("_view",)

    def __init__(self) -> None:
        self._view = memoryview(bytearray(BUFFER_BYTES))

    def fill(
        self,
        body: Body,
        stream_id: int,
        head: bytes,
        *,
        most: int,
        frame_bytes_max: int,
        is_last: bool = True,
    ) -> tuple[memoryview, int]:
        """Build `head` and DATA frames of at most `most` bytes of `body`.

        Returns the frames and how many bytes of the body they carry. Stops at bytes that are not in
        memory; `body.is_waiting` then. The last frame ends the stream, unless another body follows.

        Raises:
            DataError: a file changed or failed; the promise cannot be kept.
            OverloadError: the system is out of memory; so it cannot either.
        """
        view, at, last = self._view, len(head), 0
        view[:at] = head
        full = frame_header(frame_bytes_max, DATA, 0, stream_id)
        step = FRAME_HEADER_BYTES + frame_bytes_max
        taken = cost = 0
        while cost < most and taken < most and body.left_bytes:
            room = BUFFER_BYTES - at
            room = min(room - FRAME_HEADER_BYTES * -(-room // step), most - taken)
            if room <= 0:
                break
            content = body.in_memory(room)
            count = body.allowed(room) if content is None else len(content)
            if not count:
                break
            whole, rest = divmod(count, frame_bytes_max)
            payloads: list[memoryview] = []
            for last in range(at, at + whole * step, step):
                view[last : last + FRAME_HEADER_BYTES] = full
                payloads.append(view[last + FRAME_HEADER_BYTES : last + step])
            at += whole * step
            if rest:
                last, at = at, at + FRAME_HEADER_BYTES + rest
                write_data_header(view, last, rest, stream_id)
                payloads.append(view[at - rest : at])
            if content is None:
                source, offset, _ = body.file_range
                source.scatter(offset, payloads)
            else:
                spread(content, payloads)
            body.advance(count)
            taken += count
            cost += max(count, SEGMENT_COST_BYTES)
        if taken and is_last and not body.left_bytes:
            view[last + _FLAGS_AT] = END_STREAM
        return view[:at], taken
