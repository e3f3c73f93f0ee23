"""Clients that keep their windows shut, or all but: how long they may, and what they may hold."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.h2client import HEADERS, PING, WINDOW_UPDATE
from tests.transport.http2.frames import WHOLE, frame, settings
from tests.transport.http2.test_streams import PONG, connect, received
from tests.transport.test_tls_endings import HELLO
from tests.transport.tls_bench import BenchHandler, TlsBench, run, until
from zerocopy.core import counters as slots
from zerocopy.core.http.messages import Response
from zerocopy.transport import body as body_module
from zerocopy.transport.http2.pace import PROGRESS_BYTES, Pace
from zerocopy.transport.timers import STALL_SAMPLES

if TYPE_CHECKING:
    from asyncio import StreamReader
    from pathlib import Path

LARGE_REQUEST = b"\x82\x87\x04\x0f/api/data?large\x01\x01a"
APP_REQUEST = b"\x83\x87\x04\x0b/page?large\x01\x01a"
WIDE = (1 << 31) - 1


def asked(stream_id: int) -> bytes:
    """A request for a large response."""
    return frame(HEADERS, WHOLE, stream_id, LARGE_REQUEST)


def opened(stream_id: int, count: int) -> bytes:
    """A WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", count))


def test_pace_counts_bytes_behind_a_shut_window_only_by_the_frame() -> None:
    """Any byte where the window stays open; else so many bytes, in however many pieces."""
    pace = Pace(5)
    pace.took(0, 6, is_shut=False)
    pace.took(PROGRESS_BYTES - 1, 7, is_shut=True)
    assert pace.at == 5
    pace.took(1, 8, is_shut=True)
    assert pace.at == 8
    pace.took(1, 9, is_shut=True)
    assert pace.at == 8
    pace.took(1, 10, is_shut=False)
    assert pace.at == 10


async def read_on(reader: StreamReader, came: list[int]) -> None:
    """Take everything, and note how many bytes each time."""
    while data := await reader.read(1 << 16):
        came.append(len(data))


@pytest.mark.parametrize("block", [LARGE_REQUEST, APP_REQUEST], ids=["data", "application"])
@pytest.mark.parametrize("of_connection", [False, True])
@pytest.mark.parametrize(("count", "is_reset"), [(1, True), (PROGRESS_BYTES, False)])
def test_window_that_is_opened_by_the_byte_is_one_that_stays_shut(
    tmp_path: Path, block: bytes, count: int, *, of_connection: bool, is_reset: bool
) -> None:
    """A stream whose client takes a byte a tick is reset in time; by the frame it goes on."""

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        counters, wheel = bench.counters, bench.server.context.wheel
        wide = settings(4, WIDE) if of_connection else settings(4, 0) + opened(0, WIDE - 65_535)
        said = wide + frame(HEADERS, WHOLE, 1, block)
        reader, writer = await connect(bench, said)
        came: list[int] = []
        reading = asyncio.create_task(read_on(reader, came))
        await until(lambda: counters[slots.STREAMS] == 1)
        [wire] = bench.server._http2
        http2 = wire._http2
        assert http2 is not None
        state = http2.connection

        def window() -> int:
            if of_connection:
                return state.outbound_flow_control_window
            return state.streams[1].outbound_flow_control_window

        def is_over() -> bool:
            return counters[slots.STREAMS] == 0

        await until(lambda: window() == 0)
        for _ in range(STALL_SAMPLES * bench.server.context.stall_ticks + 8):
            wanted = sum(came) + count
            writer.write(opened(0 if of_connection else 1, count))
            await until(lambda: sum(came) >= wanted or is_over())  # noqa: B023
            if is_over():
                break
            wheel.advance()
        assert is_over() == is_reset
        writer.transport.abort()
        with suppress(OSError):
            await reading
        await bench.until_nothing_is_held(is_hurried=True)
        await bench.stop()

    run(scenario)


@pytest.mark.parametrize("path", [b"/api/bars?wide", b"/nowhere"])
def test_response_that_a_client_does_not_take_is_not_copied(tmp_path: Path, path: bytes) -> None:
    """Content of a megabyte, which each stream of any route would keep for itself."""
    handler = BenchHandler()
    handler.small = Response(200, (), bytes(1 << 20))
    block = b"\x82\x87\x04" + bytes([len(path)]) + path + b"\x01\x01a"

    async def scenario() -> None:
        bench = TlsBench(tmp_path, handler)
        heads = b"".join(frame(HEADERS, WHOLE, stream_id, block) for stream_id in range(1, 100, 2))
        reader, writer = await connect(bench, settings(4, 0) + heads + frame(PING, 0, 0, PONG[9:]))
        await received(reader, PONG)
        [wire] = bench.server._http2
        assert wire._http2 is not None
        assert bench.counters[slots.STREAMS] == 50
        assert not sum(len(each.buffer) for each in wire._http2.stream_buffers.values())
        writer.transport.abort()
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)


def test_one_connection_holds_its_share_of_the_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its third large response is refused, another connection's first one is not."""
    monkeypatch.setattr(body_module, "SEGMENTS_HELD_MAX", 2 * body_module.CONNECTION_SHARE)

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        bodies = bench.server.context.bodies
        ping = frame(PING, 0, 0, PONG[9:])
        said = settings(4, 0) + asked(1) + asked(3) + asked(5)
        reader, writer = await connect(bench, said + ping)
        await received(reader, PONG)
        assert bodies.segments_held == 2
        [sock] = await bench.in_threads([partial(bench.connect, "h2")])
        await bench.in_threads([partial(sock.sendall, HELLO + settings(4, 0) + asked(1))])
        await until(lambda: bodies.segments_held == 3)
        writer.transport.abort()
        sock.close()
        await bench.until_nothing_is_held()
        await bench.stop()
        assert bench.failures == []

    run(scenario)
