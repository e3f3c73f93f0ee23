"""Connection and Http1Server over a socketpair, with a handler that does what a test wants."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from tests.transport.http1.bench import (
    LARGE,
    OTHER_200,
    Bench,
    FileSource,
    answer,
    channel_of,
    is_amid_request,
    receive,
    request,
    run,
    until,
)
from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError, DataError, OverloadError
from zerocopy.transport import body
from zerocopy.transport.channel import PlainChannel
from zerocopy.transport.http1.heads import HEAD_BYTES_MAX, HEADS_MAX
from zerocopy.transport.http1.state import PIPELINE_MAX, State

if TYPE_CHECKING:
    from zerocopy.core.errors import ZerocopyError


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
        assert bench.counters[OTHER_200] == 6
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
        await until(lambda: not channel_of(connection).is_reading)
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
        await until(lambda: not channel_of(connection).is_reading)
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
        assert known in bench.server.context.heads
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


def test_continue_into_a_full_socket_leaves_the_answer_before_it_whole(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 (Continue) may be left out, RFC 9110 section 10.1.1; bytes promised before may not."""

    def full(_data: bytes) -> int:
        raise BlockingIOError

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(request("/first"))
        await until(lambda: bench.handler.asked == [b"/first"])
        monkeypatch.setattr(connection, "send", full)
        peer.send(request("/second", "Content-Length: 5", "Expect: 100-continue"))
        assert b"X-Target: /first" in (await answer(peer))[0]
        head, _ = await answer(peer)
        assert b"X-Target: /second" in head
        assert b"Connection: close" in head

    run(source, scenario)


def test_heads_remembered_are_bound_and_none_that_ends_the_connection(source: FileSource) -> None:
    """At most `HEADS_MAX`, none longer than `HEAD_BYTES_MAX`, none of two requests or a fault."""

    async def scenario(bench: Bench) -> None:
        heads = bench.server.context.heads
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


@pytest.mark.parametrize("error", [DataChangedError, DataError, OverloadError])
def test_file_that_breaks_amid_its_answer_aborts_and_is_reported(
    source: FileSource, error: type[ZerocopyError]
) -> None:
    """The failure goes to whoever logs, the abort is counted, and the connection is gone."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        peer.send(request("/large"))
        await until(lambda: connection.state is State.SENDING)
        source.broken = error("broken by the test")
        received = await receive(peer, len(LARGE))
        assert len(received) < len(LARGE)
        assert connection.state is State.CLOSED
        assert [type(failure) for failure in bench.failures] == [error]
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
        scheduler = 0

        async def count_turns() -> None:
            nonlocal scheduler
            while True:
                await asyncio.sleep(0)
                scheduler += 1

        counting = asyncio.get_running_loop().create_task(count_turns())
        peer.send(request("/1") * 1_000)
        for _ in range(1_000):
            await answer(peer)
        counting.cancel()
        assert scheduler > 50

    run(source, scenario)


def test_segments_of_stalled_transfers_are_bound(
    source: FileSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the bound a large answer gets 503; when the first has left, the next is served."""
    monkeypatch.setattr(body, "SEGMENTS_HELD_MAX", 1)

    async def scenario(bench: Bench) -> None:
        (first, sending), (second, _) = bench.connect(), bench.connect()
        first.send(request("/large"))
        await until(lambda: bench.server.context.bodies.segments_held == 1)
        second.send(request("/large"))
        assert (await answer(second))[1] == b"refused"
        assert [type(error) for error in bench.handler.refused] == [OverloadError]
        sending.abort()
        assert bench.server.context.bodies.segments_held == 0
        second.send(request("/large"))
        assert (await answer(second))[1] == b"header\n" + LARGE

    run(source, scenario)


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize("parsed_before", [False, True])
def test_request_that_came_before_its_deadline_was_looked_at_is_answered(
    source: FileSource, *, draining: bool, parsed_before: bool
) -> None:
    """A loop that was busy looks at deadlines before sockets: what is there is read first."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        if parsed_before:
            peer.send(request("/now"))
            assert (await answer(peer))[1] == b"now"
        bench.server.context.draining = draining
        peer.send(request("/now"))
        connection.deadline = bench.server.context.wheel.now
        connection.on_deadline()
        assert (await answer(peer))[1] == b"now"

    run(source, scenario)


def test_idle_connection_without_a_request_is_closed_at_its_deadline(source: FileSource) -> None:
    """Looking once more finds nothing, and that is the end."""

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        connection.deadline = bench.server.context.wheel.now
        connection.on_deadline()
        assert connection.state is State.CLOSED
        assert await peer.recv() == b""

    run(source, scenario)


@pytest.mark.parametrize("begun", [0, 25])
def test_continue_that_was_begun_is_never_followed_by_something_else(
    source: FileSource, monkeypatch: pytest.MonkeyPatch, begun: int
) -> None:
    """A channel that encrypts must get the same bytes again, and there is no room for them.

    Where it has not begun with them, the request is answered without 100 (Continue).
    """

    async def scenario(bench: Bench) -> None:
        peer, connection = bench.connect()
        whole = connection.send

        def full(_data: bytes, _flags: int = 0, /) -> int:
            monkeypatch.setattr(connection, "send", whole)
            monkeypatch.setattr(PlainChannel, "retry_bytes", begun)
            raise BlockingIOError

        monkeypatch.setattr(connection, "send", full)
        peer.send(request("/1", "Expect: 100-continue", "Content-Length: 3"))
        if begun:
            await until(lambda: connection.state is State.CLOSED)
        else:
            assert (await answer(peer))[1] == b"now"

    run(source, scenario)
