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
    END_STREAM,
    FRAME_HEADER_BYTES,
    write_data_header,
)

if TYPE_CHECKING:
    from zerocopy.transport.body import Body

BUFFER_BYTES = 262_144
"""Bytes of a turn with their frame headers: sixteen full records of TLS."""

_FLAGS_AT = 4


class FrameBuffer:
    """Builds the frames of one turn of one stream. They are valid until the next `fill`."""

    __slots__ = ("_layout", "_payloads", "_view")

    def __init__(self) -> None:
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._layout: tuple[int, ...] = ()  # of the frames whose headers were written last
        self._payloads: list[memoryview] = []  # their places

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
        view, at = self._view, len(head)
        if head:
            view[:at], self._layout = head, ()
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
            payloads = self._lay_out(at, count, frame_bytes_max, stream_id)
            at += count + FRAME_HEADER_BYTES * len(payloads)
            if content is None:
                source, offset, _ = body.file_range
                source.scatter(offset, payloads)
            else:
                spread(content, payloads)
            body.advance(count)
            taken += count
            cost += max(count, SEGMENT_COST_BYTES)
        if taken and is_last and not body.left_bytes:
            last = at - len(self._payloads[-1]) - FRAME_HEADER_BYTES
            view[last + _FLAGS_AT], self._layout = END_STREAM, ()
        return view[:at], taken

    def _lay_out(
        self, at: int, count: int, frame_bytes_max: int, stream_id: int
    ) -> list[memoryview]:
        """Write the headers of frames for `count` bytes. Returns where their payloads go.

        Turn after turn of a long body has the same, which are then there already.
        """
        layout = (at, count, frame_bytes_max, stream_id)
        if layout != self._layout:
            view, self._layout, self._payloads = self._view, layout, []
            while count:
                nbytes = min(count, frame_bytes_max)
                write_data_header(view, at, nbytes, stream_id)
                at += FRAME_HEADER_BYTES
                self._payloads.append(view[at : at + nbytes])
                at += nbytes
                count -= nbytes
        return self._payloads
