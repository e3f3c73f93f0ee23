"""One HTTP/1.1 connection, on whatever channel carries its bytes.

Owns the state of the connection (`http1/state.py` has the table) and the order of things on it:
requests are answered one at a time in the order they came. A small response leaves in one call, a
large one as its head and then, turn by turn, as its body (`http1/sender.py`). An endless one is the
last (`http1/streamer.py`). Nothing but the connection writes one of its fields. It knows neither
what is asked nor where the bytes lie.
"""

from __future__ import annotations

from functools import partial
from time import monotonic_ns
from typing import TYPE_CHECKING

from zerocopy.core.errors import OverloadError
from zerocopy.core.http.pending import CURRENT
from zerocopy.transport.faults import contained
from zerocopy.transport.http1.interim import answer_continue
from zerocopy.transport.http1.linger import LINGER_TICKS, Linger
from zerocopy.transport.http1.opening import settle
from zerocopy.transport.http1.parser import Persistence, RequestParser
from zerocopy.transport.http1.sender import Sender
from zerocopy.transport.http1.state import PIPELINE_MAX, RECV_BYTES, RESPONSE_COST_BYTES, State
from zerocopy.transport.http1.streamer import Streamer
from zerocopy.transport.timers import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.core.http.messages import Response
    from zerocopy.transport.channel import Channel
    from zerocopy.transport.http1.context import Http1Context
    from zerocopy.transport.http1.parser import Message
    from zerocopy.transport.http1.reply import Reply

# Looked at for every request: a global costs a tenth of a member of an enumeration.
_READY = State.READY
_PENDING = State.PENDING
_SENDING = State.SENDING
_STREAMING = State.STREAMING
# The two moves of each small request are asserted here, once, and cost it nothing.
assert _PENDING in _READY.follows
assert _READY in _PENDING.follows
_OURS = frozenset({State.PENDING, State.WAITING, State.QUEUED, State.FETCHING})
"""States in which the client waits for the server."""

_RECEIVING = (_READY, _STREAMING, State.LINGERING)
"""States in which what comes next decides."""


class Connection:
    """One accepted connection, until it is closed. Used in the event loop's thread only."""

    __slots__ = (
        "_at_end_of_input", "_channel", "_context", "_heads", "_is_last", "_linger", "_parser",
        "_recv", "_sender", "_streamer", "deadline", "send", "state",
    )  # fmt: skip

    def __init__(self, context: Http1Context, channel: Channel) -> None:
        self._context = context
        self._channel = channel
        self._recv = channel.recv
        self._heads = context.heads.of(context.network_of(channel))
        self.send = channel.send
        self.state = _READY
        self.deadline = context.wheel.now + context.idle_ticks
        self._parser: RequestParser | None = None
        self._at_end_of_input = False
        self._is_last = False  # the client was told that nothing follows this response
        self._sender = Sender(context, channel, self)
        self._streamer: Streamer | None = None  # the sender, once an endless response has begun
        self._linger: Linger | None = None  # what is left to do once the last response has left
        channel.wait_readable(self.on_readable)

    # ---- what the event loop calls

    def on_readable(self) -> None:
        """Read once; the event loop calls again while there is more."""
        context = self._context
        if self.state is _PENDING:  # more was readable than the loop takes in one look
            context.batch.answer()
        try:
            data = self._recv(RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset or timed out: nobody is left to answer
            self.abort()
            return
        parser = self._parser
        try:
            if self.state is _READY and (
                parser is None or (parser.at_boundary and not parser.messages)
            ):
                # The same bytes between two messages are the same request: parsed only once.
                message = self._heads.get(data)
                if message is not None:
                    self.state = _PENDING  # from READY
                    context.batch.add(message, self)
                    return
            self._on_input(data)
        except Exception as error:  # noqa: BLE001 - the client would wait for what was read
            self.fail(error)

    def _on_input(self, data: bytes) -> None:
        if not data:
            self._on_end_of_input()
        elif self._linger is not None:
            if self._linger.has_room_for(data):
                self._context.loop.call_soon(self._read_on)
            else:
                self.close()
        elif self._streamer is not None:
            if self._streamer.on_data(data):
                self._context.loop.call_soon(self._read_on)
            else:
                self._channel.stop_reading()
        else:
            self._on_data(data)

    @contained
    def on_deadline(self) -> None:
        """The deadline of the present state passed."""
        context = self._context
        if self.state is _READY and self._is_idle():
            # A request may have come while the loop was busy, for deadlines are looked at first.
            self.on_readable()
            if self.deadline > context.wheel.now:
                return
        if self.state in _OURS:
            self.deadline = context.wheel.now + context.stall_ticks
        elif self.state is _READY and context.draining and self._is_idle():
            self._leave()  # a request may be on its way, which close() would answer with a reset
        elif self._linger is not None:
            self._on_lingered(self._linger)
        elif self.state is not _SENDING and self.state is not _STREAMING:
            self.close()
        elif self._sender.is_stalled():
            self.abort()
        else:
            self.deadline = context.wheel.now + context.stall_ticks

    # ---- reading

    def _on_data(self, data: bytes) -> None:
        context, parser = self._context, self._parser
        if parser is None:
            parser = self._parser = RequestParser(context.request_limits, self._heads.network)
        fresh = parser.at_boundary and not parser.messages
        parser.feed(data, monotonic_ns())
        if fresh and parser.at_boundary and len(parser.messages) == 1 and not parser.ended:
            self._heads.remember(data, parser.messages[0])
        if parser.awaits_continue:
            is_first = self.state is _READY and not parser.messages
            if not answer_continue(parser, self.send, self._channel, is_first=is_first):
                self.abort()
                return
        if self.state is _READY:
            if fresh and not parser.at_boundary:
                self.deadline = context.wheel.now + context.header_ticks
            self._sender.begin_turn()
            self._answer_queued()
            if self.state is _READY and not parser.at_boundary:
                context.loop.call_soon(self._read_on)
        elif parser.is_held or len(parser.messages) > PIPELINE_MAX:
            self._channel.stop_reading()

    def _read_on(self) -> None:
        """Look once more after bytes that nothing answers, for a reset right behind them.

        On EPOLLERR uvloop calls the reader a last time and forgets it; that call got the bytes.
        """
        if self.state in _RECEIVING and self._channel.is_reading:
            self.on_readable()

    def _on_end_of_input(self) -> None:
        """The client will send no more; what it asked for before is still answered."""
        self._at_end_of_input = True
        self._channel.stop_reading()
        if self.state is _READY:
            self._leave()
        elif self.state is State.LINGERING and self._says_end():
            self.close()
        elif self._streamer is not None:
            self._streamer.on_end_of_input()

    # ---- answering

    def _answer_queued(self) -> None:
        """Answer what is queued until one has to wait, then look at what comes next."""
        parser = self._parser
        while self.state is _READY and parser is not None and parser.messages:
            if self._sender.is_turn_spent:
                self._sender.queue_turn()
                return
            self.answer(parser.messages.popleft())
        if self.state is _READY and self._at_end_of_input:
            self._leave()
        elif self.state is _READY:
            self._channel.wait_readable(self.on_readable)

    @contained
    def answer_alone(self, message: Message, response: Response | None, begun_ns: int) -> None:
        """The batch cannot answer this one: it is large, the last one, or needs a plan."""
        if self.state is _PENDING:
            self.move(_READY)
            self._sender.begin_turn()
            self._answer_with(message, response, begun_ns)

    def sent_by_batch(self, deadline: int) -> None:
        """The kernel has all of a response."""
        assert self.state is _PENDING, "or the batch would not have sent it"
        self.state = _READY
        self.deadline = deadline

    @contained
    def begun_by_batch(
        self, message: Message, response: Response, data: bytes, sent: int, begun_ns: int
    ) -> None:
        """The kernel has so many bytes of a response, which is `data` as a whole."""
        self._is_last = False
        self._sender.begin_turn(max(sent, RESPONSE_COST_BYTES))
        self._sender.send_rest(message, response, memoryview(data)[sent:], begun_ns)

    @contained
    def answer(self, message: Message) -> None:
        """Answer a request, or the error that stands for one."""
        handler, response, begun_ns = self._context.handler, None, message.received_ns
        error: Exception | None = message.error
        if error is None:
            try:
                response = handler.respond_now(message.request)
            except Exception as fault:  # noqa: BLE001 - nothing was sent: 500, and it is logged
                error = fault
        if error is not None:
            response = handler.refuse(error)
        self._answer_with(message, response, begun_ns)

    def _answer_with(self, message: Message, response: Response | None, begun_ns: int) -> None:
        context = self._context
        if response is not None and not context.bodies.has_room_for(response):
            response = context.handler.refuse(OverloadError("too many large answers at once"))
        if response is None:
            self.move(State.WAITING)
            reply = self._sender.expect(message, begun_ns)
            reply.planning = context.spawn(self._answer_later(reply, begun_ns))
            return
        if response.feed is not None or message.handshake is not None:
            response = settle(message, response, context.handler, self._parser)
            if response.feed is not None and not message.is_head:
                self._begin_stream(message, response, begun_ns)
                return
        persistence = Persistence.CLOSE if context.draining else message.persistence
        self._is_last = persistence is Persistence.CLOSE
        tail = context.tails.lines[persistence]
        try:
            is_sent = self._sender.send(message, response, tail, begun_ns)
        except OSError:
            self.abort()
            return
        if is_sent:
            self.on_sent()

    def _begin_stream(self, message: Message, response: Response, begun_ns: int) -> None:
        """The response has no end: no request follows it on this connection."""
        reply = self._sender.expect(message, begun_ns)
        parser, self._parser, self._is_last = self._parser, None, True
        self._sender = self._streamer = Streamer(
            self._context, self._channel, self, reply, response
        )
        self._channel.wait_readable(self.on_readable)
        self._streamer.begin(b"" if parser is None else parser.take_rest())

    async def _answer_later(self, reply: Reply, begun_ns: int) -> None:
        CURRENT.set(reply.pending)
        try:
            response = await self._context.handler.respond(reply.message.request)
        except Exception as error:  # noqa: BLE001 - nobody waits for this task
            self.fail(error)
            return
        finally:
            reply.planning = None  # from here on the end of the reply must not cancel this task
        CURRENT.set(None)  # or what is registered from here on would keep the pending request
        self._on_planned(reply.message, response, begun_ns)

    @contained
    def _on_planned(self, message: Message, response: Response, begun_ns: int) -> None:
        if self.state is State.WAITING:
            self.move(_READY)
            self._sender.begin_turn()
            self._answer_with(message, response, begun_ns)
            if self.state is _READY:
                self._answer_queued()
        elif response.feed is not None:  # closed in between
            response.feed.close()

    # ---- what the sender tells

    def move(self, state: State) -> None:
        """Change the state; the only place, but for two that every small request passes."""
        assert state in self.state.follows, f"{self.state} does not lead to {state}"
        self.state = state
        if state is _SENDING:
            self.deadline = self._context.wheel.now + self._context.stall_ticks

    def on_turn(self) -> None:
        """A turn has come, and the sender has used it; answer what else is queued."""
        self._answer_queued()

    def on_sent(self) -> None:
        """The response is in the kernel; go on, or close for good."""
        context = self._context
        if self._is_last or context.leaves_at_once:
            self._leave()
        else:
            ticks = context.idle_ticks if self._is_idle() else context.header_ticks
            self.deadline = context.wheel.now + ticks

    # ---- ending

    @contained
    def drain(self) -> None:
        """The server is stopping: the next response is the last, and idle time is short."""
        context = self._context
        if self._streamer is not None:
            self._streamer.on_ready()
        elif self.state is _READY:
            self.on_readable()  # a request may have come already
        if self.state is not _READY or not self._is_idle():
            return
        if context.leaves_at_once:
            self.close()
        else:
            self.deadline = min(self.deadline, context.wheel.now + context.idle_ticks)

    def _is_idle(self) -> bool:
        return self._parser is None or self._parser.at_boundary

    def _leave(self) -> None:
        """Close our side, then wait until the client has closed its own.

        Closing with input unread would send a reset, which can destroy the response before the
        client has read it (RFC 9112 section 9.6).
        """
        self._linger = Linger(None if self._streamer is None else self._streamer.inbox)
        is_said = self._linger.awaits_close or self._says_end()
        if self._at_end_of_input and is_said:
            self.close()
            return
        self.move(State.LINGERING)
        self._parser = None
        self.deadline = self._context.wheel.now + LINGER_TICKS
        if not self._at_end_of_input:
            self._channel.wait_readable(self.on_readable)

    def _says_end(self) -> bool:
        """Whether our side is closed; over TLS its close_notify may have to wait for room."""
        try:
            return self._channel.shut_down()
        except OSError:  # the peer is gone
            self._at_end_of_input = True
            return True

    def _on_lingered(self, linger: Linger) -> None:
        """The client has not closed in time."""
        untaken = self._channel.untaken_bytes()
        if ticks := linger.more_ticks(untaken, self._context.stall_ticks):
            self.deadline = self._context.wheel.now + ticks
        elif untaken:
            self.abort()
        else:
            self.close()

    def fail(self, error: Exception) -> None:
        """A fault of the server: log it, and end this connection and no other."""
        try:
            self._context.on_connection_failed(error)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close with a reset, so that the client cannot take a part of a response for all of it."""
        self._end(self._channel.reset)

    def close(self) -> None:
        """Give everything back; nothing is called on this connection afterwards."""
        self._end(self._channel.close)

    def _end(self, close: Callable[[], None]) -> None:
        if self.state is State.CLOSED:
            return
        self.move(State.CLOSED)
        self.deadline = NEVER
        self._parser = None
        for give_back in (close, self._sender.drop, partial(self._context.forget, self)):
            try:
                give_back()
            except Exception as error:  # noqa: BLE001 - whatever fails, the rest goes
                self._context.on_connection_failed(error)
