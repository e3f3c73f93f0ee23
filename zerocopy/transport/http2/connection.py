"""HTTP/2 inside Hypercorn: the receiving half of a connection.

Owns what happens between TLS and h2. It cuts bytes into frames and gives them to h2 one by one,
except for requests that the connection's lane can answer at once. GET and HEAD go to the sending
half (`http2/streams.py`). All else (other methods, SETTINGS, errors) stays h2's and Hypercorn's.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RequestReceived,
    StreamEnded,
)
from h2.exceptions import DenialOfServiceError, FrameTooLargeError, ProtocolError
from hypercorn.events import Closed, RawData
from hypercorn.protocol.events import EndBody

from zerocopy.core import endpoints
from zerocopy.core.errors import NotFoundError, OverloadError, ZerocopyError
from zerocopy.transport.http2.context import compact
from zerocopy.transport.http2.errors import UPDATES_PER_REQUEST, JudgedConnection
from zerocopy.transport.http2.head import (
    DATA,
    DRAIN_PING,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    FRAMES_THAT_WORK,
    GOAWAY,
    GOAWAY_BYTES_MIN,
    HEADERS,
    SETTINGS,
    STREAM_ID_MAX,
    stream_id_of,
    unpack_frame_header,
)
from zerocopy.transport.http2.lane import LANE_BYTES_MAX, Lane, Proved
from zerocopy.transport.http2.request import request_of
from zerocopy.transport.http2.websockets import WebSocketStreams

if TYPE_CHECKING:
    from collections.abc import Sequence

    from h2.connection import H2Connection
    from h2.events import Event
    from hypercorn.asyncio.task_group import TaskGroup
    from hypercorn.events import Event as ConnectionEvent

    from zerocopy.core.http.messages import Request, Response
    from zerocopy.transport.http2.context import Http2Context, Wire
    from zerocopy.transport.http2.lane import Waiting

EVENTS_PER_TURN = 32
"""Events of h2, and frames without any, before others get their turn: each takes some 30 µs."""

CONTENT_COST_BYTES = 64
"""What a DATA frame of a client costs its stream at least."""

UNSENT_BYTES_MAX = 2 * LANE_BYTES_MAX
"""Bytes that were written and not taken, above which nothing more is read. A turn of a body is half
of that; the rest are heads and frames that the client makes the server send."""

SETTINGS_COST_BYTES = 64
"""Bytes of SETTINGS that count as one frame: ten settings, more than a client has."""

WAITING_MAX = 32
"""Requests of one connection that are answered in one turn."""

_PREFACE_BYTES = 24
_WHOLE_REQUEST = HEADERS << 8 | END_HEADERS | END_STREAM
_WHOLE_REQUEST_BYTES = _WHOLE_REQUEST.to_bytes(2, "big")
_READS = frozenset({b"GET", b"HEAD"})


class KnownRequest(NamedTuple):
    """An event that stands for h2's `RequestReceived`, of a block that was seen before."""

    stream_id: int
    request: Request


class Http2Connection(WebSocketStreams):
    """One HTTP/2 connection; `context` has what all of them share."""

    connection: JudgedConnection

    def __init__(
        self, tasks: TaskGroup, *, context: Http2Context, wire: Wire, is_refused: bool
    ) -> None:
        super().__init__(tasks, context=context, wire=wire, is_refused=is_refused)
        _free(self.connection)  # the one that Hypercorn has made
        connection = self.connection = JudgedConnection(self.connection.config)
        connection.local_settings = context.local_settings()
        compact(connection.remote_settings)
        connection.decoder.max_header_list_size = context.header_list_bytes_max
        self._is_refused = is_refused
        self._lane = Lane(connection, context)
        self._preface_left = _PREFACE_BYTES
        self._partial = b""
        self._content_left: dict[int, int] = {}
        self._read: dict[int, Request] = {}  # of streams that h2 has opened and nobody answers yet
        self._overrun: set[int] = set()
        self._control_frames = 0
        self._control_second = 0

    @property
    def is_mid_head(self) -> bool:
        """Whether the client began the preface, a frame or a header block and did not end it."""
        return bool(self._partial) or self.is_mid_block

    @property
    def is_mid_block(self) -> bool:
        """Whether what it began has more than one frame."""
        incoming = self.connection.incoming_buffer
        return bool(self._preface_left or incoming._headers_buffer)  # noqa: SLF001

    @property
    def partial_bytes(self) -> int:
        """Bytes that came of a frame whose rest did not."""
        return len(self._partial)

    # ---- receiving

    def take(self, data: bytes) -> bool:
        """Keep whole requests made before for the end of this turn; False for anything else."""
        if self._partial or self._preface_left or self._is_leaving or self._is_refused:
            return False
        requests = self._lane.requests
        waiting: list[Waiting] = []
        begin, size = FRAME_HEADER_BYTES, len(data)
        while begin <= size:
            high, low, kind, stream_id = unpack_frame_header(data, begin - FRAME_HEADER_BYTES)
            end = begin + (high << 16 | low)
            block = data[begin:end]
            if (
                kind != _WHOLE_REQUEST
                or end > size
                or block not in requests
                or len(waiting) >= WAITING_MAX
            ):
                return False
            waiting.append((begin - FRAME_HEADER_BYTES, block, stream_id & STREAM_ID_MAX))
            begin = end + FRAME_HEADER_BYTES
        if begin != size + FRAME_HEADER_BYTES:
            return False  # the beginning of a frame header
        self._context.batch.add(self, data, waiting)
        return True

    def answer_waiting(self, data: bytes, requests: list[Waiting], proved: Proved) -> None:
        """Answer the requests that `take` has kept, up to the first that the lane refuses.

        The reading task gets the bytes from there on.
        """
        answered = 0
        if not self._is_leaving:
            answered, frames = self._lane.answer(requests, proved)
            self.connection.updates_due += answered * UPDATES_PER_REQUEST
            self._wire.write(frames)
        self._wire.resume_reading(
            data[requests[answered][0] :] if answered < len(requests) else b""
        )

    def go_away(self) -> bytes:
        """Accept no further requests; the GOAWAY frame that says so."""
        self._is_leaving = True
        self.end_feeds()
        return self.connection.goaway_frame()

    def fail(self, error: Exception) -> None:
        """End the connection: what it asked for is lost."""
        self._context.on_connection_failed(error)
        self._wire.end()

    def close(self) -> None:
        """The connection has ended: cut off its streams, and let everything of it go."""
        self.forget_all()
        self.streams.clear()
        _free(self.connection)

    async def handle(self, event: ConnectionEvent) -> None:
        """Take bytes of the client's, or the end of the connection."""
        if isinstance(event, RawData):
            proved, begun_ns = Proved(), monotonic_ns()
            try:
                await self._receive(event.data, proved, begun_ns)
            except ProtocolError:  # h2 has its GOAWAY ready
                proved.settle(self._context, begun_ns)
                self.forget_all()
                await self._flush()
                await self.send(Closed())
            return
        await super().handle(event)
        self.forget_all()
        for buffer in self.stream_buffers.values():
            await buffer.close()  # or an application that waits for room would wait for ever

    async def _receive(self, data: bytes, proved: Proved, begun_ns: int) -> None:
        self._received_ns = begun_ns
        data = self._partial + data
        position, size = min(self._preface_left, len(data)), len(data)
        self._partial = b""
        self._preface_left -= position
        events: list[Event | KnownRequest] = []
        if position:
            events += self.connection.receive_data(data[:position])
        fed, kept = 0, self._wire.unsent_bytes
        while size - position >= FRAME_HEADER_BYTES:
            nbytes = int.from_bytes(data[position : position + 3], "big")
            end = position + FRAME_HEADER_BYTES + nbytes
            if nbytes > self.connection.max_inbound_frame_size:  # h2 would wait for all of it
                self.connection.close_connection(ErrorCodes.FRAME_SIZE_ERROR)
                raise FrameTooLargeError
            if end > size:
                break
            frame, position = data[position:end], end
            made = self._meet(frame, proved)
            events += made
            fed += max(1, len(made))
            if fed >= EVENTS_PER_TURN or self._wire.unsent_bytes - kept >= LANE_BYTES_MAX:
                has_answered = proved.settle(self._context, begun_ns)
                await self._handle_events(events)
                events, fed = [], 0
                await asyncio.sleep(0)
                await self._wait_for_room(has_answered=has_answered)
                kept = self._wire.unsent_bytes
        self._partial = data[position:]
        has_answered = proved.settle(self._context, begun_ns)
        if fed:  # a frame without an event may have made h2 answer
            await self._handle_events(events)
        await self._wait_for_room(has_answered=has_answered)

    async def _wait_for_room(self, *, has_answered: int) -> None:
        """Read on once the client has taken what it was answered.

        A body that is being sent must not hold up the frames that open its way.
        """
        if has_answered or self._wire.unsent_bytes > UNSENT_BYTES_MAX:
            await self._wire.drain()

    def _meet(self, frame: bytes, proved: Proved) -> list[Event | KnownRequest]:
        """Answer one frame at once, or read it. Returns the events that are still to be handled."""
        if frame[3:5] == _WHOLE_REQUEST_BYTES and not (self._is_leaving or self._is_refused):
            block, stream_id = frame[FRAME_HEADER_BYTES:], stream_id_of(frame)
            answered, frames = self._lane.answer([(0, block, stream_id)], proved)
            if answered:
                self.connection.updates_due += UPDATES_PER_REQUEST
                self._wire.write(frames)
                return []
            request = self._lane.open(block, stream_id)
            if request is not None:
                return [KnownRequest(stream_id, request)]
        return self._feed(frame)

    def _feed(self, frame: bytes) -> list[Event | KnownRequest]:
        """Give one frame to h2. Returns its events."""
        kind, payload, wasted = frame[3], frame[FRAME_HEADER_BYTES:], self.connection.wasted
        ends = END_STREAM if kind == DATA else END_HEADERS
        if kind not in FRAMES_THAT_WORK or not (payload or frame[4] & ends):
            self._count_control_frame(
                1 + len(payload) // SETTINGS_COST_BYTES if kind == SETTINGS else 1
            )
        if kind == GOAWAY and frame[5:9] == bytes(4) and len(payload) >= GOAWAY_BYTES_MIN:
            # RFC 9113 section 6.8: open streams go on, which h2 would not let them.
            return [ConnectionTerminated()]
        events: list[Event | KnownRequest] = list(self.connection.receive_data(frame))
        if self.connection.wasted != wasted:
            self._count_control_frame()
        if kind == SETTINGS:
            self._lane.initial_window = self.connection.remote_settings.initial_window_size
            # Nothing that uses the new settings may leave before they are acknowledged.
            self._wire.write(self.connection.data_to_send())
        elif not self._lane.is_table_unchanged() or frame[3:5] != _WHOLE_REQUEST_BYTES:
            return events
        for event in events:
            if isinstance(event, RequestReceived):
                request = request_of(event, self._wire.network)
                if _asks_for_data(request) and not (
                    request.values(b"content-length") or self._context.request_limits.check(request)
                ):
                    request = self._lane.learn(payload, request)
                self._read[event.stream_id] = request
        return events

    def _count_control_frame(self, cost: int = 1) -> None:
        if self._control_second != self._context.second:
            self._control_second, self._control_frames = self._context.second, 0
        self._control_frames += cost
        if self._control_frames > self._context.control_frames_max:
            self.connection.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise DenialOfServiceError("too many frames that ask for nothing")

    async def _handle_events(self, events: Sequence[Event | KnownRequest]) -> None:
        for event in events:
            if isinstance(event, ConnectionTerminated):
                self._is_leaving = True
            elif isinstance(event, KnownRequest):
                response = self._context.handler.respond_now(event.request)
                await self._open(event.stream_id, event.request, response)
            elif isinstance(event, PingAckReceived):
                self._on_pong(event)
            elif isinstance(event, RequestReceived) and self._is_leaving:
                self._read.pop(event.stream_id, None)
                self._count_control_frame()
                self._reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
            elif (
                isinstance(event, (DataReceived, StreamEnded))
                and event.stream_id not in self.streams
            ):
                self._drop_content(event)
            elif isinstance(event, DataReceived) and not self._has_room_for(event):
                self._drop_content(event)
                if event.stream_id not in self._overrun:
                    self._overrun.add(event.stream_id)
                    await self.streams[event.stream_id].handle(EndBody(event.stream_id))
            else:
                await super()._handle_events([event])
        await self._flush()
        await self._leave_if_idle()

    def _on_pong(self, event: PingAckReceived) -> None:
        """The client has seen all that was sent before the PING, the first GOAWAY included."""
        if event.ping_data == DRAIN_PING and self._context.draining:
            self._wire.leave()

    def _drop_content(self, event: DataReceived | StreamEnded) -> None:
        """Drop content that no WebSocket wants (RFC 9113 section 8.1); much of it is a flood."""
        if self.take_content(event):
            self._count_control_frame()
            return
        if isinstance(event, StreamEnded):
            return
        stream_id = event.stream_id
        self.connection.acknowledge_received_data(event.flow_controlled_length, stream_id)
        if stream_id not in self.stream_buffers and stream_id not in self._bodies:
            self._reset_stream(stream_id, ErrorCodes.NO_ERROR)
        elif stream_id not in self._bodies or not self._has_room_for(event):
            self._count_control_frame()

    def _has_room_for(self, event: DataReceived) -> bool:
        """Charge the content to its stream. Returns whether the stream may have so much.

        An application that leaves so much unread will hardly read more. Hypercorn would wait for
        it, and so would the whole connection. A tiny frame is charged `CONTENT_COST_BYTES`.
        """
        stream_id = event.stream_id
        left = self._content_left.get(stream_id, self._context.request_limits.content_bytes_max)
        self._content_left[stream_id] = left - max(len(event.data), CONTENT_COST_BYTES)
        return left > 0

    # ---- what Hypercorn calls when a stream opens or closes

    def _forget(self, stream_id: int) -> None:
        self._content_left.pop(stream_id, None)
        super()._forget(stream_id)

    async def _close_stream(self, stream_id: int) -> None:
        self._content_left.pop(stream_id, None)
        self._overrun.discard(stream_id)
        await super()._close_stream(stream_id)

    async def _create_stream(self, event: RequestReceived) -> None:
        """Answer GET, HEAD, and what may not reach an application, which copies its response."""
        request = self._read.pop(event.stream_id, None) or request_of(event, self._wire.network)
        handler = self._context.handler
        response: Response | None = None
        error: ZerocopyError | None = self._context.request_limits.check(request)
        if self._is_refused:
            error = OverloadError("too many connections; try again")
            self._wire.write(self.go_away())
        elif not request.target:
            error = NotFoundError("the path must be one of those in /openapi.json")
        elif request.is_websocket and error is None:
            error = self.expect_websocket(event.stream_id, request)
        if error is not None:
            response = handler.refuse(error)
        elif request.method in _READS:  # whatever content follows: it is dropped
            response = handler.respond_now(request)
        elif request.method.isascii() and request.method.isupper():
            await super()._create_stream(event)  # which would make get a GET, RFC 9110 section 9.1
            return
        await self._open(event.stream_id, request, response)


def _free(connection: H2Connection) -> None:
    """Break the cycle of h2's table of its methods: collecting a crowd's stops the event loop."""
    connection._frame_dispatch_table.clear()  # noqa: SLF001


def _asks_for_data(request: Request) -> bool:
    is_get = request.method in _READS and not request.is_websocket
    return request.endpoint == endpoints.DATA and is_get
