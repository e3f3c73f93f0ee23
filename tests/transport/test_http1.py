"""Connection and Http1Server over a socketpair, with a handler that does what a test wants."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.errors import DataChangedError
from zerocopy.core.messages import Request, Response
from zerocopy.core.plan import Segment
from zerocopy.transport.http1 import Connection
from zerocopy.transport.http1_parser import ParserLimits
from zerocopy.transport.http1_server import HEAD_BYTES_MAX, HEADS_MAX, Http1Limits, Http1Server
from zerocopy.transport.http1_state import PIPELINE_MAX, State
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LARGE = os.urandom(3_000_000)
PARSER_LIMITS = ParserLimits(
    target_bytes_max=8_192,
    field_bytes_max=8_192,
    head_bytes_max=32_768,
    fields_max=100,
    content_bytes_max=65_536,
)


def request(target: str, *fields: str, method: str = "GET") -> bytes:
    """The bytes of a request head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: t", *fields, "", ""]).encode()


class FileSource:
    """The bytes of one open file, unless the test breaks it."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.broken = False

    def fileno(self) -> int:
        """The descriptor; DataChangedError once broken."""
        if self.broken:
            raise DataChangedError("broken by the test")
        return self.file.fileno()

    def read(self, offset: int, count: int) -> bytes:
        """Never called."""
        raise AssertionError((offset, count))


class FakeHandler:
    """Answers /now at once, /later when `gate` opens, /large from a file; writes down all."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self.gate = asyncio.Event()
        self.asked: list[bytes] = []
        self.refused: list[Exception] = []

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """All but /later."""
        self.asked.append(request.target)
        if request.target == b"/later":
            return None
        if request.target == b"/large":
            segments = (Segment(self.source, 0, len(LARGE)),)
            return Response(200, (), b"header\n", segments, len(LARGE))
        return Response(200, ((b"X-Target", request.target),), b"now")

    async def respond(self, request: Request) -> Response:
        """The answer to /later."""
        await self.gate.wait()
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
        values = {"connections_max": 10, "turn_bytes_max": 100_000} | limits
        self.server = Http1Server(
            loop=asyncio.get_running_loop(),
            handler=self.handler,
            limits=Http1Limits(
                connections_max=int(values["connections_max"]),
                turn_bytes_max=int(values["turn_bytes_max"]),
                header_read_s=10,
                idle_s=10,
                write_progress_s=10,
                parser=PARSER_LIMITS,
            ),
            counters=self.counters,
            on_transfer_failed=self.failures.append,
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
        known = set(self.server._connections)
        self.server._open(sock)
        (connection,) = self.server._connections - known
        return peer, connection

    async def close(self) -> None:
        """Drain at once and close every peer."""
        await self.server.drain(0)
        for peer in self.peers:
            peer.sock.close()


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    """A file of LARGE."""
    (tmp_path / "large").write_bytes(LARGE)
    return FileSource(tmp_path / "large")


def run(source: FileSource, scenario: Callable[[Bench], Awaitable[None]], **limits: float) -> None:
    """Run a scenario on our event loop, with a bench made there."""

    async def main() -> None:
        bench = Bench(source, **limits)
        try:
            await asyncio.wait_for(scenario(bench), 10)
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


def is_amid_request(connection: Connection) -> bool:
    """Whether a part of a request was read."""
    return connection._parser is not None and not connection._parser.at_boundary


def test_answers_now_later_and_from_files_keep_the_order(source: FileSource) -> None:
    """Whatever each answer takes, a pipeline is answered one by one in its order."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(b"".join(map(request, ["/1", "/later", "/large", "/2", "/later", "/3"])))
        head, content = await answer(peer)
        assert (b"X-Target: /1" in head, content) == (True, b"now")
        await until(lambda: connection.state is State.WAITING)
        assert bench.handler.asked == [b"/1", b"/later"], "the next is not begun before"
        bench.handler.gate.set()
        assert (await answer(peer))[1] == b"later"
        assert (await answer(peer))[1] == b"header\n" + LARGE
        assert b"X-Target: /2" in (await answer(peer))[0]
        assert (await answer(peer))[1] == b"later"
        assert b"X-Target: /3" in (await answer(peer))[0]
        assert connection.state is State.READY
        assert bench.counters[slots.RESPONSES_2XX] == 6
        assert bench.counters[slots.SENT_BYTES_SENDFILE] == len(LARGE)

    run(source, scenario)


def test_full_pipeline_is_no_longer_read_and_goes_on_later(source: FileSource) -> None:
    """While an answer waits, a bounded number of requests is taken in; then all are answered."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(request("/later"))
        await until(lambda: connection.state is State.WAITING)
        loop = asyncio.get_running_loop()
        one, count = request("/1", "A: " + "a" * 1_000), 1_000
        sending = loop.create_task(loop.sock_sendall(peer.sock, one * count))
        await until(lambda: not connection._reading)
        parser = connection._parser
        assert parser is not None
        taken = len(parser.messages)
        assert PIPELINE_MAX < taken <= PIPELINE_MAX + 65_536 // len(one) + 1
        await asyncio.sleep(0.05)  # what must not happen meanwhile has no event
        assert len(parser.messages) == taken
        assert not sending.done()
        bench.handler.gate.set()
        for _ in range(count + 1):
            await answer(peer)
        await sending
        assert bench.handler.asked == [b"/later"] + [b"/1"] * count

    run(source, scenario)


def test_end_of_input_amid_an_answer_is_still_answered(source: FileSource) -> None:
    """A client may half-close after its requests, while one waits and while one is sent."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(request("/later") + request("/large") + request("/1"))
        await until(lambda: connection.state is State.WAITING)
        peer.sock.shutdown(socket.SHUT_WR)
        await until(lambda: not connection._reading)
        bench.handler.gate.set()
        assert (await answer(peer))[1] == b"later"
        assert (await answer(peer))[1] == b"header\n" + LARGE
        assert (await answer(peer))[1] == b"now"
        assert await receive(peer, 1) == b""
        assert bench.counters[slots.CONNECTIONS] == 0

    run(source, scenario)


def test_head_request_gets_the_fields_and_no_content(source: FileSource) -> None:
    """HEAD has the length of GET, and the next answer follows at once."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        peer.send(request("/large", method="HEAD") + request("/1"))
        head, _ = await answer(peer, is_head=True)
        assert b"Content-Length: %d\r\n" % (len(LARGE) + 7) in head
        assert b"X-Target: /1" in (await answer(peer))[0]

    run(source, scenario)


def test_head_seen_before_is_not_taken_amid_another_request(source: FileSource) -> None:
    """The same bytes are content when a request awaits content, and a request otherwise."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        known = request("/known")
        for _ in range(2):
            peer.send(known)
            await answer(peer)
        assert known in bench.server.heads
        peer.send(request("/content", f"Content-Length: {len(known)}"))
        await until(lambda: is_amid_request(connection))
        peer.send(known)
        head, _ = await answer(peer)
        assert b"X-Target: /content" in head
        peer.send(request("/split")[:-10])
        await until(lambda: is_amid_request(connection))
        peer.send(request("/split")[-10:] + known)
        assert b"X-Target: /split" in (await answer(peer))[0]
        assert b"X-Target: /known" in (await answer(peer))[0]
        assert bench.handler.asked == [b"/known", b"/known", b"/content", b"/split", b"/known"]

    run(source, scenario)


def test_heads_remembered_are_bound_and_none_that_ends_the_connection(source: FileSource) -> None:
    """At most `HEADS_MAX`, none longer than `HEAD_BYTES_MAX`, none of two requests or a fault."""

    async def scenario(bench: Bench) -> None:
        heads = bench.server.heads
        peer, _ = bench.connect()
        for index in range(HEADS_MAX + 10):
            peer.send(request(f"/{index}"))
            await answer(peer)
        assert len(heads) == HEADS_MAX
        assert request("/9") not in heads
        assert request("/10") in heads
        before = set(heads)
        peer.send(request("/long", "A: " + "a" * HEAD_BYTES_MAX))
        await answer(peer)
        peer.send(request("/a") + request("/b"))
        await answer(peer)
        await answer(peer)
        peer.send(request("/c", "Connection: close"))
        await answer(peer)
        other, _ = bench.connect()
        other.send(b"garbage\r\n\r\n")
        await answer(other)
        assert set(heads) == before

    run(source, scenario)


def test_file_that_breaks_amid_its_answer_aborts_and_is_reported(source: FileSource) -> None:
    """The failure goes to whoever logs, the abort is counted, and the connection is gone."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(request("/large"))
        await until(lambda: connection.state is State.SENDING)
        source.broken = True
        received = await receive(peer, len(LARGE))
        assert len(received) < len(LARGE)
        assert connection.state is State.CLOSED
        assert [type(error) for error in bench.failures] == [DataChangedError]
        assert bench.counters[slots.TRANSFERS_ABORTED] == 1
        assert bench.counters[slots.CONNECTIONS] == 0

    run(source, scenario)


def test_peer_that_leaves_while_its_answer_is_made_harms_nobody(source: FileSource) -> None:
    """The late answer finds the connection closed; another one is served meanwhile."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(request("/later"))
        await until(lambda: connection.state is State.WAITING)
        peer.sock.close()
        other, _ = bench.connect()
        other.send(request("/1"))
        assert (await answer(other))[1] == b"now"
        bench.handler.gate.set()
        await until(lambda: connection.state is State.CLOSED)
        assert bench.counters[slots.CONNECTIONS] == 1
        assert not bench.failures

    run(source, scenario)


def test_one_turn_sends_no_more_than_its_bytes(source: FileSource) -> None:
    """A thousand tiny answers leave in several turns, so that others come in between."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.get_running_loop().create_task(count_turns())
        peer.send(request("/1") * 1_000)
        for _ in range(1_000):
            await answer(peer)
        counting.cancel()
        assert turns > 50

    run(source, scenario)
