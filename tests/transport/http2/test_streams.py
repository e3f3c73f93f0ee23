"""Streams whose client does not wait for its responses, or does not take them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.h2client import (
    DATA,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from tests.tls import trusting
from tests.transport.http2.frames import ACK, PREFACE, WHOLE, frame
from tests.transport.test_tls_endings import HELLO, http2
from tests.transport.tls_bench import BenchHandler, TlsBench, run, until
from zerocopy.core import counters as slots
from zerocopy.core.http.messages import Request, Response, Unlimited
from zerocopy.transport.http2.connection import EVENTS_PER_TURN, UNSENT_BYTES_MAX
from zerocopy.transport.http2.frames import BUFFER_BYTES

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from pathlib import Path

STREAMS = 60
UNREAD = 40_000
GET = b"\x82"
ITERATIONS = 200
HEAD_BYTES_MAX = 200
DATA_REQUEST = b"\x82\x87\x04\x09/api/data\x01\x01a"
BEYOND = b"\x7f\xff\xff\xff"
CONTENT = frame(DATA, 0, 1, b"x")
PONG = frame(PING, ACK, 0, b"12345678")


class Planner(Unlimited):
    """Plans so many answers for ever, and makes the others at once."""

    def __init__(self, endless: int) -> None:
        self.endless = endless
        self.begun = 0
        self.dropped = 0

    def respond_now(self, _request: Request, times: int = 1) -> None:
        """Nothing is known."""
        assert times <= 1

    async def respond(self, _request: Request) -> Response:
        """Wait until cancelled."""
        self.begun += 1
        if self.begun > self.endless:
            return Response(200, (), b"made")
        try:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            self.dropped += 1
            raise


async def connect(bench: TlsBench, said: bytes) -> tuple[StreamReader, StreamWriter]:
    """A client of HTTP/2 that says this behind its preface."""
    await bench.start()
    context = trusting()
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        *bench.address, ssl=context, server_hostname="localhost"
    )
    writer.write(PREFACE + frame(SETTINGS, 0, 0) + said)
    return reader, writer


async def received(reader: StreamReader, wanted: bytes) -> None:
    """Read until it came."""
    came = b""
    while wanted not in came:
        came += await asyncio.wait_for(reader.read(65_536), 10)


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(frame(RST_STREAM, 0, 1, bytes(4)), id="reset"),
        pytest.param(frame(WINDOW_UPDATE, 0, 1, BEYOND), id="its window too wide"),
        pytest.param(CONTENT, id="content after the end"),
        pytest.param(frame(HEADERS, WHOLE, 1, DATA_REQUEST), id="headers after the end"),
        pytest.param(frame(PING, 0, 0), id="connection error"),
        pytest.param(b"", id="client left"),
    ],
)
def test_plan_ends_with_its_stream(tmp_path: Path, ending: bytes) -> None:
    """Whatever ends the stream cancels the task that plans; the connection goes on, if it may."""
    planner = Planner(1)

    async def scenario() -> None:
        bench = TlsBench(tmp_path, planner)
        reader, writer = await connect(bench, frame(HEADERS, WHOLE, 1, DATA_REQUEST))
        await until(lambda: planner.begun == 1)
        if ending:
            writer.write(ending)
        else:
            writer.transport.abort()

        def is_over() -> bool:
            if not ending:  # a client that only said FIN may still read: its time has to pass
                bench.server.context.wheel.advance()
            return planner.dropped == 1 and bench.counters[slots.STREAMS] == 0

        await until(is_over)
        if ending and ending[3] != PING:
            writer.write(frame(HEADERS, WHOLE, 3, DATA_REQUEST))
            await received(reader, b"made")
        writer.close()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def test_plan_of_a_stream_that_is_reset_at_once_does_not_go_on(tmp_path: Path) -> None:
    """HEADERS and RST_STREAM in one piece, forty times: no plan goes on."""
    planner = Planner(40)
    rapid = b"".join(
        frame(HEADERS, WHOLE, stream_id, DATA_REQUEST) + frame(RST_STREAM, 0, stream_id, bytes(4))
        for stream_id in range(1, 81, 2)
    )

    async def scenario() -> None:
        bench = TlsBench(tmp_path, planner)
        reader, writer = await connect(bench, rapid + frame(PING, 0, 0, PONG[9:]))
        await received(reader, PONG)
        await until(lambda: bench.counters[slots.STREAMS] == 0)
        assert planner.begun == planner.dropped
        writer.close()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def test_client_that_reads_nothing_makes_the_server_keep_one_turn(tmp_path: Path) -> None:
    """Sixty large responses, asked for at once: the first fills the socket, the others wait."""

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        [sock] = await bench.in_threads([partial(bench.connect, "h2")])
        said = HELLO + http2("/api/data?large", times=STREAMS)
        await bench.in_threads([partial(sock.sendall, said)])
        await until(lambda: bench.counters[slots.STREAMS] == STREAMS)
        [wire] = bench.server._http2
        for _ in range(ITERATIONS):
            await asyncio.sleep(0)
            assert 0 < wire.unsent_bytes < BUFFER_BYTES + STREAMS * HEAD_BYTES_MAX
        sock.close()
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


class Known(BenchHandler):
    """Makes every response at once, to HEAD as well."""

    def respond_now(self, request: Request, times: int = 1) -> Response:
        """As it would be planned."""
        assert times >= 0
        return self._response(request)


def known_requests(method: bytes) -> bytes:
    """HEAD alone, or GET in crowds that are reset once they are answered."""
    path = b"/api/data?large"
    block = method + b"\x87\x04" + bytes([len(path)]) + path + b"\x01\x01a"
    flood = b""
    for begin in range(1, 2 * UNREAD, 2 * EVENTS_PER_TURN):
        crowd = range(begin, begin + 2 * EVENTS_PER_TURN, 2)
        flood += b"".join(frame(HEADERS, WHOLE, stream_id, block) for stream_id in crowd)
        if method == GET:
            flood += b"".join(frame(RST_STREAM, 0, stream_id, bytes(4)) for stream_id in crowd)
    return flood


@pytest.mark.parametrize(
    "method", [GET, pytest.param(b"\x02\x04HEAD", marks=pytest.mark.slow)], ids=["GET", "HEAD"]
)
def test_heads_that_a_client_does_not_read_are_bounded(tmp_path: Path, method: bytes) -> None:
    """Requests of a few bytes each, which are answered by heads alone: the server reads no more."""

    async def scenario() -> None:
        bench = TlsBench(tmp_path, Known(), control_frames_max=1 << 30)
        reader, writer = await connect(bench, known_requests(method))
        await until(lambda: len(bench.server._http2) == 1)
        [wire] = bench.server._http2
        await until(lambda: wire.unsent_bytes > UNSENT_BYTES_MAX)
        for _ in range(ITERATIONS):
            await asyncio.sleep(0)
            assert wire.unsent_bytes < UNSENT_BYTES_MAX + EVENTS_PER_TURN * HEAD_BYTES_MAX
        assert not reader.at_eof()
        writer.transport.abort()
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def test_turn_of_a_stream_that_is_over_lets_others_run(tmp_path: Path) -> None:
    """Whatever a tree of priorities says: the sending task yields, and the tree forgets it."""

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        _, writer = await connect(bench, b"")
        await until(lambda: any(wire._http2 for wire in bench.server._http2))
        [wire] = bench.server._http2
        http2 = wire._http2
        assert http2 is not None
        http2.priority.insert_stream(99)
        for _ in range(2):  # the second time the tree does not know it
            turn = http2._send_data(99)
            assert turn.send(None) is None, "it has yielded"
            turn.close()
            assert 99 not in http2.priority._streams
        writer.close()
        await bench.stop()
        assert bench.failures == []

    run(scenario)
