"""The streams of an HTTP/2 connection that an application answers, by Hypercorn's protocol.

Owns how such a stream ends, and what ends streams of any kind: `_reset_stream`, and the end of the
connection once all is answered. `http2/streams.py` adds those of GET and HEAD.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from hypercorn.events import Closed
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.typing import ConnectionState
from priority.priority import PriorityError, PriorityTree

from zerocopy.transport.asgi import NETWORK, REFUSED
from zerocopy.transport.http2.app_buffer import AppBuffer
from zerocopy.transport.http2.head import STREAM_ID_MAX
from zerocopy.transport.http2.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from h2.events import PriorityUpdated, RequestReceived
    from hypercorn.asyncio.task_group import TaskGroup
    from hypercorn.protocol.events import Event as StreamEvent

    from zerocopy.transport.http2.context import Http2Context, Wire


class AppStreams(H2Protocol):
    """Hypercorn's protocol; `context` has what all connections share."""

    def __init__(
        self, tasks: TaskGroup, *, context: Http2Context, wire: Wire, is_refused: bool
    ) -> None:
        super().__init__(
            context.app,
            context.hypercorn_config,
            context.hypercorn,
            tasks,
            ConnectionState({REFUSED: is_refused, NETWORK: wire.network}),
            True,
            None,  # the addresses of both sides, which no application of ours asks for
            None,
            wire.send,
        )
        self.priority = PriorityTree(STREAM_ID_MAX)  # h2 bounds the streams; 1000 would raise
        self._context = context
        self._wire = wire
        self._is_leaving = False
        self._pace = Pace(context.wheel.now)  # of the connection's window

    @property
    def requests_open(self) -> int:
        """Requests that are not answered to the end."""
        return len(self.streams)

    # ---- what Hypercorn calls

    async def _create_stream(self, request: RequestReceived) -> None:
        await super()._create_stream(request)
        if request.stream_id in self.stream_buffers:
            now = self._context.wheel.now
            self.stream_buffers[request.stream_id] = AppBuffer(self.context.event_class, now)

    async def _send_data(self, stream_id: int) -> None:
        """One turn of a stream; Hypercorn's sending task calls it for the one whose turn it is."""
        buffer = self.stream_buffers.get(stream_id)
        if buffer is None:
            # Nothing is to be sent on it: without the pause the task would hold the event loop.
            with contextlib.suppress(PriorityError):
                self.priority.remove_stream(stream_id)
            await asyncio.sleep(0)
            return
        before = self.connection.outbound_flow_control_window
        with contextlib.suppress(KeyError):  # its application ended amid a write
            await super()._send_data(stream_id)
        window, now = self.connection.outbound_flow_control_window, self._context.wheel.now
        stream, taken = self.connection.streams.get(stream_id), max(0, before - window)
        self._pace.took(taken, now, is_shut=window <= 0)
        if stream is not None and isinstance(buffer, AppBuffer):
            is_shut = min(window, stream.outbound_flow_control_window) <= 0
            buffer.pace.took(taken, now, is_shut=is_shut)
        if stream_id not in self.stream_buffers:
            # RFC 9113 section 8.1: the content that still comes is not wanted.
            self._reset_stream(stream_id, ErrorCodes.NO_ERROR)
            await self._flush()

    async def stream_send(self, event: StreamEvent) -> None:
        """Take what an application answers; one that ends early breaks its promise."""
        if not isinstance(event, StreamClosed):
            await super().stream_send(event)
            return
        stream_id = event.stream_id
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and stream_id in self.streams and not buffer._complete:  # noqa: SLF001
            await self._abandon(stream_id, ErrorCodes.INTERNAL_ERROR)
        await self._close_stream(stream_id)
        await self._leave_if_idle()

    async def _close_stream(self, stream_id: int) -> None:
        await super()._close_stream(stream_id)
        stream = self.connection.streams.get(stream_id)
        buffer = self.stream_buffers.get(stream_id)
        if buffer is not None and (stream is None or stream.closed):
            del self.stream_buffers[stream_id]  # nothing of it can leave any more
            self.priority.remove_stream(stream_id)
            await buffer.close()

    async def _priority_updated(self, event: PriorityUpdated) -> None:
        """Ignore it: RFC 9113 section 5.3.2 has withdrawn the priorities of RFC 7540.

        Three such frames can leave an ended stream in Hypercorn's tree, whose turn it then is for
        ever.
        """

    # ---- how streams end

    async def _abandon(self, stream_id: int, code: ErrorCodes) -> None:
        """Reset a stream that an application answers, and let the application go."""
        buffer = self.stream_buffers.pop(stream_id, None)
        if buffer is not None:
            await buffer.close()
            self.priority.remove_stream(stream_id)
            self._reset_stream(stream_id, code)
            await self._flush()
        await self._close_stream(stream_id)
        await self._leave_if_idle()

    def _reset_stream(self, stream_id: int, code: ErrorCodes) -> None:
        """RST_STREAM, unless h2 knows of one that was received and is still to be handled."""
        stream = self.connection.streams.get(stream_id)
        if stream is not None and not stream.closed:
            self.connection.reset_stream(stream_id, code)

    def _abandon_stalled(self, oldest: int, is_shut: Callable[[int], bool]) -> None:
        """Reset the streams behind a shut window whose client got on last at the tick `oldest`."""
        for stream_id, buffer in self.stream_buffers.items():
            if not isinstance(buffer, AppBuffer):
                continue
            if not buffer.buffer:
                buffer.pace.at = self._context.wheel.now  # it waits for the application
            elif buffer.pace.at <= oldest and is_shut(stream_id):
                self.task_group.spawn(self._abandon, stream_id, ErrorCodes.CANCEL)

    # ---- how the connection ends

    @property
    def is_done(self) -> bool:
        """Whether nothing keeps the connection: a GOAWAY came or went, and all is answered."""
        return self._is_leaving and not self.requests_open and not self.stream_buffers

    async def _leave_if_idle(self) -> None:
        if self.is_done:
            await self.send(Closed())
