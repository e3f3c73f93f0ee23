"""One HTTP/1.1 connection that owns its non-blocking socket.

Owns the order of things on a connection: requests are answered one at a time in the order they
came, a small answer leaves in one call, a large one as its head with MSG_MORE and then, turn
by turn, by sendfile(2). It knows neither what is asked nor where the bytes lie.

`http1_state` has the states and the legal moves between them.

While a client does not read, its connection is a descriptor, this object and one registered
writer: no bytes of a large answer are held, and no descriptor of a file.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from time import monotonic_ns
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import OverloadError
from zerocopy.core.http.messages import Request
from zerocopy.core.http.pending import CURRENT
from zerocopy.transport.http1.parser import Message, Persistence, RequestParser
from zerocopy.transport.http1.ray import BEGINNING, RaylessMessage, cut
from zerocopy.transport.http1.sending import Sending
from zerocopy.transport.http1.state import (
    LINGER_BYTES_MAX,
    LINGER_S,
    PIPELINE_MAX,
    RECV_BYTES,
    State,
)
from zerocopy.transport.timers import NEVER

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.transport.http1.server import Http1Server

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_REFUSED = Request(b"GET", b"", ())


# Looked at for every request: a global costs a tenth of a member of an enumeration.
_READY = State.READY
_PENDING = State.PENDING
_WAITS_FOR_US = frozenset({State.PENDING, State.WAITING, State.FETCHING})


class Connection(Sending):
    """One accepted socket, until it is closed. Made and used in the event loop's thread only."""

    __slots__ = ("_at_end_of_input", "_lingered_bytes", "_parser", "_ray", "_reading", "_recv")

    def __init__(self, server: Http1Server, sock: socket.socket) -> None:
        super().__init__(server, sock)
        self._recv = sock.recv
        self._parser: RequestParser | None = None
        self._ray = b""  # of the head that waits in the batch, where it was cut out
        self._lingered_bytes = 0
        self._at_end_of_input = False
        self._reading = True
        server.loop.add_reader(self._fd, self.on_readable)

    # ---- what the event loop calls

    def on_readable(self) -> None:
        """Read once; the event loop calls again while there is more."""
        server = self._server
        if self.state is _PENDING:  # more was readable than the loop takes in one look
            server.batch.answer()
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
                # The same bytes between two messages are the same request: no need to parse twice.
                message = server.heads.get(data)
                if message is None and (at := data.find(BEGINNING)) >= 0:
                    message = self._recognize(data, at)
                if message is not None:
                    self.state = _PENDING
                    server.batch.add(message, self)
                    return
            self._on_input(data)
        except Exception as error:  # noqa: BLE001 - the client would wait for what was read
            self.fail(error)

    def _on_input(self, data: bytes) -> None:
        """What is not answered with the batch."""
        if not data:
            self._on_end_of_input()
        elif self.state is State.LINGERING:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > LINGER_BYTES_MAX:
                self.close()
        else:
            self._on_data(data)

    def _recognize(self, data: bytes, at: int) -> Message | None:
        """The message of a head that was seen before with another CF-Ray than the one `at`."""
        parts = cut(data, at)
        if parts is None:
            return None
        rest, self._ray = parts
        return self._server.rayless_heads.get(rest)

    def on_deadline(self) -> None:
        """The deadline of the present state passed."""
        try:
            self._act_on_deadline()
        except Exception as error:  # noqa: BLE001 - it would be looked at for ever
            self.fail(error)

    def _act_on_deadline(self) -> None:
        server = self._server
        if self.state is State.READY and self._is_idle():
            # A request may have come while the loop was busy, for deadlines are looked at first.
            self.on_readable()
            if self.deadline > server.wheel.now:
                return
        if self.state in _WAITS_FOR_US or self._is_queued:
            self.deadline = server.wheel.now + server.stall_ticks
        elif self.state is State.READY and server.draining and self._is_idle():
            self._linger()  # a request may be on its way, which close() would answer with a reset
        elif self.state is not State.SENDING:
            self.close()
        elif self._is_stalled():
            self.abort()
        else:
            self.deadline = server.wheel.now + server.stall_ticks

    # ---- reading

    def _on_data(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = RequestParser(self._server.parser_limits)
        fresh = parser.at_boundary and not parser.messages
        parser.feed(data, monotonic_ns())
        if fresh and parser.at_boundary and len(parser.messages) == 1 and not parser.ended:
            self._server.remember_head(data, parser.messages[0])
        if parser.awaits_continue:
            self._on_continue_awaited(parser)
        if self.state is State.READY:
            if fresh and not parser.at_boundary:
                self.deadline = self._server.wheel.now + self._server.header_ticks
            self._begin_turn()
            self._answer_queued()
            if self.state is State.READY and not parser.at_boundary:
                self._server.loop.call_soon(self._read_on)
        elif len(parser.messages) > PIPELINE_MAX:
            self._stop_reading()

    def _read_on(self) -> None:
        """Look once more after an unfinished request, for a reset right behind its bytes.

        On EPOLLERR uvloop calls the reader a last time and forgets it; that call got the bytes.
        """
        if self.state is State.READY and self._reading:
            self.on_readable()

    def _on_continue_awaited(self, parser: RequestParser) -> None:
        """100 (Continue) may only be sent when no earlier answer is still to come."""
        sent = 0
        if self.state is State.READY and not parser.messages:
            with contextlib.suppress(OSError):  # full of earlier answers, or the peer is gone
                sent = self._sock.send(_CONTINUE)
        if sent == len(_CONTINUE):
            parser.awaits_continue = False
        elif sent == 0:
            parser.end_early()
        else:
            self.abort()  # nothing can follow a part of it

    def _on_end_of_input(self) -> None:
        """The client will send no more; what it asked for before is still answered."""
        if self.state in {State.READY, State.LINGERING}:
            self.close()
        else:
            self._at_end_of_input = True
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._server.loop.remove_reader(self._fd)

    # ---- answering

    def _answer_queued(self) -> None:
        """Answer what is queued until one has to wait, then look at what comes next."""
        parser = self._parser
        while self.state is State.READY and parser is not None and parser.messages:
            if self._turn_bytes >= self._server.turn_bytes_max:
                # Others first: SENDING with nothing to send comes back here next turn.
                self.state = State.SENDING
                self._wait_writable()
                return
            self._answer(parser.messages.popleft())
        if self.state is not State.READY:
            return
        if self._at_end_of_input:
            self.close()
        elif not self._reading:
            self._reading = True
            self._server.loop.add_reader(self._fd, self.on_readable)

    def own(self, message: Message) -> Message:
        """A message of the batch as this client sent it, with its CF-Ray."""
        return message.with_ray(self._ray) if isinstance(message, RaylessMessage) else message

    def answer_alone(self, message: Message, response: Response | None, begun_ns: int) -> None:
        """The batch cannot answer this one: it is large, the last one, or needs a plan."""
        if self.state is _PENDING:
            self.state = _READY
            self._begin_turn()
            self.begun_ns = begun_ns
            try:
                self._answer_with(self.own(message), response)
            except Exception as error:  # noqa: BLE001 - the others wait for their answers
                self.fail(error)

    def _answer(self, message: Message) -> None:
        handler = self._server.handler
        self.begun_ns = message.received_ns
        if message.error is not None:
            self._send(message, handler.refuse(message.error))
            return
        try:
            response = handler.respond_now(message.request)
        except Exception as error:  # noqa: BLE001 - nothing was sent: 500, and it is logged
            response = handler.refuse(error)
        self._answer_with(message, response)

    def _answer_with(self, message: Message, response: Response | None) -> None:
        if response is not None and not self._server.has_room_for(response):
            response = self._server.handler.refuse(OverloadError("too many large answers at once"))
        if response is None:
            self.state = State.WAITING
            self._exchange = self._server.account.begin(message.request, self.begun_ns)
            self._server.spawn(self._answer_later(message))
        else:
            self._send(message, response)

    async def _answer_later(self, message: Message) -> None:
        CURRENT.set(self._exchange)
        try:
            response = await self._server.handler.respond(message.request)
            CURRENT.set(None)  # or what is registered from here on would keep the exchange
            if self.state is not State.WAITING:
                return  # closed in between
            self.state = State.READY
            self._begin_turn()
            self._answer_with(message, response)
            if self.state is State.READY:
                self._answer_queued()
        except Exception as error:  # noqa: BLE001 - nobody waits for this task
            self.fail(error)

    def refuse(self, error: Exception) -> None:
        """Answer a connection that cannot be served, before it asked for anything."""
        message = Message(_REFUSED, Persistence.CLOSE)
        self.begun_ns = monotonic_ns()
        self._send(message, self._server.handler.refuse(error))

    def _finish(self, message: Message) -> None:
        """The response is in the kernel; go on, or close for good."""
        server = self._server
        self._mark = None  # the client has made room for it
        is_last = self._is_last or message.persistence is Persistence.CLOSE
        if is_last or (server.draining and not server.idle_ticks):
            self._linger()
        else:
            parser = self._parser
            at_boundary = parser is None or parser.at_boundary
            ticks = server.idle_ticks if at_boundary else server.header_ticks
            self.deadline = server.wheel.now + ticks

    # ---- ending

    def drain(self) -> None:
        """The server is stopping: the next answer is the last, and it is not waited for long."""
        if self.state is State.READY:
            self.on_readable()  # a request may have come already
        if self.state is not State.READY or not self._is_idle():
            return
        if self._server.idle_ticks:
            self.deadline = min(self.deadline, self._server.wheel.now + self._server.idle_ticks)
        else:
            self.close()

    def _is_idle(self) -> bool:
        return self._parser is None or self._parser.at_boundary

    def _linger(self) -> None:
        """Close our side, then wait until the client has closed its own.

        Closing with input unread would send a reset, which can destroy the answer before the
        client has read it (RFC 9112 section 9.6).
        """
        if self._at_end_of_input:
            self.close()
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.state = State.LINGERING
        self._parser = None
        self.deadline = self._server.wheel.now + self._server.wheel.ticks(LINGER_S)
        if not self._reading:
            self._reading = True
            self._server.loop.add_reader(self._fd, self.on_readable)

    def fail(self, error: Exception) -> None:
        """A fault of ours: the end of this connection and of no other, and never silent."""
        try:
            self._server.on_connection_failed(error)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close with a reset: whoever reads sees an error, never a clean end of a short answer."""
        if self.state is State.CLOSED:
            return
        if self.state in {State.SENDING, State.FETCHING}:
            self._server.counters[slots.TRANSFERS_ABORTED] += 1
        with contextlib.suppress(OSError):  # the peer's reset may have come first
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()

    def close(self) -> None:
        """Give everything back; nothing is called on this connection afterwards."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self.deadline = NEVER
        self._parser = None
        self._message = None
        for give_back in (
            self._stop_reading,
            self._stop_writing,
            self._sock.close,
            self._end_exchange,
            self._drop_transfer,
            self._leave,
        ):
            try:
                give_back()
            except Exception as error:  # noqa: BLE001 - whatever fails, the rest goes
                self._server.on_connection_failed(error)

    def _leave(self) -> None:
        self._server.forget(self)
