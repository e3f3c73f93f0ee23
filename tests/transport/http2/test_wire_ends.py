"""How an HTTP/2 connection is given up, left alone or said goodbye to, looked at from within."""

from __future__ import annotations

import asyncio
import struct
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from priority.priority import Stream

from tests.h2client import GOAWAY, PING
from tests.transport.http2.frames import PREFACE, frame, settings
from tests.transport.http2.test_wire_time import LostChannel, lost_wire
from tests.transport.test_tls_endings import http2
from tests.transport.tls_bench import BenchHandler, TlsBench, run
from zerocopy.transport.http2.head import FRAME_HEADER_BYTES
from zerocopy.transport.http2.wire import Http2Wire
from zerocopy.transport.timers import NEVER, STALL_SAMPLES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    import pytest

STREAMS = 1_024
OPAQUE = b"abcdefgh"
NO_WINDOW = PREFACE + settings(4, 0)


class FullChannel(LostChannel):
    """A channel whose client takes nothing and sends on."""

    def untaken_bytes(self) -> int:
        """A socket buffer of them."""
        return 100_000

    def send(self, _data: bytes, _flags: int = 0, /) -> int:
        """No room."""
        raise BlockingIOError

    def wait_writable(self, _on_writable: object) -> None:
        """It never is."""

    def recv(self, _nbytes_max: int, /) -> bytes:
        """What came was read."""
        raise BlockingIOError


def read_frames(
    sock: ssl.SSLSocket, is_last: Callable[[int, int, bytes], bool]
) -> list[tuple[int, int, bytes]]:
    """Kind, stream and payload of each frame, up to the one that is the last, or to the end."""
    found: list[tuple[int, int, bytes]] = []
    buffer = b""
    while not (found and is_last(*found[-1])):
        while len(buffer) < FRAME_HEADER_BYTES or (
            len(buffer) < FRAME_HEADER_BYTES + int.from_bytes(buffer[:3], "big")
        ):
            data = sock.recv(65_536)
            if not data:
                return found
            buffer += data
        end = FRAME_HEADER_BYTES + int.from_bytes(buffer[:3], "big")
        stream_id = int.from_bytes(buffer[5:9], "big")
        found.append((buffer[3], stream_id, buffer[FRAME_HEADER_BYTES:end]))
        buffer = buffer[end:]
    return found


def is_pong(kind: int, _stream_id: int, payload: bytes) -> bool:
    """The answer to a PING of ours."""
    return kind == PING and payload == OPAQUE


def begin(bench: TlsBench, said: bytes) -> ssl.SSLSocket:
    """A connection that has said so much, and a PING, which the server has answered."""
    sock = bench.connect("h2")
    sock.sendall(said + frame(PING, 0, 0, OPAQUE))
    assert is_pong(*read_frames(sock, is_pong)[-1])
    return sock


def test_answers_that_wait_are_no_progress_of_a_client_that_reads_nothing() -> None:
    """However much is written for what it asks: it is reset after `write_progress_s`."""

    async def scenario() -> None:
        channel, failures, ended = FullChannel(), list[BaseException](), list[Http2Wire]()
        wire = lost_wire(channel, failures, ended)
        wheel = wire._context.wheel
        wheel.add(wire)
        for _ in range(4 * STALL_SAMPLES):
            wire.write(b"an answer")
            wheel.advance()
        assert channel.ended == ["reset", "close"]
        assert wire.deadline == NEVER
        await asyncio.wait([wire._serving])
        assert (failures, ended) == ([], [wire])

    run(scenario)


def test_fault_of_one_end_leaves_nothing_of_the_connection() -> None:
    """The protocol fails to close: the socket and the seat are given back, and it is logged."""

    async def scenario() -> None:
        channel, failures, ended = LostChannel(), list[BaseException](), list[Http2Wire]()
        wire = lost_wire(channel, failures, ended)
        fault = KeyError("a stream that is not there")

        def close() -> None:
            raise fault

        wire._http2 = cast("Any", SimpleNamespace(close=close))
        wire.end()
        await asyncio.wait([wire._serving])
        assert (channel.ended, failures, ended) == (["close"], [fault], [wire])

    run(scenario)


def test_as_many_streams_as_may_be_configured_are_open_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hypercorn's priority tree has room for 1000, and sorts all for each that it removes."""
    comparisons = 0
    compare = Stream.__lt__

    def counted(stream: Stream, other: Stream) -> bool:
        nonlocal comparisons
        comparisons += 1
        return compare(stream, other)

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler(), streams_max=STREAMS)
        await bench.start()
        said = NO_WINDOW + http2("/api/data?large", times=STREAMS)
        [sock] = await bench.in_threads([partial(begin, bench, said)])
        with sock:
            assert bench.server.context.bodies.count == STREAMS
            monkeypatch.setattr(Stream, "__lt__", counted)
        await bench.until_nothing_is_held()
        assert comparisons <= STREAMS
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def test_goaway_names_no_later_stream_than_one_before(tmp_path: Path) -> None:
    """RFC 9113 section 6.8; also the last one, which h2 makes for an error of the client's."""

    def break_rules(sock: ssl.SSLSocket) -> list[int]:
        two = http2("/api/data?large", times=2)
        second = FRAME_HEADER_BYTES + int.from_bytes(two[:3], "big")
        sock.sendall(two[second:] + frame(PING, 0, 0, b"too short"))
        frames = read_frames(sock, lambda *_: False)
        return [struct.unpack(">L", said[:4])[0] for kind, _, said in frames if kind == GOAWAY]

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        said = NO_WINDOW + http2("/api/data?large")
        [sock] = await bench.in_threads([partial(begin, bench, said)])
        [wire] = bench.server._http2
        with sock:
            wire.leave()
            [named] = await bench.in_threads([partial(break_rules, sock)])
        assert named == [1, 1]
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def test_client_is_not_late_whose_reads_end_amid_frames(tmp_path: Path) -> None:
    """Each frame comes in full within `header_read_s`, though a part of the next is with it."""
    ping, part = frame(PING, 0, 0, OPAQUE), 3

    def go_on(sock: ssl.SSLSocket) -> None:
        sock.sendall(ping[part:] + ping[:part])
        assert is_pong(*read_frames(sock, is_pong)[-1])

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        context = bench.server.context
        assert bench.server._ticking is not None
        bench.server._ticking.cancel()  # the test turns the wheel
        [sock] = await bench.in_threads([partial(begin, bench, NO_WINDOW)])
        [wire] = bench.server._http2
        with sock:
            sock.sendall(ping[:part])
            await bench.until(lambda: wire._head_since is not None)
            for _ in range(6):
                await bench.in_threads([partial(go_on, sock)])
                for _ in range(context.header_ticks // 2 + 1):
                    context.wheel.advance()
            for _ in range(context.header_ticks + 1):
                context.wheel.advance()
            assert wire.deadline == NEVER, "what begun last never came in full"
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)
