"""The plain HTTP/1.1 listener of one worker: keeps connections and their time, drains.

Owns the set of connections and what they share: the handler, the limits, the wheel of deadlines,
the lines that change once a second, and the request heads seen before. Every number that can grow
here has a bound.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from zerocopy.core.counters import PLAIN
from zerocopy.core.errors import OverloadError
from zerocopy.core.http.semantics import http_date
from zerocopy.core.window import fair_slices
from zerocopy.transport.http1.batch import Batch
from zerocopy.transport.http1.connection import Connection
from zerocopy.transport.http1.ray import FIELD, remembered
from zerocopy.transport.http1.state import STALL_SAMPLES, State
from zerocopy.transport.listener import Acceptor
from zerocopy.transport.request_metrics import Account
from zerocopy.transport.scheduler import Turns
from zerocopy.transport.timers import TICK_S, Wheel

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler, Response
    from zerocopy.core.http.pending import Exchange
    from zerocopy.transport.admission import Admission, Seat
    from zerocopy.transport.http1.parser import Message
    from zerocopy.transport.http1.ray import RaylessMessage
    from zerocopy.transport.limits import RequestLimits
    from zerocopy.transport.request_metrics import Access

SEGMENTS_HELD_MAX = 400_000
"""Segments of all answers being sent, about 500 bytes each; an answer beyond them gets 503."""

TURNS_AT_ONCE = 2
"""Full turns of large answers before the loop looks at its sockets again: some 300 µs. With one
it looks so often that forty streams lose a fifth of their speed."""

HEADS_MAX = 1_024
HEAD_BYTES_MAX = 2_048
HEAD_FIELDS_MAX = 32
"""Request heads remembered, of either kind, and how long one may be: about 8 MiB of a kind at the
very most."""

M = TypeVar("M", bound="Message")


@dataclass(frozen=True, slots=True, kw_only=True)
class Http1Limits:
    """Bounds of a connection: bytes and seconds, as in config.toml."""

    turn_bytes_max: int
    read_ahead_bytes_max: int
    open_files_max: int
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
        admission: Admission,
        counters: Counters,
        on_transfer_failed: Callable[[Exception, Exchange | None], None],
        on_connection_failed: Callable[[BaseException], None],
        access: Access | None = None,
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.counters = counters
        self.account = Account(PLAIN, counters, access)
        self.on_transfer_failed = on_transfer_failed
        self.on_connection_failed = on_connection_failed
        self.parser_limits = limits.parser
        self.turn_bytes_max = limits.turn_bytes_max
        self.window_bytes_max = limits.read_ahead_bytes_max
        self.open_files_max = limits.open_files_max
        self.wheel = Wheel()
        self.header_ticks = Wheel.ticks(limits.header_read_s)
        self.idle_ticks = Wheel.ticks(limits.idle_s)
        self.stall_ticks = Wheel.ticks(limits.write_progress_s / STALL_SAMPLES)
        self.draining = False
        self.heads: dict[bytes, Message] = {}
        self.rayless_heads: dict[bytes, RaylessMessage] = {}
        self.tails: tuple[bytes, bytes, bytes] = (b"", b"", b"")
        self.batch = Batch(self)
        self.turns = Turns(loop, limits.turn_bytes_max, TURNS_AT_ONCE)
        self.segments_held = 0
        self.transfers_held = 0
        self._second = 0
        self._admission = admission
        self._acceptor = Acceptor(loop, admission, self._open)
        self._connections: dict[Connection, Seat] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None

    def start(self, listeners: Sequence[socket.socket], *, is_shared: bool = False) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this server's."""
        self._set_date()
        self._acceptor.start(listeners, is_shared=is_shared)
        self._ticking = self.loop.call_later(TICK_S, self._tick)

    async def drain(self, deadline_s: float, idle_s: float = 0.0) -> None:
        """Stop accepting, let answers finish, close idle connections, abort the late ones.

        A request that comes within `idle_s` is still answered, with Connection: close: its client
        could not know, and may have sent it before the connection was closed.
        """
        self.draining = True
        self.idle_ticks = min(self.idle_ticks, Wheel.ticks(idle_s)) if idle_s else 0
        self._acceptor.stop()
        for connection in list(self._connections):
            try:
                connection.drain()
            except Exception as error:  # noqa: BLE001 - the others are still to be told
                connection.fail(error)
        if self._connections:
            self._emptied = self.loop.create_future()
            await asyncio.wait([self._emptied], timeout=deadline_s)
        for connection in list(self._connections):
            connection.abort()
        if self._ticking is not None:
            self._ticking.cancel()

    # ---- what connections use

    def window_slices(self, segment_count: int) -> int:
        """How many files an answer of so many segments may have open for one of its windows."""
        return fair_slices(segment_count, self.segments_held, self.open_files_max)

    def has_room_for(self, response: Response) -> bool:
        """Whether its segments fit beside those that stalled clients keep in memory."""
        return self.segments_held + len(response.segments) <= SEGMENTS_HELD_MAX or not (
            self.segments_held and response.segments
        )

    def remember_head(self, head: bytes, message: Message) -> None:
        """Keep what these bytes mean between two messages, whatever CF-Ray they have in them."""
        request = message.request
        if len(head) > HEAD_BYTES_MAX or len(request.fields) > HEAD_FIELDS_MAX:
            return
        if request.is_conditional and request.values(b"range"):
            return  # asked for once, as a rule: it would drive out what is asked for again
        if not request.values(FIELD):
            _keep(self.heads, head, message)
        elif (parts := remembered(head, message)) is not None:
            _keep(self.rayless_heads, *parts)
        # Else it has a CF-Ray that is not cut out, and so will not come again.

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run `work` to its end, even if its connection is gone: it may own descriptors."""
        task: asyncio.Task[None] = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def forget(self, connection: Connection) -> None:
        """A connection closed itself."""
        seat = self._connections.pop(connection, None)
        if seat is not None:
            self._admission.leave(seat)
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _open(self, sock: socket.socket, seat: Seat) -> None:
        """A connection came in."""
        connection = Connection(self, sock)
        self._connections[connection] = seat
        if seat.is_refused:
            try:
                connection.refuse(OverloadError("too many connections; try again"))
            except Exception as error:  # noqa: BLE001 - it has its seat, and leaves it once
                connection.fail(error)
        if connection.state is not State.CLOSED:
            self.wheel.add(connection)

    # ---- time

    def _tick(self) -> None:
        self._ticking = self.loop.call_later(TICK_S, self._tick)
        self.account.tick()
        self._set_date()
        self._acceptor.tick()
        self.wheel.advance()  # the last: it raises what failed

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


def _keep(heads: dict[bytes, M], head: bytes, message: M) -> None:
    """Remember one more; at the bound the oldest is forgotten."""
    if len(heads) >= HEADS_MAX and head not in heads:
        del heads[next(iter(heads))]
    heads[head] = message
