"""The TLS listener of one worker: makes connections of our own class, with Hypercorn inside them.

Owns the check that the installed Hypercorn is the one they were written for, the handshakes under
way, and what all TLS connections share: handler, limits, the wheel of deadlines, the Date field.
If the check fails, Hypercorn itself accepts and serves the same ASGI application: slower, and
without our bounds and deadlines.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import hypercorn.asyncio.run as hypercorn_run
from h2.connection import H2Connection
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config, Sockets
from hypercorn.protocol.h2 import H2Protocol

from zerocopy.core.counters import TLS
from zerocopy.transport.http2.batch import Receiver
from zerocopy.transport.http2.context import Http2Context
from zerocopy.transport.http2.tls_connection import TlsConnection
from zerocopy.transport.listener import Acceptor
from zerocopy.transport.request_metrics import RequestMetrics
from zerocopy.transport.scheduler import SendScheduler
from zerocopy.transport.timers import TICK_S

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
    from zerocopy.transport.request_metrics import Access

HYPERCORN_VERSION = "0.18."
H2_VERSION = "4."
"""The releases that transport/http2/connection.py was written for."""

SHORT_TURN_BYTES = 131_072
"""Bytes of a turn while small responses are asked for: some 75 µs of encryption."""

ABORT_S = 2.0
"""Seconds that connections get to end after the drain deadline aborted them."""

HANDSHAKE_GRACE_S = 1.0
"""Seconds that handshakes under way get at least once the server is told to stop."""

_H2PROTOCOL_NEEDS = (
    "_close_stream", "_create_stream", "_flush", "_handle_events", "_priority_updated",
    "_send_data", "_window_updated", "handle", "initiate", "send_task", "stream_send",
)  # fmt: skip
_TCPSERVER_NEEDS = ("_close", "_read_data", "protocol_send", "run")
_CONTEXT_NEEDS = ("mark_request", "terminated")
_H2_NEEDS = (
    "_closed_streams", "_handle_data_on_closed_stream", "_receive_data_frame", "_receive_frame",
    "_receive_headers_frame", "_receive_rst_stream_frame", "_receive_window_update_frame",
    "_stream_closed_by", "decoder", "encoder", "highest_inbound_stream_id", "incoming_buffer",
    "max_inbound_frame_size", "max_outbound_frame_size", "open_inbound_streams",
    "outbound_flow_control_window", "remote_settings", "state_machine", "streams",
)  # fmt: skip


def incompatibility() -> str | None:
    """Why our connections cannot take the place of Hypercorn's, or None where they can."""
    for package, wanted in (("hypercorn", HYPERCORN_VERSION), ("h2", H2_VERSION)):
        found = version(package)
        if not found.startswith(wanted):
            return f"{package} {found} is installed, {wanted}x is known"
    for name, owner, needs in (
        ("hypercorn.asyncio.run", hypercorn_run, ("worker_serve",)),
        ("H2Protocol", H2Protocol, _H2PROTOCOL_NEEDS),
        ("TCPServer", TCPServer, _TCPSERVER_NEEDS),
        ("WorkerContext", WorkerContext(None), _CONTEXT_NEEDS),
        ("h2", H2Connection(), _H2_NEEDS),
    ):
        missing = [need for need in needs if not hasattr(owner, need)]
        if missing:
            return f"{name} has no {', '.join(missing)}"
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
        admission: Admission,
        counters: Counters,
        on_transfer_failed: Callable[[Exception, PendingRequest | None], None],
        on_connection_failed: Callable[[BaseException], None],
        access: Access | None = None,
    ) -> None:
        self._loop = loop
        self.context = Http2Context(
            loop=loop,
            handler=handler,
            counters=counters,
            metrics=RequestMetrics(TLS, counters, access),
            scheduler=SendScheduler(loop, limits.turn_bytes_max, short_turn_bytes=SHORT_TURN_BYTES),
            limits=limits,
            on_transfer_failed=on_transfer_failed,
            on_connection_failed=on_connection_failed,
        )
        app.context = self.context
        self._app = ASGIWrapper(app)  # type: ignore[arg-type]
        self._bounds = limits
        self._admission = admission
        self._acceptor = Acceptor(loop, admission, self._open, TLS)
        self._ssl_context: ssl.SSLContext | None = None
        self._config: Config = Config()
        self._shared = WorkerContext(None)
        self._connections: set[TlsConnection] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._tick()

    async def start(
        self,
        listeners: Sequence[socket.socket],
        context: ssl.SSLContext,
        *,
        fits: bool = True,
        is_shared: bool = False,
    ) -> None:
        """Begin to accept on `listeners`, which are listening and from now on this server's.

        With `fits` False Hypercorn accepts, and its own connections serve.
        """
        self._ssl_context = context
        self._config = _HypercornConfig(context, self._bounds)
        if fits:
            self._acceptor.start(listeners, is_shared=is_shared)
        else:
            await self._start_hypercorn(listeners)

    async def _start_hypercorn(self, listeners: Sequence[socket.socket]) -> None:
        accepting = self._loop.create_future()

        async def until_stopped() -> None:
            if not accepting.done():
                accepting.set_result(None)
            await self._stopping.wait()

        serving = self._loop.create_task(
            hypercorn_run.worker_serve(
                self._app,
                self._config,
                sockets=Sockets(list(listeners), [], []),
                shutdown_trigger=until_stopped,
            )
        )
        await asyncio.wait((accepting, serving), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        self._serving = serving

    async def drain(self) -> None:
        """Stop accepting, tell clients to go, let responses finish, abort the late ones."""
        deadline_s, idle_s = self._bounds.drain_deadline_s, self._bounds.drain_idle_s
        self.context.drain(idle_s)
        self._acceptor.stop()
        for connection in list(self._connections):
            connection.retire()
        self._stopping.set()
        if not idle_s:
            await self._shared.terminated.set()
        grace_s = max(HANDSHAKE_GRACE_S, idle_s)
        self._loop.call_later(min(grace_s, deadline_s), self._end_handshakes)
        self._loop.call_later(deadline_s, self._abort_all)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=deadline_s + ABORT_S)
        if self._serving is not None:
            await self._serving
        if self._ticking is not None:
            self._ticking.cancel()

    def _end_handshakes(self) -> None:
        for task in list(self._handshakes):
            task.cancel()

    def _abort_all(self) -> None:
        for connection in list(self._connections):
            connection.reset()

    # ---- connections

    def _open(self, sock: socket.socket, seat: Seat) -> None:
        """A connection came in; it has yet to speak TLS."""
        task = self._loop.create_task(self._serve(sock, seat))
        self._handshakes.add(task)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._handshakes.discard(task)
        self._tasks.discard(task)

    async def _serve(self, sock: socket.socket, seat: Seat) -> None:
        """Serve a connection to its end; a handshake that fails is its client's affair."""
        task = asyncio.current_task()
        assert task is not None, "started by _open"
        try:
            with contextlib.suppress(OSError):
                reader, writer = await self._handshake(sock)
                self._handshakes.discard(task)
                await self._serve_http(reader, writer, is_refused=seat.is_refused)
        except Exception as error:  # noqa: BLE001 - one connection must not stop the others
            self.context.on_connection_failed(error)
        finally:
            self._admission.leave(seat)

    async def _serve_http(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_refused: bool
    ) -> None:
        connection = TlsConnection(
            self._app,
            self._loop,
            self._config,
            self._shared,
            {},
            reader,
            writer,
            context=self.context,
            is_refused=is_refused,
        )
        self._connections.add(connection)
        self.context.wheel.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _handshake(
        self, sock: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The two ends of a connection that speaks TLS.

        Raises:
            OSError: the client left, took too long, or speaks no TLS of ours.
        """
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = Receiver(reader, loop=self._loop)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol,
                sock,
                ssl=self._ssl_context,
                ssl_handshake_timeout=self._bounds.header_read_s,
            )
        except BaseException:
            sock.close()  # unless a transport owns it, which closes it by itself
            raise
        if transport.get_extra_info("ssl_object") is None:
            # uvloop calls it done when the connection is lost without an error.
            raise ConnectionAbortedError("the client left amid the handshake")
        return reader, asyncio.StreamWriter(transport, protocol, reader, self._loop)

    # ---- time

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        self.context.metrics.tick()
        self._acceptor.tick()
        self.context.set_second(int(time.time()))
        self.context.wheel.advance()  # the last: it raises what failed


class _HypercornConfig(Config):
    """Hypercorn's configuration; every bound it has a default for is ours."""

    def __init__(self, context: ssl.SSLContext, limits: Http2Limits) -> None:
        self._ssl_context = context
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
        """The context of this worker."""
        return self._ssl_context
