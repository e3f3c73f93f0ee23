"""DATA frames of a body: its bytes, as the client's windows and frame size allow.

Owns only the cutting; `transport/body.py` has the position. Slices of mapped files go into the
frames as they are, and are copied once, when the frames of a turn are joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.transport.body import SEGMENT_COST_BYTES
from zerocopy.transport.http2.head import DATA, END_STREAM, frame_header

if TYPE_CHECKING:
    from zerocopy.transport.body import Body


def take_frames(
    body: Body,
    frames: list[bytes | memoryview],
    stream_id: int,
    *,
    most: int,
    frame_bytes_max: int,
) -> int:
    """Append DATA frames of at most `most` bytes of `body`; how many bytes they carry.

    Stops short of what is not ready, and `body.is_waiting` then. The last frame ends the stream.
    The frames hold slices of files: join them before yielding to the event loop.

    Raises:
        DataError: a file changed or failed; the promise cannot be kept.
        OverloadError: the system is out of memory; so it cannot either.
    """
    taken = cost = 0
    full = frame_header(frame_bytes_max, DATA, 0, stream_id)
    while cost < most and taken < most and body.left_bytes:
        piece = body.take(most - taken)
        if piece is None:
            break
        nbytes = len(piece)
        if not (frames or nbytes % frame_bytes_max) and body.left_bytes:
            # The middle of a large segment: equal frames, joined by their common header.
            starts = range(0, nbytes, frame_bytes_max)
            parts = [piece[start : start + frame_bytes_max] for start in starts]
            frames.append(full.join([b"", *parts]))
            return nbytes
        last = nbytes - (nbytes % frame_bytes_max or frame_bytes_max)
        for start in range(0, last, frame_bytes_max):
            frames += (full, piece[start : start + frame_bytes_max])
        flags = 0 if body.left_bytes else END_STREAM
        frames += (frame_header(nbytes - last, DATA, flags, stream_id), piece[last:])
        taken += nbytes
        cost += max(nbytes, SEGMENT_COST_BYTES)
    return taken
