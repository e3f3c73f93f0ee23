"""What is left to send of one response, and one turn of sending it.

Owns the position in an answer that did not leave at once: bytes of the head first, then segment by
segment. It holds integers, views and the plan's sources, never a descriptor of a file: each turn
asks the source for one, so that a client that does not read keeps none open.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.transport.sendfile import Outcome, send_range

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters
    from zerocopy.core.plan import Segment

SEGMENT_COST_BYTES = 8_192
"""What one segment costs its turn at least, so that many tiny ones end it too."""


class Transfer:
    """The unsent bytes of a head, then `segments` from the first byte of the first."""

    __slots__ = ("_index", "_position", "_segments", "_unsent")

    def __init__(self, unsent: memoryview | None, segments: tuple[Segment, ...]) -> None:
        self._unsent = unsent
        self._segments = segments
        self._index = 0  # of the segment being sent
        self._position = 0  # in that segment, in bytes

    @property
    def progress(self) -> tuple[int, int, int]:
        """A value that differs whenever something was sent in between."""
        return self._index, self._position, len(self._unsent or b"")

    def send(self, sock: socket.socket, counters: Counters, turn_bytes_max: int) -> bool:
        """One turn; whether everything is in the kernel now, or the socket or the turn is full.

        Raises:
            DataError: a file changed or cannot be opened; the promise cannot be kept.
            OSError: the peer is gone, or a file cannot be read (see `send_range`).
        """
        if self._unsent is not None:
            try:
                sent = sock.send(self._unsent, socket.MSG_MORE if self._segments else 0)
            except BlockingIOError:
                return False
            counters[slots.SENT_BYTES_COPY] += sent
            if sent < len(self._unsent):
                self._unsent = self._unsent[sent:]
                return False
            self._unsent = None
        return self._send_segments(sock.fileno(), counters, turn_bytes_max)

    def _send_segments(self, fd: int, counters: Counters, budget: int) -> bool:
        segments = self._segments
        while self._index < len(segments):
            if budget <= 0:
                return False
            segment = segments[self._index]
            assert 0 <= self._position < segment.count, "something of the segment is left"
            sent, outcome = send_range(
                fd,
                segment.source.fileno(),
                segment.offset + self._position,
                segment.count - self._position,
                budget,
            )
            counters[slots.SENT_BYTES_SENDFILE] += sent
            budget -= max(sent, SEGMENT_COST_BYTES)
            self._position += sent
            if outcome is Outcome.DONE:
                self._index += 1
                self._position = 0
            elif outcome is Outcome.END_OF_FILE:
                raise DataChangedError("a day file was truncated while it was being sent")
            else:
                return False
        return True
