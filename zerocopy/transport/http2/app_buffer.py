"""What an application has sent on a stream of HTTP/2, and its client has not taken."""

from __future__ import annotations

from hypercorn.protocol.h2 import BUFFER_LOW_WATER, StreamBuffer


class AppBuffer(StreamBuffer):
    """What an application has sent and the client's window has not let through.

    Hypercorn's own lets the application go on whenever a small piece is taken, however much is
    left: for a client that opens its window by the byte, or not at all, all of a response.
    """

    async def pop(self, max_length: int) -> bytes:
        """At most so many bytes; the application goes on once little is left."""
        data = bytes(self.buffer[:max_length])
        del self.buffer[:max_length]
        if len(self.buffer) < BUFFER_LOW_WATER:
            await self._paused.set()
        if not self.buffer:
            await self._is_empty.set()
        return data
