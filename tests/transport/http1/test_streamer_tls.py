"""zerocopy.transport.http1.streamer over TLS: the same bytes, whatever the socket takes."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.transport.feeds import FakeFeed, message
from tests.transport.http1.bench import request
from tests.transport.tls_bench import BenchHandler, MemorySource, TlsBench, run
from zerocopy.core import counters as slots
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.http.stream import End
from zerocopy.core.plan import Segment
from zerocopy.transport.http1.state import State

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LARGE = os.urandom(1_000_000)
HEAD_END = b"\r\n\r\n"


class LiveHandler(BenchHandler):
    """Answers everything with a feed of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.feeds: list[FakeFeed] = []

    def respond_now(self, request: Request, times: int = 1) -> None:
        """Nothing."""

    def _response(self, request: Request) -> Response:
        assert request.method == b"GET"
        self.feeds.append(FakeFeed())
        return Response(200, (), feed=self.feeds[-1])


def chunk(content: bytes) -> bytes:
    """As RFC 9112 section 7.1 has it."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def live(
    directory: Path, scenario: Callable[[TlsBench, ssl.SSLSocket, FakeFeed], Awaitable[None]]
) -> None:
    """Run a scenario with a client whose stream has begun; nothing is held in the end."""

    async def main() -> None:
        handler = LiveHandler()
        bench = TlsBench(directory, handler)
        await bench.start()
        [sock] = await bench.in_threads([bench.connect])
        sock.sendall(request("/live"))
        await bench.until(lambda: handler.feeds)
        [head] = await bench.in_threads([partial(sock.recv, 65_536)])
        assert head.endswith(HEAD_END)
        await scenario(bench, sock, handler.feeds[0])
        sock.close()
        await bench.until_nothing_is_held()
        assert handler.feeds[0].closed == 1
        assert bench.failures == []
        await bench.stop()

    run(main)


def _rest(sock: ssl.SSLSocket) -> bytes:
    received = b""
    while data := sock.recv(65_536):
        received += data
    return received


def test_sockets_that_fill_get_every_byte_once(tmp_path: Path) -> None:
    """Small messages and large ones, for a client that begins to read when all is said."""

    async def scenario(bench: TlsBench, sock: ssl.SSLSocket, feed: FakeFeed) -> None:
        said = [b"%d," % number * (1 + number * 37 % 5_000) for number in range(300)]
        segment = Segment(MemorySource(700_000), 0, 700_000)
        feed.say(*map(message, said), message(b"header", segment), message(LARGE))
        feed.say(message(b"last"), End(1000, ""))
        [connection] = bench.server.http1._open
        await bench.until(lambda: connection.state is State.SENDING)
        pulled = feed.pulled
        for _ in range(20):
            await asyncio.sleep(0)
        assert feed.pulled == pulled
        [received] = await bench.in_threads([partial(_rest, sock)])
        expected = b"".join(map(chunk, said)) + chunk(b"header" + bytes(700_000))
        assert received == expected + chunk(LARGE) + chunk(b"last") + b"0\r\n\r\n"
        assert bench.counters[slots.SENT_BYTES_SENDFILE] == 0
        assert bench.counters[slots.TRANSFERS_ABORTED] == 0

    live(tmp_path, scenario)


@pytest.mark.parametrize("is_full", [False, True])
def test_client_that_leaves_is_noticed_by_what_it_is_sent(tmp_path: Path, *, is_full: bool) -> None:
    """A reset amid a message or between two: the feed is closed."""

    async def scenario(bench: TlsBench, sock: ssl.SSLSocket, feed: FakeFeed) -> None:
        if is_full:
            feed.say(*[message(LARGE)] * 5)
            [connection] = bench.server.http1._open
            await bench.until(lambda: connection.state is State.SENDING)
        sock.close()

        def speaks() -> bool:
            feed.say(message(b"more"))
            return bool(feed.closed)

        await bench.until(speaks)

    live(tmp_path, scenario)


def test_drain_ends_the_stream_and_says_close_notify(tmp_path: Path) -> None:
    """The last chunk, then an end that no client can take for a cut."""

    async def scenario(bench: TlsBench, sock: ssl.SSLSocket, feed: FakeFeed) -> None:
        feed.say(message(b"whole"))
        await bench.until(lambda: not feed.items)
        stopping = asyncio.create_task(bench.server.drain())
        [received] = await bench.in_threads([partial(_rest, sock)])
        assert received == chunk(b"whole") + b"0\r\n\r\n"
        sock.close()
        await stopping

    live(tmp_path, scenario)
