"""The plain HTTP/1.1 listener of one worker: accepts, keeps time, drains.

Owns the set of connections and what they share: the handler, the limits, the wheel of deadlines,
the lines that change once a second, and the request heads seen before. Every number that can grow
here has a bound.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.errors import OverloadError
from zerocopy.core.semantics import http_date
from zerocopy.transport.deadlines import TICK_S, Wheel
from zerocopy.transport.http1 import Connection
from zerocopy.transport.http1_batch import Batch
from zerocopy.transport.http1_state import STALL_SAMPLES, State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.messages import Handler, Response
    from zerocopy.transport.http1_parser import Message
    from zerocopy.transport.limits import RequestLimits

ACCEPTS_PER_TURN = 64
"""Connections accepted before the ones that are open get their turn."""

REFUSALS_MAX = 64
"""Connections above the bound that may be told so at once; more are closed without a word."""

SEGMENTS_HELD_MAX = 400_000
"""Segments of all answers being sent, about 500 bytes each; an answer beyond them gets 503."""

HEADS_MAX = 1_024
HEAD_BYTES_MAX = 2_048
HEAD_FIELDS_MAX = 32
"""Request heads remembered, and how long one may be: about 8 MiB together at the very most."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Http1Limits:
    """Bounds of a listener: counts, bytes and seconds, as in config.toml."""

    connections_max: int
    turn_bytes_max: int
    header_read_s: float
    idle_s: float
    write_progress_s: float
    parser: RequestLimits


class Http1Server:
    """Serves `handler` on listening sockets it is given. One for each worker."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        limits: Http1Limits,
        counters: Counters,
        on_transfer_failed: Callable[[Exception], None],
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.counters = counters
        self.on_transfer_failed = on_transfer_failed
        self.parser_limits = limits.parser
        self.turn_bytes_max = limits.turn_bytes_max
        self.wheel = Wheel()
        self.header_ticks = Wheel.ticks(limits.header_read_s)
        self.idle_ticks = Wheel.ticks(limits.idle_s)
        self.stall_ticks = Wheel.ticks(limits.write_progress_s / STALL_SAMPLES)
        self.draining = False
        self.heads: dict[bytes, Message] = {}
        self.tails: tuple[bytes, bytes, bytes] = (b"", b"", b"")
        self.batch = Batch(self)
        self.segments_held = 0
        self._second = 0
        self._connections: set[Connection] = set()
        self._connections_max = limits.connections_max
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self._paused = False
        self._emptied: asyncio.Future[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None

    def start(self, listeners: Sequence[socket.socket]) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this server's."""
        self._listeners = list(listeners)
        for listener in self._listeners:
            listener.setblocking(False)
            # Accepted sockets inherit it (tcp(7)), so it costs no call for each.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._set_date()
        self._accept_again()
        self._ticking = self.loop.call_later(TICK_S, self._tick)

    async def drain(self, deadline_s: float) -> None:
        """Stop accepting, close idle connections, let answers finish, abort the late ones."""
        self.draining = True
        for listener in self._listeners:
            self.loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners = []
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._emptied = self.loop.create_future()
            await asyncio.wait([self._emptied], timeout=deadline_s)
        for connection in list(self._connections):
            connection.abort()
        if self._ticking is not None:
            self._ticking.cancel()

    # ---- what connections use

    def has_room_for(self, response: Response) -> bool:
        """Whether its segments fit beside those that stalled clients keep in memory."""
        return self.segments_held + len(response.segments) <= SEGMENTS_HELD_MAX or not (
            self.segments_held and response.segments
        )

    def remember_head(self, head: bytes, message: Message) -> None:
        """Keep what these bytes mean between two messages; the oldest is forgotten at the bound."""
        if len(head) > HEAD_BYTES_MAX or len(message.request.fields) > HEAD_FIELDS_MAX:
            return
        if len(self.heads) >= HEADS_MAX:
            del self.heads[next(iter(self.heads))]
        self.heads[head] = message

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` to its end, even if its connection is gone: it may own descriptors."""
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, connection: Connection) -> None:
        """A connection closed itself."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.counters[slots.CONNECTIONS] -= 1
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    # ---- accepting

    def _on_acceptable(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # The listener stays readable: without a pause the loop would spin.
                    self._pause_accepting()
                    return
                continue  # a fault of that connection alone (accept(2), Error handling)
            sock.setblocking(False)
            self._open(sock)

    def _open(self, sock: socket.socket) -> None:
        count = self.counters[slots.CONNECTIONS]  # of all listeners of this worker
        self.counters[slots.CONNECTIONS_ACCEPTED] += 1
        if count >= self._connections_max + REFUSALS_MAX:
            self.counters[slots.CONNECTIONS_REFUSED] += 1
            sock.close()
            return
        connection = Connection(self, sock)
        self._connections.add(connection)
        self.counters[slots.CONNECTIONS] = count + 1
        if count >= self._connections_max:
            self.counters[slots.CONNECTIONS_REFUSED] += 1
            connection.refuse(OverloadError("too many connections; try again"))
        if connection.state is not State.CLOSED:
            self.wheel.add(connection)

    def _pause_accepting(self) -> None:
        self._paused = True
        for listener in self._listeners:
            self.loop.remove_reader(listener.fileno())

    def _accept_again(self) -> None:
        self._paused = False
        for listener in self._listeners:
            self.loop.add_reader(listener.fileno(), self._on_acceptable, listener)

    # ---- time

    def _tick(self) -> None:
        self._ticking = self.loop.call_later(TICK_S, self._tick)
        self._set_date()
        self.wheel.advance()
        if self._paused:
            self._accept_again()

    def _set_date(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            date = b"Date: " + http_date(second) + b"\r\n"
            self.tails = (
                date + b"\r\n",
                date + b"Connection: keep-alive\r\n\r\n",
                date + b"Connection: close\r\n\r\n",
            )
