"""WebSockets on HTTP/1.1 connections: what opens one, what goes through it, how it ends."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.transport.feeds import message
from tests.transport.http1.bench import LARGE, FileSource, Peer, receive, request, run, until
from tests.transport.websocket.clientframes import binary, close, frame, ping, text
from zerocopy.core import counters as slots
from zerocopy.core.endpoints import OTHER
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.core.plan import Segment
from zerocopy.transport.http1.linger import LINGER_TICKS
from zerocopy.transport.http1.state import State
from zerocopy.transport.websocket import frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.transport.feeds import FakeFeed
    from tests.transport.http1.bench import Bench
    from zerocopy.transport.http1.connection import Connection

HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
BEGIN = request("/live", *HANDSHAKE)
BYE = frames.close(1000)


async def head(peer: Peer) -> bytes:
    """The head of the next response."""
    while (end := peer.buffer.find(b"\r\n\r\n")) < 0:
        data = await peer.recv()
        assert data, "the connection ended"
        peer.buffer += data
    return await receive(peer, end + 4)


async def rest(peer: Peer) -> bytes:
    """All until the end of the connection."""
    return await receive(peer, 1 << 30)


async def opened(bench: Bench, begin: bytes = BEGIN) -> tuple[Peer, Connection, FakeFeed]:
    """A client whose WebSocket is open; the head of the 101 is read."""
    peer, connection = bench.connect()
    count = len(bench.handler.feeds)
    peer.send(begin)
    await until(lambda: len(bench.handler.feeds) > count)
    assert (await head(peer)).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    return peer, connection, bench.handler.feeds[-1]


def live(source: FileSource, scenario: Callable[[Bench], Awaitable[None]]) -> None:
    """Run a scenario with the gate open; nothing may be left of its streams, no fault logged."""

    async def main(bench: Bench) -> None:
        bench.handler.gate.set()
        await scenario(bench)
        for peer in bench.peers:
            peer.sock.close()
        await bench.server.drain(0)
        assert [feed.closed for feed in bench.handler.feeds] == [1] * len(bench.handler.feeds)
        assert bench.faults == []
        assert bench.counters[slots.REQUESTS_IN_FLIGHT] == 0
        assert bench.counters[slots.CONNECTIONS] == 0
        assert bench.server.context.bodies.count == 0

    run(source, main)


def test_a_websocket_from_its_handshake_to_its_end(source: FileSource) -> None:
    """101 with the key's answer, whole messages, pings, and a close that the server begins."""

    async def scenario(bench: Bench) -> None:
        statuses: list[int] = []
        bench.server.context.metrics.access = lambda _, pending, __: statuses.append(
            pending.response.status if pending.response is not None else 0
        )
        bench.handler.first = [message(b"first")]
        peer, connection = bench.connect()
        peer.send(BEGIN)
        begun = (await head(peer)).split(b"\r\n")
        assert begun[0] == b"HTTP/1.1 101 Switching Protocols"
        assert set(begun) >= {
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        }
        names = {line.partition(b":")[0].lower() for line in begun}
        assert not names & {b"content-length", b"transfer-encoding"}
        assert begun.count(b"Connection: Upgrade") == 1
        assert await receive(peer, 7) == b"\x82\x05first"
        (feed,) = bench.handler.feeds
        feed.say(HEARTBEAT, message(bytes(300)), End(4001, "the day shrank"))
        expected = frames.HEARTBEAT + b"\x82\x7e\x01\x2c" + bytes(300)
        expected += frames.close(4001, "the day shrank")
        assert await receive(peer, len(expected)) == expected
        assert feed.closed
        assert statuses == [101]
        assert bench.counters[slots.requests_slot(slots.PLAIN, OTHER, 101)] == 1
        assert connection.state is State.LINGERING
        peer.send(close(4001))
        assert await rest(peer) == b""  # the server closes first, and sends no second close

    live(source, scenario)


def test_bytes_behind_the_head_are_the_websockets(source: FileSource) -> None:
    """With the head, or while the response is planned: RFC 6455 lets a client not wait for all."""

    async def scenario(bench: Bench) -> None:
        peer, _, _ = await opened(bench, BEGIN + ping(b"early") + ping(b"l")[:3])
        assert await receive(peer, 7) == frames.pong(b"early")
        peer.send(ping(b"l")[3:])
        assert await receive(peer, 3) == frames.pong(b"l")
        bench.handler.gate.clear()
        peer, connection = bench.connect()
        peer.send(BEGIN)
        await until(lambda: connection.state is State.WAITING)
        peer.send(ping(b"mean"))
        await until(lambda: not connection._channel.is_reading)
        peer.send(ping(b"while"))
        bench.handler.gate.set()
        await head(peer)
        assert await receive(peer, 13) == frames.pong(b"mean") + frames.pong(b"while")

    live(source, scenario)


def test_a_response_without_a_feed_opens_nothing(source: FileSource) -> None:
    """RFC 9110 section 7.8: the upgrade is ignored, and what follows the head are requests."""

    async def scenario(bench: Bench) -> None:
        for target in ("/now", "/later"):
            peer, connection = bench.connect()
            peer.send(request(target, *HANDSHAKE) + request("/behind"))
            assert (await head(peer)).startswith(b"HTTP/1.1 200 OK\r\n")
            await receive(peer, len(target) - 1)
            assert b"/behind" in await head(peer)
            assert await receive(peer, 3) == b"now"
            assert connection.state is State.READY
        assert bench.server.context.heads == {}

    live(source, scenario)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({2: "Sec-WebSocket-Version: 8"}, b"426"),
        ({3: "Sec-WebSocket-Key: c2hvcnQ="}, b"400"),
        ({0: "Connection: keep-alive"}, b"400"),
    ],
)
def test_a_wrong_handshake_is_refused_where_a_right_one_is_not(
    source: FileSource, changed: dict[int, str], status: bytes
) -> None:
    """Its feed is closed, and the connection goes on; elsewhere nobody looks at it."""
    fields = [changed.get(n, line) for n, line in enumerate(HANDSHAKE)]

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        peer.send(request("/live", *fields) + request("/now", *fields))
        assert (await head(peer)).startswith(b"HTTP/1.1 %b " % status)
        assert await receive(peer, 7) == b"refused"
        assert (await head(peer)).startswith(b"HTTP/1.1 200 ")
        assert await receive(peer, 3) == b"now"
        assert len(bench.handler.feeds) == 1

    live(source, scenario)


@pytest.mark.parametrize(
    "begin",
    [
        request("/live", *HANDSHAKE).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request("/live", *HANDSHAKE[:1], "Upgrade: h2c", *HANDSHAKE[2:]),
    ],
)
def test_what_asks_for_no_websocket_gets_events(source: FileSource, begin: bytes) -> None:
    """HTTP/1.0 has no Upgrade (RFC 9110 section 7.8), and another protocol is not spoken."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        peer.send(begin)
        assert (await head(peer)).startswith(b"HTTP/1.1 200 OK\r\n")

    live(source, scenario)


def test_pongs_leave_between_two_messages(source: FileSource) -> None:
    """Never amid one, however long it takes: the last ping that came by then is answered."""

    async def scenario(bench: Bench) -> None:
        peer, connection, feed = await opened(bench)
        whole = message(b"header\n", Segment(source, 0, len(LARGE)))
        feed.say(whole, message(b"next"))
        await until(lambda: connection.state is State.SENDING)
        for count in range(50):
            peer.send(ping(b"%d" % count))
        expected = frames.message_header(whole.nbytes) + b"header\n" + LARGE
        assert await receive(peer, len(expected)) == expected
        tail = frames.pong(b"49") + b"\x82\x04next"
        assert (await receive(peer, len(tail))) == tail

    live(source, scenario)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (close(1000, "done"), frames.close(1000)),
        (close(), frames.CLOSE_WITHOUT_CODE),
        (ping(b"x") + close(1001), frames.pong(b"x") + frames.close(1001)),
        (text("hello") + binary(b"\x00" * 70) + close(4999), frames.close(4999)),
    ],
)
def test_a_close_of_the_client_is_answered(source: FileSource, sent: bytes, answer: bytes) -> None:
    """Section 5.5.1; then the server closes the connection, and the feed is told."""

    async def scenario(bench: Bench) -> None:
        peer, connection, feed = await opened(bench)
        peer.send(sent)
        assert await rest(peer) == answer
        assert feed.closed
        peer.sock.close()
        await until(lambda: connection.state is State.CLOSED)

    live(source, scenario)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(1, b"x", mask=None), 1002),
        (frame(3), 1002),
        (frame(2, b"x", rsv=4), 1002),
        (text(b"\xff"), 1007),
        (frame(2, length=100_000), 1009),
    ],
)
def test_a_fault_of_the_client_ends_its_websocket(
    source: FileSource, sent: bytes, code: int
) -> None:
    """Section 7.1.7: the close frame names it; what comes after it is dropped."""

    async def scenario(bench: Bench) -> None:
        peer, _, feed = await opened(bench)
        peer.send(sent + ping(b"ignored"))
        answer = await rest(peer)
        assert answer[:1] == b"\x88"
        assert int.from_bytes(answer[2:4], "big") == code
        assert answer[1] == len(answer) - 2
        assert feed.closed

    live(source, scenario)


def test_a_drain_goes_away_after_the_last_whole_message(source: FileSource) -> None:
    """1001, section 7.4.1: clients reconnect with their cursor."""

    async def scenario(bench: Bench) -> None:
        peer, connection, feed = await opened(bench)
        feed.say(message(b"last"))
        assert await receive(peer, 6) == b"\x82\x04last"
        bench.server.context.drain(0)
        connection.drain()
        assert (await receive(peer, 4))[2:] == (1001).to_bytes(2, "big")
        peer.send(close(1001))
        await rest(peer)

    live(source, scenario)


def test_a_client_that_does_not_answer_a_close_is_cut_off(source: FileSource) -> None:
    """It gets as long as after any last response."""

    async def scenario(bench: Bench) -> None:
        peer, connection, feed = await opened(bench)
        feed.say(End(1000, ""))
        assert await receive(peer, 4) == BYE
        peer.send(ping())
        await until(lambda: connection._channel.is_reading)
        for _ in range(LINGER_TICKS + 5):
            assert connection.state is not State.READY
            bench.server.context.wheel.advance()
        assert connection.state is State.CLOSED

    live(source, scenario)


def test_a_client_that_leaves_without_a_word_is_noticed(source: FileSource) -> None:
    """The end of its bytes is the end of its WebSocket, and so is a reset."""

    async def scenario(bench: Bench) -> None:
        peer, connection, feed = await opened(bench)
        peer.sock.shutdown(socket.SHUT_WR)
        assert await rest(peer) == b""
        assert feed.closed
        assert connection.state is State.CLOSED
        peer, connection, feed = await opened(bench)
        peer.sock.close()
        await until(lambda: connection.state is State.CLOSED)
        assert feed.closed

    live(source, scenario)


def test_a_flood_of_pings_is_ended(source: FileSource) -> None:
    """1008; a client that reads nothing meanwhile makes nothing wait in memory."""

    async def scenario(bench: Bench) -> None:
        peer, connection, feed = await opened(bench)
        burst = ping(b"flood") * 500
        while connection.state is State.STREAMING:
            peer.send(burst)
            peer.buffer += await peer.recv()
        answer = bytes(peer.buffer) + await rest(peer)
        assert feed.closed
        assert answer.find(b"\x88") >= 0
        closing = answer[answer.find(b"\x88") :]
        assert int.from_bytes(closing[2:4], "big") == 1008
        assert len(answer) < 500 * len(frames.pong(b"flood"))

    live(source, scenario)
