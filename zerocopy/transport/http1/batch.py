"""Requests that were received in one turn of the event loop and are answered together.

Owns the short way of a small request: its head was seen before, perhaps with another CF-Ray, so it
is not parsed, and its answer leaves in one send(2). All requests of a turn are received before the
first is answered, so one proof that an answer is still true does for every connection that asked
for it in that turn: each of them asked before the proof was made.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.transport.http1.head import render_head
from zerocopy.transport.http1.parser import Persistence
from zerocopy.transport.http1.state import State

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.transport.http1.connection import Connection
    from zerocopy.transport.http1.parser import Message
    from zerocopy.transport.http1.server import Http1Server


RENDERED_MAX = 64
"""Small answers kept in one piece, 64 times `[limits] small_answer_bytes_max`: 4 MiB by default."""

_KEPT = frozenset({200, 304})
_PENDING = State.PENDING
_READY = State.READY


class Batch:
    """The connections of one worker that wait for the end of the turn, by what they asked for."""

    __slots__ = ("_begun_ns", "_rendered", "_server", "_waiting")

    def __init__(self, server: Http1Server) -> None:
        self._server = server
        self._rendered: dict[Response, tuple[bytes, bytes]] = {}
        self._waiting: dict[Message, list[Connection]] = {}
        self._begun_ns = 0  # when the first of them was read

    def add(self, message: Message, connection: Connection) -> None:
        """Answer `message` on `connection` once everything that is readable has been read."""
        waiting = self._waiting
        if not waiting:
            self._begun_ns = monotonic_ns()
            self._server.loop.call_soon(self.answer)
        connections = waiting.get(message)
        if connections is None:
            waiting[message] = [connection]
        else:
            connections.append(connection)

    def answer(self) -> None:
        """Answer all that wait; nothing happens if none does."""
        waiting, self._waiting = self._waiting, {}
        server = self._server
        timed: dict[int, int] = {}  # by endpoint
        for message, connections in waiting.items():
            try:
                response = server.handler.respond_now(message.request, len(connections))
                if (
                    response is None
                    or response.segments
                    or response.status not in _KEPT  # others are made for one request
                    or message.is_head
                    or server.draining
                    or message.persistence is not Persistence.KEEP_ALIVE
                ):
                    for connection in connections:
                        connection.answer_alone(message, response, self._begun_ns)
                else:
                    endpoint = message.request.endpoint
                    sent = self._send(message, response, connections)
                    timed[endpoint] = timed.get(endpoint, 0) + sent
            except Exception as error:  # noqa: BLE001 - others have asked for something else
                self._refuse(message, connections, error)
        for endpoint, times in timed.items():
            server.account.time(endpoint, self._begun_ns, times)

    def _send(self, message: Message, response: Response, connections: list[Connection]) -> int:
        """Send one response to all who asked for it; how many of them have the whole."""
        server = self._server
        whole = self._render(response)
        nbytes = len(whole)
        deadline = server.wheel.now + server.idle_ticks
        whole_ones: list[Connection] = []
        total = 0
        for connection in connections:
            if connection.state is not _PENDING:
                continue  # closed in between
            try:
                sent = connection.send(whole)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection.abort()
                continue
            except Exception as error:  # noqa: BLE001 - the others get the same answer
                connection.fail(error)
                continue
            total += sent
            if sent == nbytes:
                whole_ones.append(connection)
                connection.state = _READY
                connection.deadline = deadline
            else:
                connection.send_rest(message, response, whole, sent, self._begun_ns)
        server.turns.hurry(len(connections))
        counters, account, request = server.counters, server.account, message.request
        counters[slots.SENT_BYTES_COPY] += total
        counters[account.slots[request.endpoint][response.status]] += len(whole_ones)
        if account.access is not None:
            requests = [connection.own(message).request for connection in whole_ones]
            account.note(requests, response, self._begun_ns)
        return len(whole_ones)

    def _refuse(self, message: Message, connections: list[Connection], error: Exception) -> None:
        """Answer 500 to all who asked for what failed and have nothing yet; else end them."""
        try:
            response = self._server.handler.refuse(error)
        except Exception as failure:  # noqa: BLE001 - as above
            for connection in connections:
                if connection.state is _PENDING:
                    connection.fail(failure)
        else:
            for connection in connections:
                connection.answer_alone(message, response, self._begun_ns)

    def _render(self, response: Response) -> bytes:
        """Head, date and content in one piece, made anew when the second changes.

        One buffer costs less than three (0.84 against 1.12 to 1.28 µs a call, loopback, CPython
        3.11), and all connections that ask for the same share it.
        """
        tail = self._server.tails[Persistence.KEEP_ALIVE]
        rendered = self._rendered.get(response)
        if rendered is None or rendered[0] is not tail:
            if len(self._rendered) >= RENDERED_MAX:
                self._rendered.clear()
            head = response.head_h1 or render_head(response)
            rendered = self._rendered[response] = (tail, head + tail + response.content)
        return rendered[1]
