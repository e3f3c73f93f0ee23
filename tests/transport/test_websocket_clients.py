"""WebSockets as users have them: the clients of `websockets` and `aiohttp`, plain and over TLS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from tests.tls import trusting
from tests.transport import tls_bench
from tests.transport.feeds import FakeFeed, message
from tests.transport.http1 import bench as plain_bench
from tests.transport.http1.bench import LARGE, FileSource
from tests.transport.tls_bench import LARGE_BYTES, BenchHandler, MemorySource, TlsBench
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.http.stream import HEARTBEAT, End
from zerocopy.core.plan import Segment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.transport.http1.bench import Bench


class LiveHandler(BenchHandler):
    """Answers /live with a feed that says `first`."""

    def __init__(self) -> None:
        super().__init__()
        self.feeds: list[FakeFeed] = []

    def respond_now(self, request: Request, times: int = 1) -> Response | None:
        """All but /live."""
        return None if request.target == b"/live" else super().respond_now(request, times)

    async def respond(self, request: Request) -> Response:
        """A feed for each."""
        assert request.is_websocket
        large = message(b"header\n", Segment(MemorySource(LARGE_BYTES), 0, LARGE_BYTES))
        self.feeds.append(FakeFeed(message(b"small"), HEARTBEAT, large, message(bytes(70_000))))
        return Response(200, (), feed=self.feeds[-1])


def test_websockets_reads_a_stream_of_the_plain_listener(source: FileSource) -> None:
    """Small, large by sendfile(2), from memory; its own ping; the server's close and reason."""

    async def scenario(bench: Bench) -> None:
        bench.handler.gate.set()
        whole = message(b"header\n", Segment(source, 0, len(LARGE)))
        bench.handler.first = [message(b"small"), HEARTBEAT, whole, message(bytes(70_000))]
        peer, _ = bench.connect()
        async with connect_async("ws://t/live", sock=peer.sock, max_size=None) as client:
            assert await client.recv() == b"small"
            assert await client.recv() == b"header\n" + LARGE
            assert await client.recv() == bytes(70_000)
            await client.send("of no use")
            await (await client.ping())
            bench.handler.feeds[0].say(message(b"more"), End(4001, "day shrank"))
            assert await client.recv() == b"more"
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "day shrank")
        assert closed.value.sent is not None
        assert client.subprotocol is None
        assert client.protocol.extensions == []

    plain_bench.run(source, scenario)


def test_websockets_closes_a_stream(source: FileSource) -> None:
    """Its own close is answered with the code that it has sent."""

    async def scenario(bench: Bench) -> None:
        bench.handler.gate.set()
        peer, _ = bench.connect()
        async with connect_async("ws://t/live", sock=peer.sock) as client:
            await client.close(1000, "enough")
        assert client.close_code == 1000
        assert bench.handler.feeds[0].closed

    plain_bench.run(source, scenario)


def test_websockets_is_told_by_a_status_that_there_is_no_stream(source: FileSource) -> None:
    """An ordinary response rejects the handshake: section 4.2.2."""

    async def scenario(bench: Bench) -> None:
        peer, _ = bench.connect()
        with pytest.raises(InvalidStatus) as refused:
            async with connect_async("ws://t/now", sock=peer.sock):
                pass
        assert refused.value.response.status_code == 200

    plain_bench.run(source, scenario)


def test_websockets_reads_a_stream_over_tls(tmp_path: Path) -> None:
    """The same over HTTP/1.1 on the TLS listener, and an end by a drain: 1001."""

    async def main() -> None:
        bench = TlsBench(tmp_path, LiveHandler())
        await bench.start()

        def opened() -> connect_async:
            return connect_async(
                f"wss://localhost:{bench.address[1]}/live",
                ssl=trusting(),
                max_size=None,
                proxy=None,
            )

        async def read() -> None:
            async with opened() as client:
                assert await client.recv() == b"small"
                assert await client.recv() == b"header\n" + bytes(LARGE_BYTES)
                assert await client.recv() == bytes(70_000)
                await (await client.ping())
                await client.close(1000)

        async def left() -> ConnectionClosedOK:
            async with opened() as client:
                for _ in range(3):
                    await client.recv()
                with pytest.raises(ConnectionClosedOK) as closed:
                    await client.recv()
            return closed.value

        await asyncio.gather(read(), read())
        await bench.until_nothing_is_held(is_hurried=True)
        waiting = asyncio.ensure_future(left())
        await bench.until(
            lambda: len(bench.handler.feeds) == 3 and not bench.handler.feeds[2].items
        )
        await bench.stop()
        closed = await waiting
        assert closed.rcvd is not None
        assert closed.rcvd.code == 1001
        assert bench.failures == []
        assert [feed.closed for feed in bench.handler.feeds] == [1, 1, 1]

    tls_bench.run(main)


def test_aiohttp_reads_a_stream_over_tls(tmp_path: Path) -> None:
    """Another client, in the same event loop, that asks for compression and does not get it."""
    import aiohttp  # noqa: PLC0415 - slow to import

    async def main() -> None:
        bench = TlsBench(tmp_path, LiveHandler())
        await bench.start()
        url = f"wss://localhost:{bench.address[1]}/live"
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, ssl=trusting(), max_msg_size=0, compress=15) as client,
        ):
            assert await client.receive_bytes() == b"small"
            assert await client.receive_bytes() == b"header\n" + bytes(LARGE_BYTES)
            assert await client.receive_bytes() == bytes(70_000)
            await client.send_str("of no use")
            bench.handler.feeds[0].say(End(4001, "day was replaced"))
            end = await client.receive()
            assert (end.type, end.data, end.extra) == (
                aiohttp.WSMsgType.CLOSE,
                4001,
                "day was replaced",
            )
            assert client.compress == 0
        await bench.until_nothing_is_held(is_hurried=True)
        await bench.stop()
        assert bench.failures == []

    tls_bench.run(main)
