"""What an HTTP/2 connection has written and its channel has not taken.

Owns these bytes. They are few: whoever writes much waits in `drain` before it writes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zerocopy.transport.faults import contained

if TYPE_CHECKING:
    import asyncio

    from zerocopy.transport.channel import Buffer, Channel


class Owner(Protocol):
    """The connection, as its outbox sees it."""

    def on_drained(self) -> None:
        """All that was kept has left."""

    def end(self) -> None:
        """The client is gone."""

    def fail(self, error: Exception) -> None:
        """A fault of ours: log it, and end the connection."""


class Outbox:
    """Sends at once what the channel takes, and the rest when it has room again."""

    __slots__ = ("_channel", "_loop", "_owner", "_unsent", "_waiters", "taken_bytes")

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: Channel, owner: Owner) -> None:
        self._loop = loop
        self._channel = channel
        self._owner = owner
        self._unsent = bytearray()
        self._waiters: list[asyncio.Future[None]] = []
        self.taken_bytes = 0  # by the channel, so far

    @property
    def nbytes(self) -> int:
        """How many bytes are kept."""
        return len(self._unsent)

    def write(self, data: Buffer) -> None:
        """Send `data`; what the channel does not take is copied."""
        if self._unsent:
            self._unsent += data
        elif data and (left := self._send(data)):
            self._unsent += memoryview(data)[-left:]
            self._channel.wait_writable(self._on_writable)

    def _send(self, data: Buffer) -> int:
        """Send `data`, which has some. Returns how many bytes the channel did not take."""
        left = len(data)
        try:
            while (sent := self._channel.send(data)) < left:
                self.taken_bytes += sent
                left -= sent
                data = memoryview(data)[sent:]
            self.taken_bytes += sent
        except BlockingIOError:
            return left
        except OSError:
            self._owner.end()
        return 0

    @contained
    def _on_writable(self) -> None:
        with memoryview(self._unsent) as unsent:
            left = self._send(unsent)
        del self._unsent[: len(self._unsent) - left]
        if not left:
            self._channel.stop_writing()
            self.clear()
            self._owner.on_drained()

    def fail(self, error: Exception) -> None:
        """See `contained`."""
        self._owner.fail(error)

    async def drain(self) -> None:
        """Wait until nothing is kept."""
        if self._unsent:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def close(self) -> None:
        """The connection has ended; break the cycle with it, which would hold its buffers."""
        self.clear()
        del self._owner, self._channel

    def clear(self) -> None:
        """Nothing is kept any more."""
        self._unsent = bytearray()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
