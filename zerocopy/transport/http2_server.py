"""The TLS listener of one worker: Hypercorn runs it, with connections of our own class.

Owns the one place where Hypercorn is changed (`hypercorn.asyncio.run.TCPServer`), the check that it
is the Hypercorn that place was written for, and what all TLS connections share: handler, limits,
the wheel of deadlines, the Date field, the bound on connections. Where the check fails, Hypercorn
serves the same ASGI application in its own way, slower and without our deadlines.
"""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import hypercorn.asyncio.run as hypercorn_run
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.config import Config, Sockets
from hypercorn.protocol.h2 import H2Protocol

from zerocopy.core import counters as slots
from zerocopy.core.semantics import http_date
from zerocopy.transport.deadlines import TICK_S, Wheel
from zerocopy.transport.http1_server import REFUSALS_MAX, SEGMENTS_HELD_MAX
from zerocopy.transport.http1_state import STALL_SAMPLES
from zerocopy.transport.http2_head import literal
from zerocopy.transport.tls_connection import TlsConnection

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.messages import Handler, Response
    from zerocopy.transport.asgi import AsgiApp
    from zerocopy.transport.limits import RequestLimits

HYPERCORN_VERSION = "0.18."
H2_VERSION = "4."
"""The releases that transport/http2.py was written for."""

ABORT_S = 2.0
"""Seconds that connections get to end after the drain deadline aborted them."""

_HOOK = "TCPServer"
"""The name in hypercorn.asyncio.run that is called for each connection: the one place."""

_H2PROTOCOL_NEEDS = (
    "_close_stream", "_create_stream", "_flush", "_handle_events", "_priority_updated",
    "_send_data", "_window_updated", "handle", "initiate", "send_task", "stream_send",
)  # fmt: skip
_TCPSERVER_NEEDS = ("_close", "_read_data", "protocol_send", "run")
_H2_NEEDS = (
    "_closed_streams", "decoder", "encoder", "highest_inbound_stream_id", "incoming_buffer",
    "max_inbound_frame_size", "max_outbound_frame_size", "outbound_flow_control_window",
    "remote_settings", "state_machine", "streams",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Limits:
    """Bounds of the TLS listener: counts, bytes and seconds, as in config.toml."""

    connections_max: int
    streams_max: int
    control_frames_max: int
    turn_bytes_max: int
    header_read_s: float
    idle_s: float
    write_progress_s: float
    drain_deadline_s: float
    request: RequestLimits


def misfit() -> str | None:
    """Why our connections cannot take the place of Hypercorn's, or None where they can."""
    for package, wanted in (("hypercorn", HYPERCORN_VERSION), ("h2", H2_VERSION)):
        found = version(package)
        if not found.startswith(wanted):
            return f"{package} {found} is installed, {wanted}x is known"
    for owner, names in (
        (hypercorn_run, (_HOOK, "worker_serve")),
        (H2Protocol, _H2PROTOCOL_NEEDS),
        (TCPServer, _TCPSERVER_NEEDS),
        (H2Connection(), _H2_NEEDS),
    ):
        missing = [name for name in names if not hasattr(owner, name)]
        if missing:
            return f"{getattr(owner, '__name__', 'h2')} has no {', '.join(missing)}"
    return None


class Http2Server:
    """Serves `handler` over TLS on listening sockets it is given. One for each worker."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        app: AsgiApp,
        limits: Http2Limits,
        counters: Counters,
        on_transfer_failed: Callable[[Exception], None],
        on_connection_failed: Callable[[BaseException], None],
    ) -> None:
        self.loop = loop
        self.handler = handler
        self.counters = counters
        self.on_transfer_failed = on_transfer_failed
        self.on_connection_failed = on_connection_failed
        self.limits = limits.request
        self.streams_max = limits.streams_max
        self.control_frames_max = limits.control_frames_max
        self.turn_bytes_max = limits.turn_bytes_max
        self.header_list_bytes_max = 4 * limits.request.head_bytes_max  # above it no 431: GOAWAY
        self.wheel = Wheel()
        self.header_ticks = Wheel.ticks(limits.header_read_s)
        self.idle_ticks = Wheel.ticks(limits.idle_s)
        self.stall_ticks = Wheel.ticks(limits.write_progress_s / STALL_SAMPLES)
        self.draining = False
        self.segments_held = 0
        self.second = 0
        self.date_h2 = b""
        self._app = app
        self._bounds = limits
        self._connections: set[TlsConnection] = set()
        self._stopping = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._tick()

    async def start(
        self, listeners: Sequence[socket.socket], context: ssl.SSLContext, *, hooked: bool = True
    ) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this server's.

        With `hooked` False Hypercorn's own connections serve.
        """
        ours = functools.partial(TlsConnection, server=self)
        setattr(hypercorn_run, _HOOK, ours if hooked else TCPServer)
        accepting = self.loop.create_future()

        async def until_stopped() -> None:
            if not accepting.done():
                accepting.set_result(None)
            await self._stopping.wait()

        self._serving = self.loop.create_task(
            hypercorn_run.worker_serve(
                ASGIWrapper(self._app),  # type: ignore[arg-type]
                _HypercornConfig(context, self._bounds),
                sockets=Sockets(list(listeners), [], []),
                shutdown_trigger=until_stopped,
            )
        )
        await asyncio.wait((accepting, self._serving), return_when=asyncio.FIRST_COMPLETED)
        if self._serving.done():
            self._serving.result()

    async def drain(self) -> None:
        """Stop accepting, tell clients to go, let answers finish, abort the late ones."""
        self.draining = True
        for connection in list(self._connections):
            connection.leave()
        self._stopping.set()
        self.loop.call_later(self._bounds.drain_deadline_s, self._abort_all)
        if self._serving is not None:
            await self._serving
        if self._ticking is not None:
            self._ticking.cancel()

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    # ---- what connections use

    def local_settings(self) -> Settings:
        """The SETTINGS of a connection's server side, RFC 9113 section 6.5.2."""
        return Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: self.streams_max,
                SettingCodes.MAX_HEADER_LIST_SIZE: self.limits.head_bytes_max,
            },
        )

    def has_room_for(self, response: Response) -> bool:
        """Whether its segments fit beside those that stalled clients keep in memory."""
        return self.segments_held + len(response.segments) <= SEGMENTS_HELD_MAX or not (
            self.segments_held and response.segments
        )

    def admit(self, connection: TlsConnection) -> bool:
        """Count a new connection; whether it may be served. One far above the bound is aborted."""
        count = self.counters[slots.CONNECTIONS]
        self.counters[slots.CONNECTIONS_ACCEPTED] += 1
        self.counters[slots.CONNECTIONS] = count + 1
        self._connections.add(connection)
        self.wheel.add(connection)
        if count < self._bounds.connections_max:
            return True
        self.counters[slots.CONNECTIONS_REFUSED] += 1
        if count >= self._bounds.connections_max + REFUSALS_MAX:
            connection.abort()
        return False

    def forget(self, connection: TlsConnection) -> None:
        """A connection has ended."""
        if connection in self._connections:
            self._connections.remove(connection)
            self.counters[slots.CONNECTIONS] -= 1

    # ---- time

    def _tick(self) -> None:
        self._ticking = self.loop.call_later(TICK_S, self._tick)
        self.wheel.advance()
        second = int(time.time())
        if second != self.second:
            self.second = second
            self.date_h2 = literal(b"date", http_date(second))


class _HypercornConfig(Config):
    """Hypercorn's configuration; every bound it has a default for is ours."""

    def __init__(self, context: ssl.SSLContext, limits: Http2Limits) -> None:
        self._context = context
        self.errorlog = None
        self.accesslog = None
        self.include_server_header = False
        self.h11_max_incomplete_size = limits.request.head_bytes_max
        self.h2_max_concurrent_streams = limits.streams_max
        self.keep_alive_timeout = limits.idle_s
        self.keep_alive_max_requests = 2**63
        self.graceful_timeout = limits.drain_deadline_s + ABORT_S
        self.ssl_handshake_timeout = limits.header_read_s

    @property
    def ssl_enabled(self) -> bool:
        """Always; the context is ours."""
        return True

    def create_ssl_context(self) -> Any:
        """The context that is reloaded without Hypercorn knowing."""
        return self._context
