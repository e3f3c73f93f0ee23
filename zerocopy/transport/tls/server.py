"""The TLS listener of one worker: accepts, shakes hands, hands over to HTTP/2 or HTTP/1.1, drains.

Owns the handshakes under way and the set of HTTP/2 connections. Both protocols share the wheel, the
turns and the bounds of the listener.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from zerocopy.core.counters import KERNEL_TLS, TLS
from zerocopy.transport.http1.connections import Http1Connections
from zerocopy.transport.http2.context import Http2Context
from zerocopy.transport.http2.wire import Http2Wire
from zerocopy.transport.listener import Acceptor
from zerocopy.transport.request_metrics import RequestMetrics
from zerocopy.transport.scheduler import SendScheduler
from zerocopy.transport.timers import TICK_S
from zerocopy.transport.tls import kernel
from zerocopy.transport.tls.channel import TlsChannel
from zerocopy.transport.tls.handshake import PROTOCOLS, Handshake, HandshakeSocket, refuse_protocols

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import Handler
    from zerocopy.core.http.pending import PendingRequest
    from zerocopy.transport.admission import Admission, Seat
    from zerocopy.transport.asgi import AsgiApp
    from zerocopy.transport.http2.context import Http2Limits
    from zerocopy.transport.request_metrics import Access, Tally

SHORT_TURN_BYTES = 131_072
"""Bytes of a turn while small responses are asked for: some 75 µs of encryption."""

ABORT_S = 2.0
"""Seconds that connections get to end after the drain deadline aborted them."""

HANDSHAKE_GRACE_S = 1.0
"""Seconds that handshakes under way get at least once the server is told to stop."""


class TlsServer:
    """Serves `handler` over TLS on listening sockets it is given. One for each worker."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        app: AsgiApp,
        limits: Http2Limits,
        admission: Admission,
        counters: Counters,
        on_transfer_failed: Callable[[Exception, PendingRequest | None], None],
        on_connection_failed: Callable[[BaseException], None],
        access: Access | None = None,
        tally: Tally | None = None,
        metrics_type: type[RequestMetrics] = RequestMetrics,
    ) -> None:
        self._loop = loop
        shared: dict[str, Any] = {
            "loop": loop,
            "handler": handler,
            "counters": counters,
            "metrics": metrics_type(TLS, counters, access, tally),
            "scheduler": SendScheduler(
                loop, limits.turn_bytes_max, short_turn_bytes=SHORT_TURN_BYTES
            ),
            "limits": limits,
            "on_transfer_failed": on_transfer_failed,
            "on_connection_failed": on_connection_failed,
        }
        self.context = Http2Context(app=app, **shared)
        self.http1 = Http1Connections(
            admission, wheel=self.context.wheel, bodies=self.context.bodies, **shared
        )
        self._limits = limits
        self._admission = admission
        self._acceptor = Acceptor(loop, admission, self._open, TLS)
        self._tls_context: ssl.SSLContext | None = None
        self._may_be_kernel = False
        self._protocols: frozenset[bytes] = frozenset()
        self._handshakes: set[Handshake] = set()
        self._http2: set[Http2Wire] = set()
        self._emptied: asyncio.Future[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._tick()

    def start(
        self,
        listeners: Sequence[socket.socket],
        context: ssl.SSLContext,
        *,
        protocols: Sequence[str] = PROTOCOLS,
        is_shared: bool = False,
    ) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this server's.

        `protocols` are those of `PROTOCOLS` that it speaks, the preferred one first.
        """
        self._may_be_kernel = bool(context.options & kernel.ENABLE_KTLS)
        context.set_alpn_protocols(list(protocols))
        self._protocols = frozenset(name.encode() for name in protocols)
        context.sslsocket_class = HandshakeSocket
        context.sni_callback = refuse_protocols
        self._tls_context = context
        self._acceptor.start(listeners, is_shared=is_shared)

    async def drain(self) -> None:
        """Stop accepting, tell clients to go, let responses finish, abort the late ones."""
        deadline_s, idle_s = self._limits.drain_deadline_s, self._limits.drain_idle_s
        begun_s = self._loop.time()
        self.context.drain(idle_s)
        self.http1.context.drain(idle_s)
        self._acceptor.stop()
        for connection in list(self._http2):
            connection.retire()
        grace_s = min(max(HANDSHAKE_GRACE_S, idle_s), deadline_s)
        self._loop.call_later(grace_s, self._end_handshakes)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.http1.drain(deadline_s))
            tasks.create_task(self._until_empty(deadline_s))
        # A handshake that was under way may have made a connection of HTTP/1.1 since.
        await self.http1.until_empty(begun_s + deadline_s - self._loop.time())
        if self._ticking is not None:
            self._ticking.cancel()

    async def _until_empty(self, deadline_s: float) -> None:
        """Until no handshake and no HTTP/2 connection is left; the late ones are reset."""
        for wait_s in (deadline_s, ABORT_S):
            if self._http2 or self._handshakes:
                self._emptied = self._loop.create_future()
                await asyncio.wait([self._emptied], timeout=wait_s)
            for connection in list(self._http2):
                connection.reset()

    def _end_handshakes(self) -> None:
        for handshake in list(self._handshakes):
            handshake.close()

    # ---- connections

    def _open(self, sock: socket.socket, seat: Seat) -> None:
        """A connection came in; it has yet to speak TLS."""
        assert self._tls_context is not None, "set by start"
        handshake = Handshake(
            self.context,
            (sock, self._tls_context),
            seat,
            protocols=self._protocols,
            on_done=self._on_secured,
            on_failed=self._on_failed,
        )
        self._handshakes.add(handshake)
        self.context.wheel.add(handshake)

    def _on_secured(self, handshake: Handshake, sock: ssl.SSLSocket) -> None:
        """A connection speaks TLS, and what both sides agreed on above it."""
        self._handshakes.discard(handshake)
        is_kernel = self._may_be_kernel and kernel.encrypts(sock)
        self.context.counters[KERNEL_TLS] += is_kernel
        channel, seat = TlsChannel(self._loop, sock, is_kernel=is_kernel), handshake.seat
        if sock.selected_alpn_protocol() == "h2":
            wire = Http2Wire(
                self.context, channel, partial(self._forget, seat), is_refused=seat.is_refused
            )
            self._http2.add(wire)
            self.context.wheel.add(wire)
        else:
            self.http1.serve(channel, seat)
            self._tell_if_empty()

    def _on_failed(self, handshake: Handshake) -> None:
        """A handshake came to nothing."""
        self._handshakes.discard(handshake)
        self._admission.leave(handshake.seat)
        self._tell_if_empty()

    def _forget(self, seat: Seat, wire: Http2Wire) -> None:
        """An HTTP/2 connection has ended."""
        self._http2.discard(wire)
        self._admission.leave(seat)
        self._tell_if_empty()

    def _tell_if_empty(self) -> None:
        if self._emptied is not None and not (self._http2 or self._handshakes):
            emptied, self._emptied = self._emptied, None
            if not emptied.done():
                emptied.set_result(None)

    # ---- time

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        second = int(time.time())
        self.context.metrics.tick()
        self._acceptor.tick()
        self.context.set_second(second)
        self.http1.context.tails.set_second(second)
        self.context.wheel.advance()  # the last: it raises what failed
