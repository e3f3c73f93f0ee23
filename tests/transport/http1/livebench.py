"""A bench whose handler answers with feeds, and what must be left of each scenario: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.transport.http1.bench import Bench, FileSource, Peer, receive, request, run, until
from zerocopy.core import counters as slots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.transport.feeds import FakeFeed
    from zerocopy.core.http.messages import Response
    from zerocopy.transport.http1.connection import Connection

BEGIN = request("/live")
END = b"0\r\n\r\n"


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
