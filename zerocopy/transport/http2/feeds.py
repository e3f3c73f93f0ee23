"""Endless responses on an HTTP/2 connection: pulled under flow control, beside other streams.

Owns the streams whose response has a feed. A small message leaves at once, as one DATA frame, where
windows and socket have room. What does not fit, and a large message, is the stream's body, which
takes its turns among the others (`http2/streams.py`), and is stalled like any other. Nothing is
pulled behind it, nor while the socket is full.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes

from zerocopy.core import counters as slots
from zerocopy.core.errors import ZerocopyError
from zerocopy.transport.http2.head import DATA, END_STREAM, frame_header
from zerocopy.transport.http2.pace import Pace
from zerocopy.transport.http2.streams import DataStreams
from zerocopy.transport.streaming import ENCRYPTED_COST_BYTES, PLAIN_EVENTS, Stream

if TYPE_CHECKING:
    from h2.stream import H2Stream
    from hypercorn.asyncio.task_group import TaskGroup

    from zerocopy.core.http.stream import Feed
    from zerocopy.transport.body import Body
    from zerocopy.transport.http2.context import Http2Context, Wire
    from zerocopy.transport.streaming import Framing, Inbox


class FeedStreams(DataStreams):
    """What a connection has to send, endless responses among it."""

    def __init__(
        self, tasks: TaskGroup, *, context: Http2Context, wire: Wire, is_refused: bool
    ) -> None:
        super().__init__(tasks, context=context, wire=wire, is_refused=is_refused)
        self._feeds: dict[int, Stream] = {}  # by stream; `_bodies` has None while one is idle
        self._ready: set[int] = set()  # those with something to pull, as far as it is known
        self._queued: set[int] = set()  # those of them that wait for a turn
        self._content_bytes: dict[int, int] = {}  # sent so far, by stream
        self._feeds_end = context.draining

    @property
    def _sharers(self) -> int:
        return max(1, len(self._bodies) - len(self._feeds))

    def _begin_feed(self, stream_id: int, feed: Feed, head: bytes) -> None:
        context = self._context
        framing, inbox = self._framing_of(stream_id)
        stream = self._feeds[stream_id] = Stream(
            feed,
            framing,
            inbox,
            framed=context.framed,
            bodies=context.bodies,
            is_mapped=True,
        )
        self._paces[stream_id], self._content_bytes[stream_id] = Pace(context.wheel.now), 0
        self._wire.write(head)
        stream.start(partial(self._on_feed_ready, stream_id))
        self._on_feed_ready(stream_id)

    def _framing_of(self, _stream_id: int) -> tuple[Framing, Inbox | None]:
        """How its messages become bytes, and what its client may send."""
        return PLAIN_EVENTS, None

    def end_feeds(self) -> None:
        """End each behind its whole message: the server stops, or the client will say no more.

        It would open no window either; most such clients are gone.
        """
        self._feeds_end = True
        for stream_id in self._feeds:
            self._on_feed_ready(stream_id)

    # ---- turns

    def _on_feed_ready(self, stream_id: int) -> None:
        """The feed has something again."""
        if stream_id not in self._ready:
            self._ready.add(stream_id)
            self._paces[stream_id].at = self._context.wheel.now  # it was idle
        self._queue_feed(stream_id)

    def _queue_feed(self, stream_id: int) -> None:
        if stream_id not in self._queued:
            self._queued.add(stream_id)
            self._context.fanout.add(partial(self._take_feed_turn, stream_id))

    def _take_feed_turn(self, stream_id: int) -> int:
        """Send what the feed has; see `Fanout`."""
        self._queued.discard(stream_id)
        stream = self._feeds.get(stream_id)
        if stream is None or self._bodies.get(stream_id) is not None:
            return 0  # it has ended, or pulls again behind what is under way
        try:
            return self._pull(stream_id, stream)
        except Exception as error:  # noqa: BLE001 - others have nothing to do with it
            self._fail_feed(stream_id, error)
            return ENCRYPTED_COST_BYTES

    def _pull(self, stream_id: int, stream: Stream) -> int:
        """Send until the feed has nothing, there is no room, or the turn is spent."""
        context, h2_stream = self._context, self.connection.streams.get(stream_id)
        if h2_stream is None or h2_stream.closed:
            self._forget(stream_id)  # h2 knows already; the event is still to be handled
            return 0
        spent = 0
        while True:
            if self._wire.unsent_bytes:
                self._unblock(stream_id)  # pulls once all has left
                break
            if spent >= context.scheduler.turn_bytes:
                self._queue_feed(stream_id)
                break
            piece = stream.next_in_drain() if self._feeds_end else stream.next()
            if piece is None:
                self._ready.discard(stream_id)
                break
            if not isinstance(piece, bytes):
                self._begin_body(stream_id, piece)
                break
            if len(piece) > self._frame_room(h2_stream):
                self._begin_body(stream_id, context.bodies.open(piece))
                break
            self._write_piece(stream_id, h2_stream, piece, is_last=stream.is_over)
            spent += max(len(piece), ENCRYPTED_COST_BYTES)
            if stream.is_drained:
                self._ready.discard(stream_id)
                break
            if stream.is_over:
                break
        return spent

    def _frame_room(self, h2_stream: H2Stream) -> int:
        """Bytes that a DATA frame may have now."""
        connection = self.connection
        window = min(
            connection.outbound_flow_control_window, h2_stream.outbound_flow_control_window
        )
        return max(0, min(window, connection.max_outbound_frame_size))

    def _write_piece(
        self, stream_id: int, h2_stream: H2Stream, piece: bytes, *, is_last: bool
    ) -> None:
        """Send a piece that fits the windows and one frame."""
        connection, nbytes = self.connection, len(piece)
        connection.outbound_flow_control_window -= nbytes
        h2_stream.outbound_flow_control_window -= nbytes
        self._context.counters[slots.SENT_BYTES_COPY] += nbytes
        self._note(stream_id, nbytes, h2_stream)
        flags = END_STREAM if is_last else 0
        self._wire.write(frame_header(nbytes, DATA, flags, stream_id) + piece)
        if is_last:
            self._end(stream_id, h2_stream)
            self._settle()

    def _note(self, stream_id: int, nbytes: int, h2_stream: H2Stream) -> None:
        now, left = self._context.wheel.now, self.connection.outbound_flow_control_window
        self._content_bytes[stream_id] += nbytes
        self._pace.took(nbytes, now, is_shut=left <= 0)
        is_shut = min(left, h2_stream.outbound_flow_control_window) <= 0
        self._paces[stream_id].took(nbytes, now, is_shut=is_shut)

    def _begin_body(self, stream_id: int, body: Body) -> None:
        """What is sent next takes its turns among the bodies of other streams."""
        body.moved_at = self._context.wheel.now
        self._bodies[stream_id] = body
        self._unblock(stream_id)

    def _unblock(self, stream_id: int) -> None:
        """Have Hypercorn's sending task call `_send_data`."""
        self.priority.unblock(stream_id)
        event: Any = self.has_data
        event._event.set()  # noqa: SLF001 - its own `set` is a coroutine that does not wait

    def _settle(self) -> None:
        """Send what h2 has to say to that, and leave where that was the last stream."""
        self._wire.write(self.connection.data_to_send())
        if self.is_done:
            self._wire.leave()  # not in a task: the group may be ending

    def _fail_feed(self, stream_id: int, error: Exception) -> None:
        """Reset the stream alone; the error is logged."""
        if isinstance(error, ZerocopyError):
            self._context.on_transfer_failed(error, self._pending[stream_id])
        else:
            self._context.on_connection_failed(error)
        if stream_id in self._bodies:
            self._reset(stream_id, ErrorCodes.INTERNAL_ERROR)
        self._settle()

    # ---- what `DataStreams` asks for

    async def _send_data(self, stream_id: int) -> None:
        if stream_id not in self._feeds or self._bodies.get(stream_id) is not None:
            await super()._send_data(stream_id)
            return
        self.priority.block(stream_id)
        await self._wire.drain()
        if stream_id in self._ready:
            self._queue_feed(stream_id)

    def _is_last(self, stream_id: int) -> bool:
        stream = self._feeds.get(stream_id)
        return stream is None or stream.is_over

    def _sent_all(self, stream_id: int, stream: H2Stream, body: Body) -> None:
        if self._is_last(stream_id):
            super()._sent_all(stream_id, stream, body)
            return
        body.close()
        self._bodies[stream_id] = None
        self.priority.block(stream_id)
        self._queue_feed(stream_id)

    def _sent(self, stream_id: int, body: Body, nbytes: int, *, is_shut: bool) -> None:
        if stream_id in self._content_bytes:
            self._content_bytes[stream_id] += nbytes
        super()._sent(stream_id, body, nbytes, is_shut=is_shut)

    def _forget(self, stream_id: int) -> None:
        stream = self._feeds.pop(stream_id, None)
        if stream is not None:
            body, response = self._bodies[stream_id], self._pending[stream_id].response
            assert response is not None, "its head was sent"
            sent = self._content_bytes.pop(stream_id)
            response.nbytes = sent + (0 if body is None else body.left_bytes)  # for the access log
            self._ready.discard(stream_id)
        super()._forget(stream_id)
        if stream is not None:
            stream.close()

    async def _close_stream(self, stream_id: int) -> None:
        if stream_id in self._feeds and self._bodies[stream_id] is None:
            self._forget(stream_id)  # between two messages nothing is cut off
        else:
            await super()._close_stream(stream_id)

    def forget_all(self) -> None:
        """As `DataStreams`; between two messages nothing is cut off."""
        for stream_id in list(self._feeds):
            if self._bodies[stream_id] is None:
                self._forget(stream_id)
        super().forget_all()
