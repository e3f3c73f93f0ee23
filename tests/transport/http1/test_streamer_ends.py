"""zerocopy.transport.http1.streamer: drains, stalled clients and faults, each to its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.transport.feeds import message
from tests.transport.http1.bench import LARGE, FileSource, Peer, receive, until
from tests.transport.http1.livebench import BEGIN, END, Live, chunk, head, live, rest
from zerocopy.core import counters as slots
from zerocopy.core.errors import DataChangedError
from zerocopy.core.plan import Segment
from zerocopy.transport.http1.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from zerocopy.transport.http1.connection import Connection


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
        assert await rest(peer) == b""  # a socket pair knows no reset where all was read

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
