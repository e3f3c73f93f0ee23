"""The sending half of an HTTP/1.1 connection on which an endless response has begun.

Owns the stream, and takes the place of the connection's `Sender`. A small message leaves in one
send(2). What does not leave at once, and a large message, is the body of the reply, which leaves
turn by turn as ever. Nothing is pulled from the feed until that has left.

An idle stream has neither body nor parser: 10,000 of them wait for an append at a few KB each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.transport.faults import contained
from zerocopy.transport.http1.opening import opening_of
from zerocopy.transport.http1.sender import Sender
from zerocopy.transport.http1.state import IGNORED_BYTES_MAX, State
from zerocopy.transport.streaming import ENCRYPTED_COST_BYTES, MESSAGE_COST_BYTES, Stream
from zerocopy.transport.timers import Progress

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.transport.channel import Channel
    from zerocopy.transport.http1.context import Http1Context
    from zerocopy.transport.http1.reply import Reply
    from zerocopy.transport.http1.sender import Owner
    from zerocopy.transport.streaming import Inbox


_STREAMING = State.STREAMING  # a global costs a tenth of a member of an enumeration


class Streamer(Sender):
    """What a connection has to send once the response to `reply` has a feed."""

    __slots__ = (
        "_cost_bytes", "_ignored_bytes", "_is_waiting", "_progress", "_response", "_sent_bytes",
        "_stream", "_streaming",
    )  # fmt: skip

    def __init__(
        self,
        context: Http1Context,
        channel: Channel,
        owner: Owner,
        reply: Reply,
        response: Response,
    ) -> None:
        super().__init__(context, channel, owner)
        assert response.feed is not None, "or it has an end"
        opening = opening_of(reply.message, response, context)
        self._reply = self._streaming = reply
        self._response = opening.response
        self._stream = Stream(
            response.feed,
            opening.framing,
            opening.inbox,
            framed=context.framed,
            bodies=context.bodies,
            is_mapped=not channel.can_send_file,
        )
        reply.body = context.bodies.open(opening.head)
        self._cost_bytes = MESSAGE_COST_BYTES if channel.can_send_file else ENCRYPTED_COST_BYTES
        self._ignored_bytes = 0
        self._sent_bytes = -len(opening.head)  # the access log counts content
        self._is_waiting = False  # for a turn among the streams that have something
        self._progress = Progress()

    @property
    def inbox(self) -> Inbox | None:
        """What the client sends, if it may send something."""
        return self._stream.inbox

    def begin(self, behind: bytes) -> None:
        """Send the head, and what the feed has already; `behind` came behind the request."""
        self.on_data(behind)
        self._context.metrics.promise(self._streaming.pending, self._response)
        self._stream.start(self.on_ready)
        self._owner.move(State.SENDING)
        self._send_turn(self._streaming)
        self._context.scheduler.spend(self._charge())

    # ---- what the feed and the client tell

    def on_ready(self) -> None:
        """There is something to send, as far as it is known."""
        if not self._is_waiting and self._owner.state is _STREAMING:
            self._is_waiting = True
            self._context.fanout.add(self._take_stream_turn)

    def on_data(self, data: bytes) -> bool:
        """Take what the client has sent. Returns whether it may send more."""
        inbox = self._stream.inbox
        if inbox is not None:
            inbox.on_data(data)
            self.on_ready()
            return not inbox.is_over
        self._ignored_bytes += len(data)
        return self._ignored_bytes <= IGNORED_BYTES_MAX

    def on_end_of_input(self) -> None:
        """The client sends nothing more. If all it could do is read, it may still do that."""
        if self._stream.inbox is not None:
            self._stream.inbox.is_over = True
            self.on_ready()

    # ---- turns

    def _take_stream_turn(self) -> int:
        """Send what the feed has; see `Fanout`."""
        self._is_waiting = False
        if self._owner.state is not _STREAMING:
            return 0  # closed in between
        self._turn_bytes = self._charged_bytes = 0
        try:
            self._pull()
        except Exception as error:  # noqa: BLE001 - others wait for the same slice
            self.fail(error)
        return self._charge()

    def _pull(self) -> None:
        """Send until the feed has nothing, the client or the disk blocks, or the turn is spent."""
        context, stream = self._context, self._stream
        budget = context.scheduler.turn_bytes
        while not stream.is_over:
            if self._turn_bytes >= budget:
                self.queue_turn()
                return
            piece = stream.next_in_drain() if context.draining else stream.next()
            if piece is None:
                return
            if isinstance(piece, bytes):
                if not self._sends(piece) or stream.is_drained:
                    return
            else:
                self._streaming.body = piece
                self._owner.move(State.SENDING)
                if not self._has_sent_body():
                    return
        self.drop()
        self._owner.on_sent()

    def _sends(self, data: bytes) -> bool:
        """Send bytes that are in memory. Returns whether all of them have left."""
        try:
            sent = self._channel.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:  # the peer is gone
            self._owner.abort()
            return False
        self._context.counters[slots.SENT_BYTES_COPY] += sent
        self._sent_bytes += sent
        self._turn_bytes += max(sent, self._cost_bytes)
        if sent == len(data):
            return True
        self._streaming.body = self._context.bodies.open(memoryview(data)[sent:])
        self._owner.move(State.SENDING)
        return self._has_sent_body()

    def _has_sent_body(self) -> bool:
        """Send a turn of the body under way. Returns whether all of it has left."""
        body = self._streaming.body
        assert body is not None, "one is under way"
        left_bytes = body.left_bytes
        has_sent = self._has_sent(self._streaming)
        self._sent_bytes += left_bytes - body.left_bytes
        if has_sent:
            self._streaming.body = None
            body.close()
            self._owner.move(State.STREAMING)
        return has_sent

    def _send_turn(self, _reply: Reply) -> None:
        if self._has_sent_body():
            self._pull()

    @contained
    def _go_on(self) -> None:
        if self._streaming.body is None:
            self._owner.move(State.STREAMING)
            self._pull()
        else:
            self._owner.move(State.SENDING)
            self._send_turn(self._streaming)

    # ---- time and the end

    def is_stalled(self) -> bool:
        """Whether the client took nothing for the write-progress timeout, though some is there.

        What it has taken is what the kernel has sent and seen acknowledged. Neither number alone
        would tell: a client that keeps up with a steady feed has as much on its way at each look,
        and heartbeats to one that has vanished are taken by our kernel.
        """
        untaken = self._channel.untaken_bytes()
        body = self._streaming.body
        has_grown = self._progress.has_grown(self._sent_bytes - untaken)
        if has_grown or not (untaken or body is not None):
            return False
        if body is not None:
            body.expire()
        return self._progress.is_stalled

    def drop(self) -> None:
        """The response has ended, or is cut off: its feed is told."""
        if self._reply is not None:
            body = self._streaming.body
            self._response.nbytes = self._sent_bytes + (0 if body is None else body.left_bytes)
        super().drop()
        self._stream.close()
