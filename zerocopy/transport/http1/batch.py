"""Requests that are received in one iteration of the event loop and answered together.

Owns the short way of a small request: its head was seen before, so it is not parsed, and its
response leaves in one send(2). All requests of an iteration are received before the first is
answered. So one proof that a response is still true serves every connection that asked for it: each
of them asked before the proof was made.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from zerocopy.core import counters as slots
from zerocopy.transport.http1.head import render_head
from zerocopy.transport.http1.parser import Persistence
from zerocopy.transport.http1.state import State

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Response
    from zerocopy.transport.channel import Buffer
    from zerocopy.transport.context import Context
    from zerocopy.transport.http1.head import Tails
    from zerocopy.transport.http1.parser import Message


RENDERED_MAX = 64
"""Small responses kept in one piece: 4 MiB by default, see `[limits] small_answer_bytes_max`."""

_KEPT = frozenset({200, 304})
_PENDING = State.PENDING


class Member(Protocol):
    """A connection, as the batch sees it."""

    @property
    def state(self) -> State:
        """PENDING, unless it was closed in between."""

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Send as much as the kernel takes; see `Channel`."""

    def sent_by_batch(self, deadline: int) -> None:
        """The kernel has all of a response."""

    def begun_by_batch(
        self, message: Message, response: Response, data: bytes, sent: int, begun_ns: int
    ) -> None:
        """The kernel has so many bytes of a response, which is `data` as a whole."""

    def answer_alone(self, message: Message, response: Response | None, begun_ns: int) -> None:
        """The batch cannot answer this one."""

    def abort(self) -> None:
        """Close with a reset."""

    def fail(self, error: Exception) -> None:
        """Log a fault of ours, and close with a reset."""


class Batch:
    """The connections of one listener that wait for the end of the iteration, by their request."""

    __slots__ = ("_begun_ns", "_context", "_rendered", "_tails", "_waiting")

    def __init__(self, context: Context, tails: Tails) -> None:
        self._context = context
        self._tails = tails
        self._rendered: dict[Response, tuple[bytes, bytes]] = {}
        self._waiting: dict[Message, list[Member]] = {}
        self._begun_ns = 0  # when the first of them was read

    def add(self, message: Message, connection: Member) -> None:
        """Answer `message` on `connection` once everything that is readable has been read."""
        waiting = self._waiting
        if not waiting:
            self._begun_ns = monotonic_ns()
            self._context.loop.call_soon(self.answer)
        connections = waiting.get(message)
        if connections is None:
            waiting[message] = [connection]
        else:
            connections.append(connection)

    def answer(self) -> None:
        """Answer all waiting requests, if there are any."""
        waiting, self._waiting = self._waiting, {}
        context = self._context
        timed: dict[int, int] = {}  # by endpoint
        for message, connections in waiting.items():
            try:
                response = context.handler.respond_now(message.request, len(connections))
                assert response is None or response.feed is None, "each has a feed of its own"
                if (
                    response is None
                    or response.segments
                    or response.status not in _KEPT  # others are made for one request
                    or message.is_head
                    or context.draining
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
            context.metrics.time(endpoint, self._begun_ns, times)

    def _send(self, message: Message, response: Response, connections: list[Member]) -> int:
        """Send one response to all connections that asked for it. Returns how many have all."""
        context = self._context
        data = self._render(response)
        nbytes = len(data)
        deadline = context.wheel.now + context.idle_ticks
        whole = total = 0
        for connection in connections:
            if connection.state is not _PENDING:
                continue  # closed in between
            try:
                sent = connection.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection.abort()
                continue
            except Exception as error:  # noqa: BLE001 - the others get the same response
                connection.fail(error)
                continue
            total += sent
            if sent == nbytes:
                whole += 1
                connection.sent_by_batch(deadline)
            else:
                connection.begun_by_batch(message, response, data, sent, self._begun_ns)
        context.scheduler.hurry(len(connections))
        counters, metrics, request = context.counters, context.metrics, message.request
        counters[slots.SENT_BYTES_COPY] += total
        counters[metrics.slots[request.endpoint][response.status]] += whole
        if metrics.access is not None:
            metrics.note(request, response, self._begun_ns, whole)
        return whole

    def _refuse(self, message: Message, connections: list[Member], error: Exception) -> None:
        """Answer 500 to the connections that have nothing yet; end the others."""
        try:
            response = self._context.handler.refuse(error)
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
        tail = self._tails.lines[Persistence.KEEP_ALIVE]
        rendered = self._rendered.get(response)
        if rendered is None or rendered[0] is not tail:
            if len(self._rendered) >= RENDERED_MAX:
                self._rendered.clear()
            head = response.head_h1 or render_head(response)
            rendered = self._rendered[response] = (tail, head + tail + response.content)
        return rendered[1]
