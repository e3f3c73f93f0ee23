"""What is left to send of one HTTP/2 response, cut into DATA frames.

Owns the position in a body: `content` first, then segment by segment. It knows neither windows nor
connections; whoever sends says how many bytes may leave. Slices of mapped files go into the frames
as they are and are copied once, when the frames of a turn are joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.transport.asgi import PREPARE_AHEAD
from zerocopy.transport.http2_head import DATA, END_STREAM, frame_header
from zerocopy.transport.transfer import SEGMENT_COST_BYTES

if TYPE_CHECKING:
    from zerocopy.core.messages import Response
    from zerocopy.core.plan import Source


class Body:
    """The unsent bytes of one response; `left` counts them.

    `moved_at` is the tick of the wheel when some of them left last. While `is_preparing`, threads
    make the next segments ready.
    """

    __slots__ = (
        "_content", "_index", "_position", "_prepared", "_segments", "is_preparing", "left",
        "moved_at",
    )  # fmt: skip

    def __init__(self, response: Response, now: int) -> None:
        self._content = memoryview(response.content)
        self._segments = response.segments
        self._index = 0  # of the segment being sent
        self._position = 0  # in that segment, in bytes
        self._prepared = 0  # segments before this one were asked for, ready or not
        self.left = response.nbytes
        self.is_preparing = False
        self.moved_at = now

    @property
    def segment_count(self) -> int:
        """How many segments this response keeps in memory until it ends."""
        return len(self._segments)

    def cold_sources(self) -> list[Source]:
        """What has to be prepared before the next byte can leave; empty where nothing has.

        Each is named once: a cache too small to keep them all must not hold the answer up.
        """
        if self._content or not self.left or self._is_ready():
            return []
        batch = self._segments[self._index : self._index + PREPARE_AHEAD]
        self._prepared = self._index + len(batch)
        return [segment.source for segment in batch]

    def take_frames(
        self, frames: list[bytes | memoryview], stream_id: int, budget: int, frame_bytes_max: int
    ) -> int:
        """Append DATA frames of at most `budget` bytes to `frames`; how many bytes they carry.

        Stops short of a segment that is not ready. The last frame ends the stream. The frames hold
        slices of files: join them before yielding to the event loop.

        Raises:
            DataError: a file changed or failed; the promise cannot be kept.
            OverloadError: the system is out of memory; so it cannot either.
        """
        taken = cost = 0
        full = frame_header(frame_bytes_max, DATA, 0, stream_id)
        while cost < budget and taken < budget and self.left:
            piece = self._slice(budget - taken)
            if piece is None:
                break
            nbytes = len(piece)
            self.left -= nbytes
            if not (frames or nbytes % frame_bytes_max) and self.left:
                # The middle of a large segment: equal frames, joined by their common header.
                starts = range(0, nbytes, frame_bytes_max)
                parts = [piece[start : start + frame_bytes_max] for start in starts]
                frames.append(full.join([b"", *parts]))
                return nbytes
            last = nbytes - (nbytes % frame_bytes_max or frame_bytes_max)
            for start in range(0, last, frame_bytes_max):
                frames += (full, piece[start : start + frame_bytes_max])
            flags = 0 if self.left else END_STREAM
            frames += (frame_header(nbytes - last, DATA, flags, stream_id), piece[last:])
            taken += nbytes
            cost += max(nbytes, SEGMENT_COST_BYTES)
        return taken

    def _slice(self, count: int) -> bytes | memoryview | None:
        """At most `count` bytes that lie together; None where the next source is not ready."""
        if self._content:
            piece, self._content = self._content[:count], self._content[count:]
            return piece
        if not self._is_ready():
            return None
        segment = self._segments[self._index]
        count = min(count, segment.count - self._position)
        view = segment.source.view(segment.offset + self._position, count)
        self._position += count
        if self._position == segment.count:
            self._index += 1
            self._position = 0
        return view

    def _is_ready(self) -> bool:
        return self._index < self._prepared or self._segments[self._index].source.ready()
