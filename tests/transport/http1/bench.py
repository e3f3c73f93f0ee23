"""Connections over socket pairs, a fake handler, and a peer to drive them."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from tests.sources import Scatters
from tests.transport.feeds import FakeFeed
from zerocopy.core.counters import PLAIN, SLOTS, requests_slot
from zerocopy.core.endpoints import OTHER
from zerocopy.core.http.messages import Request, Response, Unlimited
from zerocopy.core.plan import Segment
from zerocopy.transport.admission import Admission
from zerocopy.transport.channel import PlainChannel
from zerocopy.transport.context import ConnectionLimits
from zerocopy.transport.http1.server import Http1Server
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from zerocopy.core.errors import ZerocopyError
    from zerocopy.core.http.stream import Item
    from zerocopy.core.window import Window
    from zerocopy.transport.http1.connection import Connection
    from zerocopy.transport.http1.reply import Reply

LARGE = os.urandom(3_000_000)
OTHER_200 = requests_slot(PLAIN, OTHER, 200)
"""The counter of what most tests ask for."""
PARSER_LIMITS = RequestLimits(
    target_bytes_max=8_192,
    field_bytes_max=8_192,
    head_bytes_max=32_768,
    fields_max=100,
    content_bytes_max=65_536,
)


def request(target: str, *fields: str, method: str = "GET") -> bytes:
    """The bytes of a request head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: t", *fields, "", ""]).encode()


class FileSource(Scatters):
    """The bytes of one open file, unless the test breaks it."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.broken: ZerocopyError | None = None

    def fileno(self) -> int:
        """The descriptor; what the test broke it with, once it is."""
        if self.broken is not None:
            raise self.broken
        return self.file.fileno()

    def read(self, offset: int, count: int) -> bytes:
        """Never called."""
        raise AssertionError((offset, count))

    def ready(self, _offset: int, count: int, *, mapped: bool = False) -> int:  # noqa: ARG002
        """All of it is in memory."""
        return count

    def view(self, offset: int, count: int) -> memoryview | bytes:
        """Never called: this is for TLS."""
        raise AssertionError((offset, count))


class FakeHandler(Unlimited):
    """Answers /now at once, /later when `gate` opens, /large from a file; writes down all.

    /live has a feed of its own for each request, which says `first`; `feeds` has them all.
    """

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.gate = asyncio.Event()
        self.asked: list[bytes] = []
        self.times: list[int] = []
        self.refused: list[Exception] = []
        self.feeds: list[FakeFeed] = []
        self.first: list[Item] = []

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """All but /later and /live."""
        self.asked.append(request.target)
        self.times.append(times)
        if request.target in (b"/later", b"/live"):
            return None
        if request.target == b"/large":
            segments = (Segment(self.source, 0, len(LARGE)),)
            return Response(200, (), b"header\n", segments)
        return Response(200, ((b"X-Target", request.target),), b"now")

    def count_reused(self, times: int) -> None:
        """HTTP/1.1 tells `respond_now` beforehand."""
        raise NotImplementedError

    async def prepare(self, window: Window) -> None:
        """What the test has not made ready stays so."""

    async def respond(self, request: Request) -> Response:
        """The answers to /later and /live."""
        await self.gate.wait()
        if request.target == b"/live":
            self.feeds.append(FakeFeed(*self.first))
            fields = ((b"Content-Type", b"text/event-stream"),)
            return Response(200, fields, feed=self.feeds[-1])
        return Response(200, ((b"X-Target", request.target),), b"later")

    def refuse(self, error: Exception) -> Response:
        """A short text."""
        self.refused.append(error)
        return Response(getattr(error, "status", 500), (), b"refused")


class Peer:
    """The client's end, and what it received but did not look at yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()

    def send(self, data: bytes) -> None:
        """Send what fits into the socket at once."""
        assert self.sock.send(data) == len(data)

    async def recv(self) -> bytes:
        """Whatever comes next."""
        return await asyncio.get_running_loop().sock_recv(self.sock, 65_536)


class Bench:
    """A server without a listener, and the peers of the connections it was given."""

    def __init__(self, source: FileSource, **limits: float) -> None:
        self.handler = FakeHandler(source)
        self.counters = [0] * len(SLOTS)
        self.failures: list[Exception] = []
        self.faults: list[BaseException] = []
        values = {"connections_max": 10, "turn_bytes_max": 100_000} | limits
        self.admission = Admission(
            connections_max=int(values["connections_max"]),
            connections_per_address_max=0,
            counters=self.counters,
        )
        self.server = Http1Server(
            loop=asyncio.get_running_loop(),
            handler=self.handler,
            limits=ConnectionLimits(
                turn_bytes_max=int(values["turn_bytes_max"]),
                read_ahead_bytes_max=1 << 20,
                open_files_max=512,
                header_read_s=10,
                idle_s=10,
                write_progress_s=10,
                request=PARSER_LIMITS,
            ),
            admission=self.admission,
            counters=self.counters,
            on_transfer_failed=lambda error, _: self.failures.append(error),
            on_connection_failed=self.faults.append,
        )
        self.server.start([])
        self.peers: list[Peer] = []

    def connect(self) -> tuple[Peer, Connection]:
        """A client's end and the server's connection."""
        end, sock = socket.socketpair()
        end.setblocking(False)
        sock.setblocking(False)
        peer = Peer(end)
        self.peers.append(peer)
        known = set(self.server.connections._open)
        seat = self.admission.enter("127.0.0.1")
        assert seat is not None
        self.server._open(sock, seat)
        (connection,) = set(self.server.connections._open) - known
        return peer, connection

    async def close(self) -> None:
        """Drain at once and close every peer."""
        await self.server.drain(0)
        for peer in self.peers:
            peer.sock.close()


def run(
    source: FileSource,
    scenario: Callable[[Bench], Awaitable[None]],
    *,
    patience_s: float = 10,
    **limits: float,
) -> None:
    """Run a scenario on our event loop, with a bench made there."""

    async def main() -> None:
        bench = Bench(source, **limits)
        try:
            await asyncio.wait_for(scenario(bench), patience_s)
        finally:
            await bench.close()
            source.file.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


async def receive(peer: Peer, count: int) -> bytes:
    """Exactly `count` bytes, fewer at the end of the connection."""
    while len(peer.buffer) < count and (data := await peer.recv()):
        peer.buffer += data
    received = bytes(peer.buffer[:count])
    del peer.buffer[:count]
    return received


async def answer(peer: Peer, *, is_head: bool = False) -> tuple[bytes, bytes]:
    """Head and content of the next answer; the content of an answer to HEAD is empty."""
    while (end := peer.buffer.find(b"\r\n\r\n")) < 0:
        data = await peer.recv()
        assert data, "the connection ended"
        peer.buffer += data
    head = await receive(peer, end + 4)
    length = 0 if is_head else int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
    return head, await receive(peer, length)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until `condition` holds; the scenario's timeout is the deadline."""
    while not condition():  # noqa: ASYNC110 - conditions of the code under test, without events
        await asyncio.sleep(0.001)


def reply_of(connection: Connection) -> Reply:
    """What becomes of the request that is not answered at once."""
    reply = connection._sender._reply
    assert reply is not None
    return reply


def channel_of(connection: Connection) -> PlainChannel:
    """What carries its bytes."""
    channel = connection._channel
    assert isinstance(channel, PlainChannel)
    return channel


def is_amid_request(connection: Connection) -> bool:
    """Whether a part of a request was read."""
    return connection._parser is not None and not connection._parser.at_boundary
