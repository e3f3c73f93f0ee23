"""zerocopy.transport.http1.streamer: endless responses, whatever their clients do."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.feeds import FakeFeed, message
from tests.transport.http1.bench import LARGE, Bench, FileSource, Peer, receive, request, run, until
from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.core.plan import Segment
from zerocopy.transport.http1.state import IGNORED_BYTES_MAX, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from zerocopy.core.http.messages import Response
    from zerocopy.transport.http1.connection import Connection

BEGIN = request("/live")
END = b"0\r\n\r\n"


@pytest.fixture
def source(tmp_path: Path) -> FileSource:
    """A file with `LARGE` in it."""
    (tmp_path / "large").write_bytes(LARGE)
    return FileSource(tmp_path / "large")


class Live:
    """A bench whose handler answers /live with feeds, and what its access log says."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.feeds = bench.handler.feeds
        self.logged: list[tuple[Response, int]] = []
        bench.handler.gate.set()
        bench.server.context.metrics.access = lambda _, pending, __: self.logged.append(
            (pending.response, pending.left_bytes)
        )

    async def subscribe(self, begin: bytes = BEGIN) -> tuple[Peer, Connection, FakeFeed]:
        """A client whose stream has begun; its head is read."""
        peer, connection = self.bench.connect()
        count = len(self.feeds)
        peer.send(begin)
        await until(lambda: len(self.feeds) > count)
        await head(peer)
        return peer, connection, self.feeds[-1]

    def slot(self, slot: int) -> int:
        """A counter."""
        return self.bench.counters[slot]


async def head(peer: Peer) -> bytes:
    """The head of the response."""
    while (end := peer.buffer.find(b"\r\n\r\n")) < 0:
        peer.buffer += await peer.recv()
    return await receive(peer, end + 4)


async def rest(peer: Peer) -> bytes:
    """All until the end of the connection."""
    return await receive(peer, 1 << 30)


def chunk(content: bytes) -> bytes:
    """As RFC 9112 section 7.1 has it."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def live(source: FileSource, scenario: Callable[[Live], Awaitable[None]]) -> None:
    """Run a scenario; nothing may be left of its streams, and no fault logged."""

    async def main(bench: Bench) -> None:
        scene = Live(bench)
        await scenario(scene)
        for peer in bench.peers:
            peer.sock.close()
        await bench.server.drain(0)
        assert [feed.closed for feed in scene.feeds] == [1] * len(scene.feeds)
        assert bench.faults == []
        assert scene.slot(slots.REQUESTS_IN_FLIGHT) == 0
        assert scene.slot(slots.CONNECTIONS) == 0
        bodies = bench.server.context.bodies
        assert (bodies.count, bodies.segments_held) == (0, 0)

    run(source, main)


def test_stream_is_chunked_and_ends_its_connection(source: FileSource) -> None:
    """Head, messages as they come, heartbeats, the end: nothing before it is there."""

    async def scenario(scene: Live) -> None:
        scene.bench.handler.first = [message(b"id: 1\n\n")]
        peer, connection = scene.bench.connect()
        peer.send(BEGIN)
        begun = await head(peer)
        assert begun.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nTransfer-Encoding: chunked\r\n" in begun
        assert b"\r\nConnection: close\r\n" in begun
        assert b"Content-Length" not in begun
        (feed,) = scene.feeds
        expected = chunk(b"id: 1\n\n")
        assert await receive(peer, len(expected)) == expected
        assert connection.state is State.STREAMING
        for said in (b"data: 2\n\n", b"data: 3\n\n"):
            feed.say(message(said))
            assert await receive(peer, len(chunk(said))) == chunk(said)
        feed.beat()
        assert await receive(peer, 8) == chunk(b":\n\n")
        feed.say(message(b"last"), End(1000, "enough"))
        assert await rest(peer) == chunk(b"last") + END
        assert feed.closed == 1
        assert [response.nbytes for response, _ in scene.logged] == [12 + 2 * 14 + 8 + 9 + 5]

    live(source, scenario)


def test_http_1_0_gets_no_chunks(source: FileSource) -> None:
    """RFC 9112 section 6.1: its client may not know them; the end of the connection is the end."""

    async def scenario(scene: Live) -> None:
        peer, _ = scene.bench.connect()
        peer.send(b"GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        begun = await head(peer)
        assert b"Transfer-Encoding" not in begun
        assert b"\r\nConnection: close\r\n" in begun
        scene.feeds[0].say(message(b"data: 1\n\n"), HEARTBEAT, End(1000, ""))
        assert await rest(peer) == b"data: 1\n\n:\n\n"

    live(source, scenario)


def test_head_gets_the_fields_alone(source: FileSource) -> None:
    """HEAD: the feed is closed, it was never started, and the connection goes on."""

    async def scenario(scene: Live) -> None:
        peer, _ = scene.bench.connect()
        peer.send(request("/live", method="HEAD") + request("/now"))
        begun = await head(peer)
        assert b"text/event-stream" in begun
        assert b"Content-Length" not in begun
        assert b"Connection: close" not in begun
        assert (await head(peer)).startswith(b"HTTP/1.1 200")
        (feed,) = scene.feeds
        assert (feed.closed, feed.on_ready) == (1, None)

    live(source, scenario)


def test_nothing_is_pulled_for_a_client_that_does_not_read(source: FileSource) -> None:
    """Once the socket is full one message is under way, and the others stay in the feed."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        said = [b"%d," % number * 2_000 for number in range(1_000)]
        feed.say(*map(message, said))
        await until(lambda: connection.state is State.SENDING)
        pulled = feed.pulled
        for _ in range(20):
            await asyncio.sleep(0)
        assert feed.pulled == pulled < len(said)
        expected = b"".join(map(chunk, said))
        assert await receive(peer, len(expected)) == expected
        assert feed.pulled == len(said)
        await until(lambda: connection.state is State.STREAMING)

    live(source, scenario)


def test_large_messages_leave_by_sendfile(source: FileSource) -> None:
    """Segments between two small messages: by sendfile(2), whole and in order."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        copied = scene.slot(slots.SENT_BYTES_COPY)
        segments = (Segment(source, 0, 2_000_000), Segment(source, 5, 900_000))
        feed.say(message(b"small"), message(b"header", *segments), message(b"small"))
        large = chunk(b"header" + LARGE[:2_000_000] + LARGE[5:900_005])
        expected = chunk(b"small") + large + chunk(b"small")
        assert await receive(peer, len(expected)) == expected
        assert scene.slot(slots.SENT_BYTES_SENDFILE) == 2_900_000
        assert scene.slot(slots.SENT_BYTES_COPY) - copied == len(expected) - 2_900_000
        await until(lambda: connection.state is State.STREAMING)

    live(source, scenario)


def test_large_content_leaves_whole(source: FileSource) -> None:
    """A message of a megabyte without segments, which is sent in three pieces."""

    async def scenario(scene: Live) -> None:
        peer, _, feed = await scene.subscribe()
        feed.say(message(LARGE[:1_000_000]), message(b"next"))
        expected = chunk(LARGE[:1_000_000]) + chunk(b"next")
        assert await receive(peer, len(expected)) == expected

    live(source, scenario)


@pytest.mark.parametrize("size", [10, 500_000])
@pytest.mark.parametrize("abrupt", [False, True])
@pytest.mark.parametrize("at", ["before", "planning", "idle", "full"])
def test_client_leaves(source: FileSource, at: str, size: int, *, abrupt: bool) -> None:
    """Wherever it stands, with a reset or an end: the feed is closed, and nothing is left."""

    async def scenario(scene: Live) -> None:
        if at == "planning":
            scene.bench.handler.gate.clear()
        peer, connection = scene.bench.connect()
        peer.send(BEGIN)
        if at != "before":
            await until(lambda: connection.state is not State.READY)
        if at in ("idle", "full"):
            await until(lambda: connection.state is State.STREAMING)
        if at == "full":
            scene.feeds[0].say(*[message(bytes(size))] * (5_000_000 // size))
            await until(lambda: connection.state is State.SENDING)
        if abrupt:
            peer.sock.close()
        else:
            peer.sock.shutdown(socket.SHUT_WR)
            peer.sock.close()
        scene.bench.handler.gate.set()
        while connection.state is not State.CLOSED:
            for feed in scene.feeds:
                feed.say(message(bytes(size)))
            await asyncio.sleep(0.001)

    live(source, scenario)


def test_client_that_half_closes_is_still_sent_to(source: FileSource) -> None:
    """It can read; that it has nothing to ask says nothing about that."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        peer.sock.shutdown(socket.SHUT_WR)
        await until(lambda: connection._at_end_of_input)
        feed.say(message(b"more"), End(1000, ""))
        assert await rest(peer) == chunk(b"more") + END

    live(source, scenario)


def test_requests_behind_a_stream_are_not_answered(source: FileSource) -> None:
    """They came before the head said that nothing follows; what is read of them is bounded."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe(BEGIN + request("/now"))
        peer.send(request("/now") * (IGNORED_BYTES_MAX // 20))
        await until(lambda: not connection._channel.is_reading)
        assert scene.bench.handler.asked.count(b"/now") == 0
        feed.say(message(b"more"), End(1000, ""))
        assert await rest(peer) == chunk(b"more") + END

    live(source, scenario)


def test_drain_ends_an_idle_stream_at_once(source: FileSource) -> None:
    """The end is said, and the connection is closed in an orderly way."""

    async def scenario(scene: Live) -> None:
        peer, _, feed = await scene.subscribe()
        scene.bench.server.context.drain(0)
        draining = asyncio.create_task(scene.bench.server.drain(5))
        assert await rest(peer) == END
        peer.sock.close()
        await draining
        assert feed.closed == 1

    live(source, scenario)


def test_drain_ends_a_stream_behind_its_whole_message(source: FileSource) -> None:
    """A client amid a large message gets all of it, the end, and nothing that the feed has."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        feed.say(message(b"header", Segment(source, 0, len(LARGE))), message(b"never"))
        await until(lambda: connection.state is State.SENDING)
        draining = asyncio.create_task(scene.bench.server.drain(5))
        await asyncio.sleep(0)
        assert await rest(peer) == chunk(b"header" + LARGE) + END
        peer.sock.close()
        await draining

    live(source, scenario)


def test_stream_that_begins_in_a_drain_ends_at_once(source: FileSource) -> None:
    """It was planned when the server stopped: its client is told to go elsewhere."""

    async def scenario(scene: Live) -> None:
        scene.bench.handler.gate.clear()
        peer, connection = scene.bench.connect()
        peer.send(BEGIN)
        await until(lambda: connection.state is State.WAITING)
        scene.bench.handler.first = [message(b"never")]
        draining = asyncio.create_task(scene.bench.server.drain(5))
        await asyncio.sleep(0)
        scene.bench.handler.gate.set()
        assert (await head(peer)).startswith(b"HTTP/1.1 200")
        assert await rest(peer) == END
        peer.sock.close()
        await draining

    live(source, scenario)


def _turn(scene: Live, connection: Connection, looks: int) -> None:
    for _ in range(looks):
        connection.deadline = scene.bench.server.context.wheel.now
        connection.on_deadline()


def test_idle_stream_has_no_deadline(source: FileSource) -> None:
    """However long its feed says nothing; a client that takes what it gets stays."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        for _ in range(5):
            _turn(scene, connection, 10)
            feed.beat()
            assert await receive(peer, 8) == chunk(b":\n\n")
        assert connection.state is State.STREAMING

    live(source, scenario)


@pytest.mark.parametrize("kept", [100, 10_000_000])
def test_client_that_takes_nothing_is_cut_off(source: FileSource, kept: int) -> None:
    """Heartbeats that our kernel keeps for it are no progress, and neither is a full socket."""

    async def scenario(scene: Live) -> None:
        _, connection, feed = await scene.subscribe()
        untaken = 0
        channel: Any = connection._channel
        connection._channel = connection._sender._channel = Untaken(channel, lambda: untaken)
        feed.say(*[message(bytes(100))] * (kept // 100))
        await until(lambda: connection.state is State.SENDING if kept > 1_000 else not feed.items)
        for _ in range(5):
            untaken += 8
            feed.beat()
            await asyncio.sleep(0)
            _turn(scene, connection, 1)
        assert connection.state is State.CLOSED

    live(source, scenario)


def test_steady_client_is_not_taken_for_a_stalled_one(source: FileSource) -> None:
    """It has as much on its way at each look, and takes all of it."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        channel: Any = connection._channel
        connection._channel = connection._sender._channel = Untaken(channel, lambda: 500)
        for _ in range(20):
            feed.say(message(b"x" * 100))
            await receive(peer, len(chunk(b"x" * 100)))
            _turn(scene, connection, 1)
        assert connection.state is State.STREAMING

    live(source, scenario)


class Untaken:
    """A channel whose kernel says what the test wants it to."""

    def __init__(self, channel: Any, untaken: Callable[[], int]) -> None:
        self._channel = channel
        self.untaken_bytes = untaken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)


def test_feed_that_fails_ends_its_connection_alone(source: FileSource) -> None:
    """A fault of the service is logged; others that wait for the same turn are served."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        other, _, fine = await scene.subscribe()
        feed.say(ZeroDivisionError())
        fine.say(message(b"fine"))
        assert await receive(other, 9) == chunk(b"fine")
        assert connection.state is State.CLOSED
        assert [type(fault) for fault in scene.bench.faults] == [ZeroDivisionError]
        scene.bench.faults.clear()
        with pytest.raises(ConnectionResetError):  # a socket pair tells none where all was read
            raise ConnectionResetError if await rest(peer) == b"" else AssertionError

    live(source, scenario)


def test_file_that_fails_cuts_the_message_off(source: FileSource) -> None:
    """A large message that cannot be sent whole has no end, and the failure is logged."""

    async def scenario(scene: Live) -> None:
        peer, connection, feed = await scene.subscribe()
        feed.say(message(b"header", Segment(source, 0, len(LARGE))), message(b"never"))
        await until(lambda: connection.state is State.SENDING)
        source.broken = DataChangedError("it was replaced")
        received = await _until_reset(peer)
        assert len(received) < len(LARGE)
        assert len(scene.bench.failures) == 1
        assert scene.slot(slots.TRANSFERS_ABORTED) == 1

    live(source, scenario)


async def _until_reset(peer: Peer) -> bytes:
    received = b""
    try:
        while data := await peer.recv():
            received += data
    except ConnectionResetError:
        pass
    return received


def test_one_message_reaches_all(source: FileSource) -> None:
    """Two hundred clients wait for the same message; small answers go between their slices."""

    async def scenario(scene: Live) -> None:
        scene.bench.admission._connections_max = 1_000
        clients = [await scene.subscribe() for _ in range(200)]
        same = message(b"x" * 100)
        before = scene.slot(slots.SENT_BYTES_COPY)
        for _, _, feed in clients:
            feed.say(same)
        for peer, _, _ in clients:
            assert await receive(peer, len(chunk(same.content))) == chunk(same.content)
        assert scene.slot(slots.SENT_BYTES_COPY) - before == 200 * len(chunk(same.content))
        assert len(scene.bench.server.context.framed) == 1

    live(source, scenario)


def test_stream_is_no_request_in_flight(source: FileSource) -> None:
    """It counts as answered with its head; its hours are in no histogram."""

    async def scenario(scene: Live) -> None:
        _, _, feed = await scene.subscribe()
        assert scene.slot(slots.REQUESTS_IN_FLIGHT) == 0
        timed = sum(scene.bench.counters)
        assert scene.logged == []
        scene.bench.server.context.metrics.tick()
        feed.say(End(1000, ""))
        await until(lambda: bool(scene.logged))
        assert scene.logged[0][1] == 0
        assert sum(scene.bench.counters) - timed < 1_000_000_000, "no duration was added"

    live(source, scenario)
