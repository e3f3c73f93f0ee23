"""A connection whose last response has left: how long, and how much, it may still wait for.

Owns the bounds. The client is to close first; see RFC 9112 section 9.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.transport.timers import Progress, Wheel

if TYPE_CHECKING:
    from zerocopy.transport.streaming import Inbox

LINGER_TICKS = Wheel.ticks(2.0)
"""How long a client gets to close after the last response."""

LINGER_BYTES_MAX = 1_048_576
"""Bytes dropped while lingering before the connection is closed regardless."""


class Linger:
    """What has come of the client since, and what it has still to take.

    `inbox` is that of a WebSocket. Until its client has answered our close frame, that frame alone
    says that nothing follows. Then the server closes at once (RFC 6455 section 5.5.1).
    """

    __slots__ = ("_inbox", "_nbytes", "_progress")

    def __init__(self, inbox: Inbox | None = None) -> None:
        self._inbox = inbox
        self._nbytes = 0
        self._progress = Progress()
        self._progress.has_moved(0)

    @property
    def awaits_close(self) -> bool:
        """Whether the close frame of the client is to come."""
        return self._inbox is not None and not self._inbox.is_over

    def has_room_for(self, data: bytes) -> bool:
        """Drop `data`. Returns whether the client may send more; not after its close frame."""
        self._nbytes += len(data)
        inbox = self._inbox
        if inbox is not None and not inbox.is_over:
            inbox.on_data(data)
            return not inbox.is_over
        return self._nbytes <= LINGER_BYTES_MAX

    def more_ticks(self, untaken: int, stall_ticks: int) -> int:
        """How much longer it gets; 0: no longer. It does while its kernel takes the last response.

        What it sends to a socket that is closed makes our kernel drop what it has not sent.
        """
        if self._progress.has_moved(untaken) or (untaken and not self._progress.is_stalled):
            return stall_ticks if untaken else LINGER_TICKS
        return 0
