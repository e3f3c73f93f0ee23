"""A TLS listener inside the test's own event loop, and blocking clients in threads.

Owns a server of real connections over a fake handler, so that a test sees what a running server
does not tell: its tasks, its seats, and what it holds for answers.
"""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.tls import make_pair, trusting
from zerocopy.core import counters as slots
from zerocopy.core.errors import ZerocopyError
from zerocopy.core.http.messages import Request, Response, Unlimited
from zerocopy.core.plan import Segment, spread
from zerocopy.transport.admission import Admission
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.http2.context import Http2Limits
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.loop import new_event_loop
from zerocopy.transport.tls.server import TlsServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from zerocopy.core.window import Window

LIMITS = RequestLimits(
    target_bytes_max=8_192,
    field_bytes_max=8_192,
    head_bytes_max=32_768,
    fields_max=100,
    content_bytes_max=65_536,
)
LARGE_BYTES = 1_500_000
"""More than a connection of the bench buffers anywhere: it waits for its client."""

SMALL_BYTES = 2_000
BUFFER_BYTES = 65_536
"""Of sockets in the kernel, at both ends."""

CLIENTS = 48
PATIENCE_S = 40.0
CONTENT_READ_S = 1.0


class MemorySource:
    """Bytes that are always there."""

    def __init__(self, nbytes: int) -> None:
        self._content = memoryview(bytes(nbytes))

    def fileno(self) -> int:
        """Never asked: this is for sendfile(2)."""
        raise AssertionError

    def read(self, offset: int, count: int) -> bytes:
        """Never asked: this is for the plain path."""
        raise AssertionError((offset, count))

    def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of it."""
        return count

    def view(self, offset: int, count: int) -> memoryview:
        """A slice."""
        return self._content[offset : offset + count]

    def scatter(self, offset: int, targets: Sequence[memoryview]) -> None:
        """The same, copied."""
        spread(self._content[offset:], targets)


class BenchHandler(Unlimited):
    """Answers targets with `large` in them with `large`, others with 2 KB; `later` in a task.

    `answering` counts those who wait for it now. What is asked with POST is planned too.
    """

    def __init__(self) -> None:
        segments = (Segment(MemorySource(LARGE_BYTES), 0, LARGE_BYTES),)
        self.large = Response(200, (), b"header\n", segments)
        self.small = Response(200, (), bytes(SMALL_BYTES))
        self.gate = asyncio.Event()
        self.gate.set()
        self.answering = 0

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """What is asked with GET, but for `later`."""
        assert times >= 0
        if b"later" in request.target or request.method != b"GET":
            return None
        return self._response(request)

    def count_reused(self, times: int) -> None:
        """Nobody looks."""

    async def respond(self, request: Request) -> Response:
        """The same, once the gate is open."""
        self.answering += 1
        try:
            await self.gate.wait()
            await asyncio.sleep(0)
            return self._response(request)
        finally:
            self.answering -= 1

    def _response(self, request: Request) -> Response:
        return self.large if b"large" in request.target else self.small

    async def prepare(self, window: Window) -> None:
        """Everything is there."""
        raise AssertionError(window)

    def refuse(self, error: Exception) -> Response:
        """The status alone."""
        assert isinstance(error, ZerocopyError), error
        return Response(error.status, (), b"no")


class TlsBench:
    """A listener that serves `handler`; made in its event loop by `run`."""

    def __init__(self, directory: Path, handler: Any, **limits: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.handler = handler
        self.counters = [0] * len(slots.SLOTS)
        self.failures: list[Any] = []
        self._contexts = {name: _trusting(name) for name in ("http/1.1", "h2")}
        self._serving = make_pair(directory).context()
        self.app = AsgiApp(
            handler=handler,
            limits=LIMITS,
            content_read_s=CONTENT_READ_S,
            read_ahead_bytes_max=1 << 20,
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.failures.append(error),
        )
        bounds: dict[str, Any] = {
            "streams_max": 100,
            "control_frames_max": 1_000,
            "turn_bytes_max": 1 << 20,
            "read_ahead_bytes_max": 1 << 20,
            "open_files_max": 512,
            "header_read_s": 10.0,
            "idle_s": 60.0,
            "write_progress_s": 10.0,
            "drain_deadline_s": 60.0,
            "drain_idle_s": 0.0,
            "request": LIMITS,
        }
        self.server = TlsServer(
            loop=self.loop,
            handler=handler,
            app=self.app,
            limits=Http2Limits(**(bounds | limits)),
            admission=Admission(
                connections_max=1_000, connections_per_address_max=0, counters=self.counters
            ),
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.failures.append(error),
            on_connection_failed=self.failures.append,
        )
        self.threads = ThreadPoolExecutor(CLIENTS)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        self.address = self._listener.getsockname()
        self._idle_tasks = len(asyncio.all_tasks())

    async def start(self) -> None:
        """Accept."""
        self.server.start([self._listener], self._serving)

    async def in_threads(self, calls: list[Callable[[], Any]]) -> list[Any]:
        """What blocking clients give, all at once."""
        return list(
            await asyncio.gather(*(self.loop.run_in_executor(self.threads, call) for call in calls))
        )

    def connect(self, protocol: str = "http/1.1") -> ssl.SSLSocket:
        """A client, past its handshake; to be called in a thread."""
        sock = connect_tcp(self.address)
        try:
            return self._contexts[protocol].wrap_socket(sock, server_hostname="localhost")
        except OSError:
            sock.close()
            raise

    def held(self) -> dict[str, int]:
        """Everything that is not zero though nobody ought to be there."""
        server = self.server
        found = {
            "connections": self.counters[slots.CONNECTIONS + slots.TLS],
            "seats": server._admission._served + server._admission._refused,
            "known": len(server._http2) + len(server.http1) + len(server._handshakes),
            "streams": self.counters[slots.STREAMS],
            "in flight": self.counters[slots.REQUESTS_IN_FLIGHT],
            "segments": server.context.bodies.segments_held,
            "transfers": server.context.bodies.count,
            "answering": self.handler.answering,
            "tasks": len(asyncio.all_tasks()) - self._idle_tasks,
        }
        return {name: count for name, count in found.items() if count}

    async def until_nothing_is_held(self, *, is_hurried: bool = False) -> None:
        """Wait for it; AssertionError tells what is still held.

        With `is_hurried` the wheel turns faster than time, so that deadlines pass.
        """
        end_s = time.monotonic() + PATIENCE_S
        while found := self.held():
            assert time.monotonic() < end_s, f"still held: {found}"
            if is_hurried:
                self.server.context.wheel.advance()
            await asyncio.sleep(0.01)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for a condition; AssertionError if it never holds."""
        end_s = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end_s, "it never came to be"
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Drain, which has nothing to wait for."""
        async with asyncio.timeout(PATIENCE_S):
            await self.server.drain()
        self.threads.shutdown()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition of this event loop; TimeoutError after `PATIENCE_S`."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - conditions of the code under test, without events
            await asyncio.sleep(0.005)


def connect_tcp(address: tuple[str, int]) -> socket.socket:
    """A TCP connection with small buffers and a timeout."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    sock.settimeout(PATIENCE_S)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def _trusting(protocol: str) -> ssl.SSLContext:
    context = trusting()
    context.set_alpn_protocols([protocol])
    return context


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on a loop of ours."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
