"""zerocopy.transport.http1.streamer: endless responses, whatever their clients read."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.transport.feeds import message
from tests.transport.http1.bench import LARGE, FileSource, receive, request, until
from tests.transport.http1.livebench import BEGIN, END, Live, chunk, head, live, rest
from zerocopy.core import counters as slots
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.core.plan import Segment
from zerocopy.transport.http1.state import IGNORED_BYTES_MAX, State
from zerocopy.transport.streaming import SMALL_MESSAGE_BYTES


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


@pytest.mark.parametrize("nbytes", [1, SMALL_MESSAGE_BYTES + 1])
def test_feed_that_is_drained_is_not_asked_again_behind_a_whole_message(
    source: FileSource, nbytes: int
) -> None:
    """A message for many costs each of them one call; a large one leaves to its end."""

    async def scenario(scene: Live) -> None:
        peer, _, feed = await scene.subscribe()
        feed.is_drained = True
        asked = feed.asked
        for _ in range(3):
            feed.say(message(b"x" * nbytes))
            expected = chunk(b"x" * nbytes)
            assert await receive(peer, len(expected)) == expected
        if nbytes == 1:
            assert feed.asked == asked + 3
        assert feed.pulled == 3
        feed.say(End(1000, "enough"))
        assert await rest(peer) == END

    live(source, scenario)
