"""The unsent bytes of a response, whatever protocol sends them.

Owns the position in a body: bytes in memory first (the unsent rest of a head, then the content),
then segment by segment. A thread gathers runs of tiny segments, which are then sent from memory as
well. A body holds integers, views and the plan's sources, never a file descriptor: the sender asks
the source for one in each turn, so a client that does not read keeps no file open.

`Bodies` bounds what all bodies of a listener hold together. `ReadAhead` decides what a thread reads
next. A body knows neither sockets nor frames; its senders are `http1/transfer.py`,
`http2/frames.py` and `asgi.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.window import fair_gathered_bytes, fair_slices, place_after
from zerocopy.transport.readahead import WINDOW_BYTES_MAX, ReadAhead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.http.messages import Response
    from zerocopy.core.plan import Segment, Source
    from zerocopy.core.window import Window
    from zerocopy.transport.channel import Buffer

SEGMENTS_HELD_MAX = 400_000
"""Segments of all bodies of a listener, about 500 bytes each; a response beyond them gets 503."""

CONNECTION_SHARE = 4
"""A connection that is sent several responses at once may hold one in so many of the segments."""

SEGMENT_COST_BYTES = 8_192
"""What one segment costs its turn at least, so that many tiny ones end the turn as well."""

OPEN_FILES_MAX = 512
"""As `[memory] open_files_max` has it by default."""


class Bodies:
    """The bodies that one listener is sending, and the bounds they share."""

    __slots__ = ("_open_files_max", "_window_bytes_max", "count", "segments_held")

    def __init__(
        self,
        *,
        window_bytes_max: int = WINDOW_BYTES_MAX,
        open_files_max: int = OPEN_FILES_MAX,
    ) -> None:
        self._window_bytes_max = window_bytes_max
        self._open_files_max = open_files_max
        self.count = 0
        self.segments_held = 0

    def has_room_for(self, response: Response, held: int = 0) -> bool:
        """Whether its segments fit beside those that other clients keep in memory.

        `held` are those of the same connection, which has a bound of its own. One response is
        always served, however many segments it has.
        """
        count = len(response.segments)
        return not count or (
            (not self.segments_held or self.segments_held + count <= SEGMENTS_HELD_MAX)
            and (not held or held + count <= SEGMENTS_HELD_MAX // CONNECTION_SHARE)
        )

    def open(
        self,
        content: bytes | memoryview,
        segments: Sequence[Segment] = (),
        segment_bytes: int = 0,
        *,
        mapped: bool = False,
    ) -> Body:
        """A body of `content`, then `segments` of so many bytes together; its owner closes it.

        `mapped` is whether the sender takes a file's bytes by `Body.take`; sendfile(2) does not.
        """
        self.count += 1
        self.segments_held += len(segments)
        ahead = ReadAhead(segments, self._window_bytes_max, mapped=mapped)
        return Body(self, memoryview(content), segments, segment_bytes, ahead)

    def closed(self, segment_count: int) -> None:
        """A body of so many segments holds nothing any more."""
        self.count -= 1
        self.segments_held -= segment_count

    def slices_max(self, segment_count: int) -> int:
        """How many files a body of so many segments may have open for one of its windows."""
        return fair_slices(segment_count, self.segments_held, self._open_files_max)

    @property
    def gathered_bytes_max(self) -> int:
        """How many gathered bytes one body may hold."""
        return fair_gathered_bytes(self.count)


class Body:
    """What is left of one response; `left_bytes` counts it.

    `is_waiting` is set when the next bytes are not in memory: a thread reads them, and nothing
    leaves until `prepared`. `moved_at` is the tick at which the sender last sent some; the sender
    sets it.
    """

    __slots__ = (
        "_ahead", "_bodies", "_content", "_index", "_position", "_segments", "is_closed",
        "is_waiting", "left_bytes", "moved_at",
    )  # fmt: skip

    def __init__(
        self,
        bodies: Bodies,
        content: memoryview,
        segments: Sequence[Segment],
        segment_bytes: int,
        ahead: ReadAhead,
    ) -> None:
        self._bodies = bodies
        self._content = content
        self._segments = segments
        self._ahead = ahead
        self._index = 0  # of the segment being sent
        self._position = 0  # in that segment, in bytes
        self.left_bytes = len(content) + segment_bytes
        self.is_closed = False
        self.is_waiting = False
        self.moved_at = 0

    @property
    def segment_count(self) -> int:
        """How many segments the body keeps in memory until it is closed."""
        return len(self._segments)

    @property
    def is_from_disk(self) -> bool:
        """Whether its bytes are read from the disk, as far as it is known."""
        return self._ahead.is_from_disk

    # ---- sending

    def in_memory(self, most: int) -> memoryview | None:
        """At most `most` of the next bytes where they lie in memory; None where a file has them."""
        if self._content:
            return self._content[:most]
        content = self._ahead.content(self._index, self._position)
        return None if content is None else content[:most]

    def allowed(self, most: int) -> int:
        """How many bytes of the present segment may leave now. 0 sets `is_waiting`.

        Raises:
            ZerocopyError: a thread found that they cannot be read.
        """
        left = self._segments[self._index].count - self._position
        assert left > 0, "something of the segment is left"
        count = self._ahead.allowed(self._index, self._position, min(left, most))
        self.is_waiting = not count
        return count

    @property
    def file_range(self) -> tuple[Source, int, int]:
        """Source, offset and count of what is left of the present segment."""
        segment = self._segments[self._index]
        return segment.source, segment.offset + self._position, segment.count - self._position

    @property
    def joins_next(self) -> bool:
        """Whether the next bytes are to share a packet with those behind them (MSG_MORE).

        Not where they were gathered: what follows may have to be read first.
        """
        if self._content:
            return bool(self._segments)
        if self._ahead.content(self._index, self._position) is not None:
            return False
        return self._index + 1 < len(self._segments)

    def advance(self, count: int) -> None:
        """So many bytes, from `in_memory` or of the present segment, have left."""
        self.left_bytes -= count
        if self._content:
            self._content = self._content[count:]
            return
        if self._ahead.content(self._index, self._position) is not None:
            self._ahead.advance_gathered(count)
        self._index, self._position = place_after(
            self._segments, (self._index, self._position), count
        )

    def hold(self, piece: Buffer) -> None:
        """Keep a copy of the next bytes: a channel must be given the same ones again.

        The file may change until then, and what was gathered may be dropped.
        """
        if not self._content:
            left_bytes = self.left_bytes
            self.advance(len(piece))
            self._content, self.left_bytes = memoryview(bytes(piece)), left_bytes

    def take(self, most: int) -> bytes | memoryview | None:
        """At most `most` bytes that lie together, which then have left; None: `is_waiting`.

        Use a view of a file before yielding to the event loop.

        Raises:
            DataError: a file changed or failed; the promise cannot be kept.
            OverloadError: the system is out of memory; so it cannot either.
        """
        piece: bytes | memoryview | None = self.in_memory(most)
        if piece is None:
            count = self.allowed(most)
            if not count:
                return None
            source, offset, _ = self.file_range
            piece = source.view(offset, count)
        self.advance(len(piece))
        return piece

    # ---- reading ahead

    def next_window(self, sharers: int = 1) -> Window | None:
        """Begin the next window, if a thread should read one now; then `prepared` must be called.

        `sharers` is how many bodies of the connection divide its bytes.
        """
        if not self._segments:
            return None
        return self._ahead.next_window(
            self._index,
            self._position,
            sharers,
            self._bodies.slices_max(len(self._segments)),
            self._bodies.gathered_bytes_max,
        )

    def prepared(self, window: Window, error: Exception | None) -> None:
        """A window is ready, or why it cannot be: `allowed` raises that when it comes there."""
        self._ahead.on_prepared(window, error)
        self.is_waiting = False

    def expire(self) -> None:
        """The client has stalled: drop what was gathered, and ask again what is in memory."""
        self._ahead.expire()

    def close(self) -> None:
        """Nothing more will be sent."""
        if not self.is_closed:
            self.is_closed = True
            self._ahead.cancel()
            self._bodies.closed(len(self._segments))
