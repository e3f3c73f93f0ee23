"""What is left to send of one response, and one turn of sending it.

Owns the position in an answer that did not leave at once: bytes of the head first, then segment by
segment; of tiny ones many together, which a thread has gathered. It holds integers, views and the
plan's sources, never a descriptor of a file: each turn asks the source for one, so that a client
that does not read keeps none open.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.core.window import place_after
from zerocopy.transport.readahead import WINDOW_BYTES_MAX, ReadAhead
from zerocopy.transport.sendfile import Outcome, send_range

if TYPE_CHECKING:
    from zerocopy.core.counters import Counters
    from zerocopy.core.plan import Segment
    from zerocopy.core.window import Window

SEGMENT_COST_BYTES = 8_192
"""What one segment costs its turn at least, so that many tiny ones end it too."""

_QUEUED = struct.Struct("i")


def queued_bytes(fd: int) -> int:
    """How many bytes of a socket its peer has not taken yet: SIOCOUTQ, tcp(7)."""
    queued: int = _QUEUED.unpack(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(_QUEUED.size)))[0]
    return queued


class Transfer:
    """The unsent bytes of a head, then `segments` from the first byte of the first.

    `is_blocked` after a turn that ended because the socket is full, `is_waiting` after one that
    ended because what comes next is not in memory: `next_window` has told what to read, or what it
    told before is still being read.
    """

    __slots__ = (
        "_ahead", "_index", "_position", "_segments", "_unsent", "is_blocked", "is_waiting",
        "spent_bytes",
    )  # fmt: skip

    def __init__(
        self,
        unsent: memoryview | None,
        segments: tuple[Segment, ...],
        window_bytes_max: int = WINDOW_BYTES_MAX,
    ) -> None:
        self._unsent = unsent
        self._segments = segments
        self._ahead = ReadAhead(segments, window_bytes_max)
        self.is_waiting = False
        self.is_blocked = False
        self._index = 0  # of the segment being sent
        self._position = 0  # in that segment, in bytes
        self.spent_bytes = 0  # of the last turn: what it sent, or more for tiny segments

    @property
    def segment_count(self) -> int:
        """How many segments this transfer keeps in memory until it ends."""
        return len(self._segments)

    @property
    def left_bytes(self) -> int:
        """How many bytes are not in the kernel yet."""
        segments = sum(segment.count for segment in self._segments[self._index :])
        return len(self._unsent or b"") + segments - self._position

    @property
    def is_from_disk(self) -> bool:
        """Whether its bytes are read from the disk, as far as it is known."""
        return self._ahead.is_from_disk

    @property
    def place(self) -> tuple[int, int, int]:
        """How far it has come; another place means that the kernel has taken something."""
        return self._index, self._position, len(self._unsent or b"")

    def expire(self) -> None:
        """The client has taken nothing for a while; see `ReadAhead`."""
        self._ahead.expire()

    def next_window(self, slices_max: int, gathered_bytes_max: int) -> Window | None:
        """What a thread is to make ready now; `prepared` is then called with it."""
        return self._ahead.next_window(
            self._index, self._position, 1, slices_max, gathered_bytes_max
        )

    def prepared(self, window: Window, error: Exception | None) -> None:
        """A window is ready, or why it cannot be: the turn that comes to its bytes raises that."""
        self._ahead.done(window, error)

    def cancel(self) -> None:
        """Nothing more will be sent."""
        self._ahead.cancel()

    def send(self, sock: socket.socket, counters: Counters, turn_bytes_max: int) -> bool:
        """One turn; whether everything is in the kernel now.

        Else the socket or the turn is full, or the transfer `is_waiting` for the disk.

        Raises:
            DataError: a file changed or cannot be opened; the promise cannot be kept.
            OverloadError: the system is out of memory; so it cannot either.
            OSError: the peer is gone, or a file cannot be read (see `send_range`).
        """
        self.spent_bytes = 0
        self.is_waiting = False
        self.is_blocked = True  # unless another reason is found
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
        return self._send_segments(sock, counters, turn_bytes_max)

    def _send_segments(self, sock: socket.socket, counters: Counters, budget: int) -> bool:
        segments = self._segments
        while self._index < len(segments):
            if self.spent_bytes >= budget:
                self.is_blocked = False
                return False
            left = budget - self.spent_bytes
            content = self._ahead.content(self._index, self._position)
            if content is not None:
                outcome = self._send_content(sock, counters, content[:left])
            else:
                allowed = self._allowed(left)
                if not allowed:
                    self.is_waiting, self.is_blocked = True, False
                    return False
                outcome = self._send_segment(sock, counters, allowed)
            if outcome is Outcome.END_OF_FILE:
                raise DataChangedError("a day file was truncated while it was being sent")
            if outcome is Outcome.WOULD_BLOCK:
                return False
        return True

    def _allowed(self, budget: int) -> int:
        """How many bytes of the segment may leave in this turn, which has `budget` left."""
        left = self._segments[self._index].count - self._position
        assert left > 0, "something of the segment is left"
        return self._ahead.allowed(self._index, self._position, min(left, budget))

    def _send_segment(self, sock: socket.socket, counters: Counters, allowed: int) -> Outcome:
        """Send up to `allowed` bytes of one segment."""
        segment = self._segments[self._index]
        offset, count = segment.offset + self._position, segment.count - self._position
        source_fd = segment.source.fileno()
        if source_fd is None:
            view = segment.source.view(offset, allowed)
            flags = socket.MSG_MORE if self._index + 1 < len(self._segments) else 0
            sent, outcome = _send_view(sock, view, flags, count)
            counters[slots.SENT_BYTES_COPY] += sent
        else:
            try:
                sent, outcome = send_range(sock.fileno(), source_fd, offset, count, allowed)
            except OSError as error:
                counters[slots.SENT_BYTES_SENDFILE] += getattr(error, "characters_written", 0)
                raise
            counters[slots.SENT_BYTES_SENDFILE] += sent
        self.spent_bytes += max(sent, SEGMENT_COST_BYTES)
        self._position += sent
        if outcome is Outcome.DONE:
            self._index += 1
            self._position = 0
        return outcome

    def _send_content(
        self, sock: socket.socket, counters: Counters, content: memoryview
    ) -> Outcome:
        """Send gathered bytes, which may be those of many segments."""
        sent, outcome = _send_view(sock, content, 0, len(content))
        counters[slots.SENT_BYTES_COPY] += sent
        self.spent_bytes += sent
        self._ahead.took(sent)
        here = self._index, self._position
        self._index, self._position = place_after(self._segments, here, sent)
        return outcome


def _send_view(
    sock: socket.socket, view: memoryview | bytes, flags: int, count: int
) -> tuple[int, Outcome]:
    """Send bytes from memory, the first of `count`; as `send_range` does for those of a file."""
    try:
        sent = sock.send(view, flags)
    except BlockingIOError:
        return 0, Outcome.WOULD_BLOCK
    if sent < len(view):
        return sent, Outcome.WOULD_BLOCK
    return sent, Outcome.DONE if sent == count else Outcome.BUDGET_SPENT
