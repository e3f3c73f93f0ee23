"""The plain HTTP/1.1 listener of one worker: makes connections, moves their time, drains.

Owns the set of connections, and the context that they share.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from zerocopy.core.counters import PLAIN
from zerocopy.core.errors import OverloadError
from zerocopy.core.http.messages import Request
from zerocopy.transport.channel import PlainChannel
from zerocopy.transport.http1.connection import Connection
from zerocopy.transport.http1.context import Http1Context
from zerocopy.transport.http1.parser import Message, Persistence
from zerocopy.transport.http1.state import State
from zerocopy.transport.listener import Acceptor
from zerocopy.transport.request_metrics import RequestMetrics
from zerocopy.transport.scheduler import SendScheduler
from zerocopy.transport.timers import TICK_S

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler
    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.transport.admission import Admission, Seat
    from zerocopy.transport.context import ConnectionLimits
    from zerocopy.transport.request_metrics import Access

TURNS_AT_ONCE = 2
"""Full turns of large responses before the loop polls its sockets again: some 300 µs. With one turn
it polls so often that forty streams lose a fifth of their speed."""

_REFUSED = Request(b"GET", b"", ())


class Http1Server:
    """Serves `handler` on listening sockets it is given. One for each worker."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        limits: ConnectionLimits,
        admission: Admission,
        counters: Counters,
        on_transfer_failed: Callable[[Exception, PendingRequest | None], None],
        on_connection_failed: Callable[[BaseException], None],
        access: Access | None = None,
    ) -> None:
        self._loop = loop
        self._connections: dict[Connection, Seat] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.context = Http1Context(
            loop=loop,
            handler=handler,
            counters=counters,
            metrics=RequestMetrics(PLAIN, counters, access),
            scheduler=SendScheduler(loop, limits.turn_bytes_max, TURNS_AT_ONCE),
            limits=limits,
            on_transfer_failed=on_transfer_failed,
            on_connection_failed=on_connection_failed,
            spawn=self._spawn,
            forget=self._forget,
        )
        self._admission = admission
        self._acceptor = Acceptor(loop, admission, self._open)
        self._emptied: asyncio.Future[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None

    def start(self, listeners: Sequence[socket.socket], *, is_shared: bool = False) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this server's."""
        self.context.tails.set_second(int(time.time()))
        self._acceptor.start(listeners, is_shared=is_shared)
        self._ticking = self._loop.call_later(TICK_S, self._tick)

    async def drain(self, deadline_s: float, idle_s: float = 0.0) -> None:
        """Stop accepting, let responses finish, close idle connections, abort the late ones.

        A request that comes within `idle_s` is still answered, with Connection: close: its client
        could not know, and may have sent it before the connection was closed.
        """
        self.context.drain(idle_s)
        self._acceptor.stop()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._emptied = self._loop.create_future()
            await asyncio.wait([self._emptied], timeout=deadline_s)
        for connection in list(self._connections):
            connection.abort()
        if self._ticking is not None:
            self._ticking.cancel()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run `work`; the loop itself would forget a task that nobody keeps."""
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self, connection: Connection) -> None:
        """A connection closed itself."""
        seat = self._connections.pop(connection, None)
        if seat is not None:
            self._admission.leave(seat)
        if not self._connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def _open(self, sock: socket.socket, seat: Seat) -> None:
        """A connection came in."""
        connection = Connection(self.context, PlainChannel(self._loop, sock))
        self._connections[connection] = seat
        if seat.is_refused:
            refusal = OverloadError("too many connections; try again")
            message = Message(_REFUSED, Persistence.CLOSE, refusal, time.monotonic_ns())
            connection.answer(message)
        if connection.state is not State.CLOSED:
            self.context.wheel.add(connection)

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        context = self.context
        context.metrics.tick()
        context.tails.set_second(int(time.time()))
        self._acceptor.tick()
        context.wheel.advance()  # the last: it raises what failed
