"""A request that is not answered at once, from its beginning to the last byte of its response.

Owns the pending request, which metrics and logs know, and the body once there is one. It knows no
state of the connection; `http1/sender.py` decides when it sends.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataError, ZerocopyError
from zerocopy.transport.http1.head import render_head
from zerocopy.transport.http1.transfer import Stop, send_turn
from zerocopy.transport.timers import Progress

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zerocopy.core.http.messages import Response
    from zerocopy.core.window import Window
    from zerocopy.transport.body import Body
    from zerocopy.transport.channel import Channel
    from zerocopy.transport.http1.context import Http1Context
    from zerocopy.transport.http1.parser import Message

_PEER_GONE = (ConnectionError, TimeoutError)


def send_first(
    channel: Channel, response: Response, tail: bytes, *, is_head: bool
) -> tuple[int, bytes | None]:
    """Send head and content in one sendmsg(2): how many bytes left, and what did not.

    None: nothing is left to send. b"": only the segments are.

    Raises:
        OSError: the peer is gone.
    """
    head = response.head_h1 or render_head(response)
    content = b"" if is_head else response.content
    has_segments = bool(response.segments) and not is_head
    nbytes = len(head) + len(tail) + len(content)
    try:
        # MSG_MORE: the first bytes of the file join the head in one TCP segment.
        flags = socket.MSG_MORE if has_segments else 0
        sent = channel.send_all((head, tail, content), flags)
    except BlockingIOError:
        sent = 0
    if sent == nbytes:
        return sent, b"" if has_segments else None
    return sent, (head + tail + content)[sent:]


class Reply:
    """The response to `message`; `body` is None until it has begun."""

    __slots__ = ("_context", "_progress", "body", "message", "pending", "planning")

    def __init__(self, context: Http1Context, message: Message, begun_ns: int) -> None:
        self._context = context
        self.message = message
        self.pending = context.metrics.begin(message.request, begun_ns)
        self.body: Body | None = None
        self.planning: asyncio.Task[None] | None = None  # while the response is planned
        self._progress = Progress()

    def begin(self, response: Response, unsent: bytes | memoryview, channel: Channel) -> None:
        """The status line is on its way; `unsent`, and the segments, are still to be sent."""
        self._context.metrics.promise(self.pending, response)
        segments = () if self.message.is_head else response.segments
        segment_bytes = response.nbytes - len(response.content) if segments else 0
        self.body = self._context.bodies.open(
            unsent, segments, segment_bytes, mapped=not channel.can_send_file
        )

    def send_turn(self, channel: Channel, spent: int) -> tuple[Stop, int]:
        """Send in a turn of which `spent` bytes are gone. Returns why it ended, and its cost.

        Raises:
            ZerocopyError: a file failed, which is logged.
            OSError: it cannot be read, or the peer is gone.
        """
        context, body, scheduler = self._context, self.body, self._context.scheduler
        assert body is not None, "the response has begun"
        cost_per_byte = scheduler.cost_per_byte(is_from_disk=body.is_from_disk)
        budget = max(1, (scheduler.turn_bytes - spent) // cost_per_byte)
        try:
            stop, nbytes = send_turn(body, channel, context.counters, budget)
        except (ZerocopyError, OSError) as error:
            if not isinstance(error, _PEER_GONE):
                context.on_transfer_failed(error, self.pending)
            raise
        scheduler.sent(nbytes, is_from_disk=body.is_from_disk)
        return stop, nbytes * cost_per_byte

    def next_window(self) -> Window | None:
        """Begin the window that a thread should read now, if any; see `Body.next_window`."""
        assert self.body is not None, "the response has begun"
        return self.body.next_window()

    def is_stalled(self, channel: Channel) -> bool:
        """Whether the client took no byte in the last `STALL_SAMPLES` looks, this one included.

        The kernel's queue tells. Counting our own writes alone would not do: a slow but honest
        client drains a large socket buffer for minutes before there is room again.
        """
        assert self.body is not None, "the response has begun"
        if self._progress.has_moved((channel.untaken_bytes(), self.body.left_bytes)):
            return False
        self.body.expire()
        return self._progress.is_stalled

    async def prepare(self, window: Window, on_prepared: Callable[[Reply], None]) -> None:
        """Have a thread read what comes next; call `on_prepared` if the body has waited for it."""
        body = self.body  # an endless response has one for each large message
        assert body is not None, "the window is one of its body"
        error: ZerocopyError | None = DataError("a window could not be made ready")
        try:
            await self._context.handler.prepare(window)
            error = None
        except ZerocopyError as failure:
            error = failure
        finally:
            was_waiting = body.is_waiting
            body.prepared(window, error)
            if was_waiting:
                on_prepared(self)

    def end(self) -> None:
        """The response has left, or is cut off, or nobody waits for its plan any longer."""
        if self.planning is not None:
            self.planning.cancel()
        self.pending.left_bytes = 0 if self.body is None else self.body.left_bytes
        try:
            self._context.metrics.end(self.pending)
        finally:
            if self.body is not None:
                self._context.counters[slots.TRANSFERS_ABORTED] += bool(self.body.left_bytes)
                self.body.close()
