"""What an application has sent on a stream of HTTP/2, and its client has not taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercorn.protocol.h2 import BUFFER_LOW_WATER, StreamBuffer

from zerocopy.transport.http2.pace import Pace

if TYPE_CHECKING:
    from hypercorn.typing import Event


class AppBuffer(StreamBuffer):
    """What an application has sent and the client's window has not let through.

    Hypercorn's own lets the application go on whenever a small piece is taken, however much is
    left: for a client that opens its window by the byte, or not at all, all of a response.
    `pace` tells when the client last took enough; it begins at the tick `now`.
    """

    def __init__(self, event_class: type[Event], now: int) -> None:
        super().__init__(event_class)
        self.pace = Pace(now)

    async def pop(self, max_length: int) -> bytes:
        """At most so many bytes; the application goes on once little is left."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data
