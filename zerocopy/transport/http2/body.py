"""What is left to send of one HTTP/2 response, cut into DATA frames.

Owns the position in a body: `content` first, then segment by segment. It knows neither windows nor
connections; whoever sends says how many bytes may leave. Slices of mapped files go into the frames
as they are and are copied once, when the frames of a turn are joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.window import GATHERED_BYTES_MAX, place_after
from zerocopy.transport.http2.head import DATA, END_STREAM, frame_header
from zerocopy.transport.readahead import WINDOW_BYTES_MAX, ReadAhead
from zerocopy.transport.transfer import SEGMENT_COST_BYTES

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.core.window import Window


class Body:
    """The unsent bytes of one response; `left` counts them.

    `moved_at` is the tick of the wheel when some of them left last. `is_waiting` while a thread
    reads what comes next: then nothing leaves until `prepared`.
    """

    __slots__ = (
        "_ahead", "_content", "_index", "_position", "_segments", "is_waiting", "left", "moved_at"
    )  # fmt: skip

    def __init__(
        self, response: Response, now: int, window_bytes_max: int = WINDOW_BYTES_MAX
    ) -> None:
        self._content = memoryview(response.content)
        self._segments = response.segments
        self._ahead = ReadAhead(response.segments, window_bytes_max, mapped=True)
        self._index = 0  # of the segment being sent
        self._position = 0  # in that segment, in bytes
        self.left = response.nbytes
        self.is_waiting = False
        self.moved_at = now

    @property
    def segment_count(self) -> int:
        """How many segments this response keeps in memory until it ends."""
        return len(self._segments)

    @property
    def is_from_disk(self) -> bool:
        """Whether its bytes are read from the disk, as far as it is known."""
        return self._ahead.is_from_disk

    def next_window(
        self, share: int, slices_max: int, gathered_bytes_max: int = GATHERED_BYTES_MAX
    ) -> Window | None:
        """What a thread is to make ready now, `share` of the connection's bodies at work."""
        return self._ahead.next_window(
            self._index, self._position, share, slices_max, gathered_bytes_max
        )

    def prepared(self, window: Window, error: Exception | None) -> None:
        """A window is ready, or why it cannot be: the turn that comes to its bytes raises that."""
        self._ahead.done(window, error)
        self.is_waiting = False

    def expire(self) -> None:
        """The client has taken nothing for a while; see `ReadAhead`."""
        self._ahead.expire()

    def cancel(self) -> None:
        """Nothing more will be sent."""
        self._ahead.cancel()

    def take_frames(
        self, frames: list[bytes | memoryview], stream_id: int, budget: int, frame_bytes_max: int
    ) -> int:
        """Append DATA frames of at most `budget` bytes to `frames`; how many bytes they carry.

        Stops short of what is not ready, and `is_waiting` then. The last frame ends the stream. The
        frames hold slices of files: join them before yielding to the event loop.

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
        """At most `count` bytes that lie together; None where the next ones are not ready."""
        if self._content:
            piece, self._content = self._content[:count], self._content[count:]
            return piece
        content = self._ahead.content(self._index, self._position)
        if content is not None:
            piece = content[:count]
            self._ahead.took(len(piece))
            here = self._index, self._position
            self._index, self._position = place_after(self._segments, here, len(piece))
            return piece
        segment = self._segments[self._index]
        count = min(count, segment.count - self._position)
        count = self._ahead.allowed(self._index, self._position, count)
        if not count:
            self.is_waiting = True
            return None
        view = segment.source.view(segment.offset + self._position, count)
        self._position += count
        if self._position == segment.count:
            self._index += 1
            self._position = 0
        return view
