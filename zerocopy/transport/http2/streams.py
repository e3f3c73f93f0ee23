"""The sending half of an HTTP/2 connection: responses to GET and HEAD, framed without h2.

Owns the streams of these requests, from request to end. Hypercorn's own sending task calls
`_send_data` for the stream whose turn it is in its priority tree. `FrameBuffer` fills the
frames of a turn from the stream's `Body`, and they leave in one write. h2's windows and stream
states are updated as h2 would have done, so that h2 keeps judging everything the client does next.

    how one ends    whose stream      sends RST_STREAM                counts in TRANSFERS_ABORTED
    _end            of this module    if content still comes          no: all was sent
    _forget         of this module    no                              no: its callers do
    _reset          of this module    yes                             yes
    _abort          of this module    yes                             yes, and logs the error
    forget_all      all of them       no: the connection is over      yes, each
    _close_stream   any               no                              if of this module
    _abandon        an application's  yes                             no
    _reset_stream   any               yes, unless h2 knows its end    no
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING

from h2.connection import ConnectionInputs
from h2.errors import ErrorCodes
from h2.stream import StreamInputs

from zerocopy.core import counters as slots
from zerocopy.core.errors import DataError, OverloadError, ZerocopyError
from zerocopy.core.http.pending import CURRENT, PendingRequest
from zerocopy.transport.http2.app_streams import AppStreams
from zerocopy.transport.http2.head import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    frame_header,
    render_head,
)
from zerocopy.transport.http2.pace import Pace

if TYPE_CHECKING:
    from h2.stream import H2Stream
    from hypercorn.asyncio.task_group import TaskGroup

    from zerocopy.core.http.messages import Request, Response
    from zerocopy.core.http.stream import Feed
    from zerocopy.core.window import Window
    from zerocopy.transport.body import Body
    from zerocopy.transport.http2.context import Http2Context, Wire

SHARED_TURN_BYTES = 65_536
"""Bytes of a turn while several streams of a connection wait for theirs."""

READY_TICKS = 4
"""Ticks for which a stalled client's next bytes are taken to be in memory without asking again."""


class DataStreams(AppStreams):
    """What a connection has to send; `context` has what all connections share."""

    def __init__(
        self, tasks: TaskGroup, *, context: Http2Context, wire: Wire, is_refused: bool
    ) -> None:
        super().__init__(tasks, context=context, wire=wire, is_refused=is_refused)
        self._bodies: dict[int, Body | None] = {}  # by stream; None while its response is planned
        self._pending: dict[int, PendingRequest] = {}  # by stream, as long as `_bodies` has it
        self._plans: dict[int, asyncio.Task[None]] = {}  # by stream, while its response is planned
        self._received_ns = monotonic_ns()  # when what is being handled was read
        self._paces: dict[int, Pace] = {}  # by stream, once its response has begun

    @property
    def requests_open(self) -> int:
        """Requests that are not answered to the end."""
        return len(self._bodies) + super().requests_open

    @property
    def _sharers(self) -> int:
        """Responses that share the turns of the connection, one of them at least."""
        return max(1, len(self._bodies))

    @property
    def _segments_held(self) -> int:
        return sum(body.segment_count for body in self._bodies.values() if body is not None)

    async def _open(self, stream_id: int, request: Request, response: Response | None) -> None:
        """Answer the request of a stream that h2 has opened; plan the response if there is none."""
        self._bodies[stream_id] = None
        pending = self._context.metrics.begin(request, self._received_ns)
        self._pending[stream_id] = pending
        self._context.counters[slots.STREAMS] += 1
        self.priority.insert_stream(stream_id)
        self.priority.block(stream_id)
        if response is not None:
            await self._begin(stream_id, request, response)
        else:
            self.task_group.spawn(self._respond, stream_id, request)

    async def _respond(self, stream_id: int, request: Request) -> None:
        task = asyncio.current_task()
        if stream_id not in self._bodies or task is None:
            return  # reset before it began
        self._plans[stream_id] = task
        del task  # or its error, and with it this frame, would keep it
        CURRENT.set(self._pending[stream_id])
        try:
            response = await self._context.handler.respond(request)
        finally:
            self._plans.pop(stream_id, None)  # from here on `_forget` must not cancel this task
        CURRENT.set(None)  # or what is registered from here on would keep the pending request
        if stream_id in self._bodies:
            await self._begin(stream_id, request, response)
        elif response.feed is not None:  # reset in between
            response.feed.close()

    async def _begin(self, stream_id: int, request: Request, response: Response) -> None:
        """Send the head, and as much of the body as the windows take."""
        context, connection = self._context, self.connection
        stream = connection.streams.get(stream_id)
        if stream is None or stream.closed:
            self._forget(stream_id)  # its RST_STREAM came in the same bytes as its HEADERS
            if response.feed is not None:
                response.feed.close()
            return
        if not context.bodies.has_room_for(response, self._segments_held):
            response = context.handler.refuse(OverloadError("too many large answers at once"))
        connection.state_machine.process_input(ConnectionInputs.SEND_HEADERS)
        stream.state_machine.process_input(StreamInputs.SEND_HEADERS)
        block = (response.head_h2 or render_head(response)) + context.date_h2
        if connection.encoder.table_size_changes:
            # RFC 7541 section 4.2: the first block after a change begins with it.
            block = connection.encoder._encode_table_size_change() + block  # noqa: SLF001
            connection.encoder.header_table.resized = False
        context.metrics.promise(self._pending[stream_id], response)
        if not response.segments:
            context.scheduler.hurry(1)
        if response.feed is not None and not request.is_head:
            head = frame_header(len(block), HEADERS, END_HEADERS, stream_id) + block
            self._begin_feed(stream_id, response.feed, head)
            await self._flush()
        elif request.is_head or not response.nbytes:
            if response.feed is not None:
                response.feed.close()
            flags = END_HEADERS | END_STREAM
            self._end(stream_id, stream)
            self._wire.write(frame_header(len(block), HEADERS, flags, stream_id) + block)
            await self._flush()
            await self._leave_if_idle()
        else:
            nbytes = response.nbytes - len(response.content)
            body = context.bodies.open(response.content, response.segments, nbytes, mapped=True)
            body.moved_at = context.wheel.now
            self._bodies[stream_id], self._paces[stream_id] = body, Pace(context.wheel.now)
            head = frame_header(len(block), HEADERS, END_HEADERS, stream_id) + block
            await self._send_turn(stream_id, body, self._first_budget(body), head)
        await self.has_data.set()

    def _begin_feed(self, stream_id: int, feed: Feed, head: bytes) -> None:
        """Send the head of an endless response, then what `feed` has to say."""
        raise NotImplementedError

    async def _send_data(self, stream_id: int) -> None:
        """One turn of a stream; Hypercorn's sending task calls it for the one whose turn it is."""
        if stream_id not in self._bodies:
            await super()._send_data(stream_id)
            return
        await self._wire.drain()  # a client that takes nothing makes us keep one turn, no more
        body = self._bodies.get(stream_id)
        if body is None or body.is_waiting:
            if stream_id in self._bodies:
                self.priority.block(stream_id)
            return
        scheduler = self._context.scheduler
        if await scheduler.take(self._budget()):
            self._context.batch.answer()  # small responses go before large ones
            if self._bodies.get(stream_id) is not body:
                return  # reset in between
        cost_per_byte = scheduler.cost_per_byte(is_from_disk=body.is_from_disk)
        await self._send_turn(stream_id, body, max(1, self._budget() // cost_per_byte))
        await asyncio.sleep(0)  # the other connections' turn

    def _first_budget(self, body: Body) -> int:
        """Bytes of the turn that begins a response: all that a small one has, before others."""
        if self._wire.unsent_bytes:
            return 0  # for a client that reads nothing each stream would keep its turn
        if not body.segment_count:
            return SHARED_TURN_BYTES
        scheduler = self._context.scheduler
        if not scheduler.has_room:
            return 0
        budget = min(self._budget(), body.left_bytes)
        scheduler.spend(budget)
        return budget

    def _budget(self) -> int:
        """Bytes of a turn that begins now."""
        turn_bytes = self._context.scheduler.turn_bytes
        is_alone = self._sharers + super().requests_open == 1
        return turn_bytes if is_alone else min(turn_bytes, SHARED_TURN_BYTES)

    async def _send_turn(self, stream_id: int, body: Body, budget: int, head: bytes = b"") -> None:
        """Send `head` and frames of `body`: `budget` bytes at most, or until the socket is full."""
        connection, stream = self.connection, self.connection.streams.get(stream_id)
        if stream is None or stream.closed:
            self._forget(stream_id)  # h2 knows already; the event is still to be handled
            return
        window = min(connection.outbound_flow_control_window, stream.outbound_flow_control_window)
        most = min(window, budget)
        total, full = 0, connection.max_outbound_frame_size
        try:
            while True:
                frames, taken = self._context.frames.fill(
                    body,
                    stream_id,
                    head,
                    most=most - total,
                    frame_bytes_max=full,
                    is_last=self._is_last(stream_id),
                )
                connection.outbound_flow_control_window -= taken
                stream.outbound_flow_control_window -= taken
                self._context.counters[slots.SENT_BYTES_COPY] += taken
                total += taken
                if not body.left_bytes:
                    self._sent_all(stream_id, stream, body)
                self._wire.write(frames)
                head = b""
                if not taken or total >= most or not body.left_bytes or self._wire.unsent_bytes:
                    break
        except ZerocopyError as error:
            self._wire.write(head)  # it may tell a new table size, which the client must see
            await self._abort(stream_id, error)
            return
        self._sent(stream_id, body, total, is_shut=window <= total)
        await self._flush()
        await self._leave_if_idle()

    def _is_last(self, _stream_id: int) -> bool:
        """Whether the body of the stream is all there is to send."""
        return True

    def _sent_all(self, stream_id: int, stream: H2Stream, _body: Body) -> None:
        """A body has been framed to its end."""
        self._end(stream_id, stream)

    def _sent(self, stream_id: int, body: Body, nbytes: int, *, is_shut: bool) -> None:
        """Note that `nbytes` have left, block the stream if it must wait, and read ahead for it."""
        context = self._context
        context.scheduler.sent(nbytes, is_from_disk=body.is_from_disk)
        now, window = context.wheel.now, self.connection.outbound_flow_control_window
        self._pace.took(nbytes, now, is_shut=window <= 0)
        if nbytes:
            body.moved_at = now
        if not body.left_bytes:
            return
        self._paces[stream_id].took(nbytes, now, is_shut=is_shut)
        if is_shut or body.is_waiting:
            self.priority.block(stream_id)  # until a WINDOW_UPDATE, or until it is prepared
        else:
            self.priority.unblock(stream_id)
        ahead = body.next_window(self._sharers)
        if ahead is not None:
            self.task_group.spawn(self._prepare, stream_id, body, ahead)

    async def _prepare(self, stream_id: int, body: Body, window: Window) -> None:
        """Have a thread read what comes next, and go on where the stream waits for it."""
        error: ZerocopyError | None = DataError("a window could not be made ready")
        try:
            await self._context.handler.prepare(window)
            error = None
        except ZerocopyError as failure:
            error = failure
        finally:
            was_waiting = body.is_waiting
            body.prepared(window, error)
        if was_waiting and self._bodies.get(stream_id) is body:
            self.priority.unblock(stream_id)
            await self.has_data.set()

    def _end(self, stream_id: int, stream: H2Stream) -> None:
        stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        self._forget(stream_id)
        if not stream.closed:  # RFC 9113 section 8.1: the content that still comes is not wanted
            self.connection.reset_stream(stream_id, ErrorCodes.NO_ERROR)

    def _forget(self, stream_id: int) -> None:
        body, pending = self._bodies.pop(stream_id), self._pending.pop(stream_id)
        self._paces.pop(stream_id, None)
        plan = self._plans.pop(stream_id, None)
        if plan is not None:
            plan.cancel()  # no client waits for it: what is still queued for a thread is dropped
        pending.left_bytes = 0 if body is None else body.left_bytes
        self._context.metrics.end(pending)
        self._context.counters[slots.STREAMS] -= 1
        self.priority.remove_stream(stream_id)
        if body is not None:
            body.close()

    async def _abort(self, stream_id: int, error: Exception) -> None:
        if stream_id in self._bodies:
            self._context.on_transfer_failed(error, self._pending[stream_id])
            self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
            await self._flush()
            await self._leave_if_idle()

    def _reset(self, stream_id: int, code: ErrorCodes) -> None:
        self._forget(stream_id)
        self._context.counters[slots.TRANSFERS_ABORTED] += 1
        self._reset_stream(stream_id, code)

    def forget_all(self) -> None:
        """The connection is over; what was promised on it is cut off."""
        self._context.counters[slots.TRANSFERS_ABORTED] += len(self._bodies)
        # Nobody has a turn any more; else each removal would sort all: 15 ms for 100, 2 s for 1000.
        self.priority._root_stream.child_queue.clear()  # noqa: SLF001
        for stream_id in list(self._bodies):
            self._forget(stream_id)

    # ---- what Hypercorn calls when a stream changes

    async def _close_stream(self, stream_id: int) -> None:
        if stream_id in self._bodies:
            self._forget(stream_id)
            self._context.counters[slots.TRANSFERS_ABORTED] += 1
        else:
            await super()._close_stream(stream_id)

    async def _window_updated(self, stream_id: int | None) -> None:
        for waiting in [stream_id] if stream_id else list(self._bodies):
            body = self._bodies.get(waiting)
            if body is not None and not body.is_waiting:
                self.priority.unblock(waiting)
        await super()._window_updated(stream_id)

    # ---- the end

    def reset_stalled(self, oldest: int) -> bytes:
        """Reset streams that are shut and got on last at the tick `oldest`. Returns the frames."""
        connection = self.connection
        shut = connection.outbound_flow_control_window <= 0 and self._pace.at <= oldest

        def is_shut(stream_id: int) -> bool:
            stream = connection.streams.get(stream_id)
            return shut or stream is None or stream.outbound_flow_control_window <= 0

        for stream_id, body in list(self._bodies.items()):
            if body is None or body.is_waiting:
                continue
            if self._context.wheel.now - body.moved_at > READY_TICKS:
                body.expire()
            if self._paces[stream_id].at <= oldest and is_shut(stream_id):
                self._reset(stream_id, ErrorCodes.CANCEL)
        self._abandon_stalled(oldest, is_shut)
        return connection.data_to_send()
