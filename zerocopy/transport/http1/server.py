"""The plain HTTP/1.1 listener of one worker: accepts, moves the time of its connections, drains."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zerocopy.core.counters import PLAIN
from zerocopy.transport.channel import PlainChannel
from zerocopy.transport.http1.connections import Http1Connections
from zerocopy.transport.listener import Acceptor
from zerocopy.transport.request_metrics import RequestMetrics
from zerocopy.transport.scheduler import SendScheduler
from zerocopy.transport.timers import TICK_S

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler
    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.transport.admission import Admission, Seat
    from zerocopy.transport.context import ConnectionLimits
    from zerocopy.transport.request_metrics import Access, Tally

TURNS_AT_ONCE = 2
"""Full turns of large responses before the loop polls its sockets again: some 300 µs. With one turn
it polls so often that forty streams lose a fifth of their speed."""


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
        tally: Tally | None = None,
        metrics_type: type[RequestMetrics] = RequestMetrics,
    ) -> None:
        self._loop = loop
        self.connections = Http1Connections(
            admission,
            loop=loop,
            handler=handler,
            counters=counters,
            metrics=metrics_type(PLAIN, counters, access, tally),
            scheduler=SendScheduler(loop, limits.turn_bytes_max, TURNS_AT_ONCE),
            limits=limits,
            on_transfer_failed=on_transfer_failed,
            on_connection_failed=on_connection_failed,
        )
        self.context = self.connections.context
        self._acceptor = Acceptor(loop, admission, self._open)
        self._ticking: asyncio.TimerHandle | None = None

    def start(self, listeners: Sequence[socket.socket], *, is_shared: bool = False) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this server's."""
        self.context.tails.set_second(int(time.time()))
        self._acceptor.start(listeners, is_shared=is_shared)
        self._ticking = self._loop.call_later(TICK_S, self._tick)

    async def drain(self, deadline_s: float, idle_s: float = 0.0) -> None:
        """Stop accepting, then as `Http1Connections.drain`."""
        self.context.drain(idle_s)
        self._acceptor.stop()
        await self.connections.drain(deadline_s)
        if self._ticking is not None:
            self._ticking.cancel()

    def _open(self, sock: socket.socket, seat: Seat) -> None:
        """A connection came in."""
        self.connections.serve(PlainChannel(self._loop, sock), seat)

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        context = self.context
        context.metrics.tick()
        context.tails.set_second(int(time.time()))
        self._acceptor.tick()
        context.wheel.advance()  # the last: it raises what failed
