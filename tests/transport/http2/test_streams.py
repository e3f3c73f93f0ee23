"""Answers that are being planned when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.h2client import DATA, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE
from tests.tls import make_pair, trusting
from tests.transport.http2.frames import ACK, PREFACE, WHOLE, frame
from zerocopy.core import counters as slots
from zerocopy.core.counters import SLOTS
from zerocopy.core.http.messages import Request, Response
from zerocopy.transport.admission import Admission
from zerocopy.transport.asgi import AsgiApp
from zerocopy.transport.http2.context import Http2Limits
from zerocopy.transport.http2.server import Http2Server
from zerocopy.transport.limits import RequestLimits
from zerocopy.transport.loop import new_event_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMITS = RequestLimits(
    target_bytes_max=8_192,
    field_bytes_max=8_192,
    head_bytes_max=32_768,
    fields_max=100,
    content_bytes_max=65_536,
)
DATA_REQUEST = b"\x82\x87\x04\x09/api/data\x01\x01a"
BEYOND = b"\x7f\xff\xff\xff"
CONTENT = frame(DATA, 0, 1, b"x")
PONG = frame(PING, ACK, 0, b"12345678")


class Planner:
    """Plans so many answers for ever, and makes the others at once."""

    def __init__(self, endless: int) -> None:
        self.endless = endless
        self.begun = 0
        self.dropped = 0

    def respond_now(self, _request: Request, times: int = 1) -> None:
        """Nothing is known."""
        assert times == 1

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


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; AssertionError after ten seconds."""
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


def make_server(planner: Planner, counters: list[int], failures: list[Any]) -> Http2Server:
    """A server of nothing but plans."""
    handler = cast("Any", planner)
    return Http2Server(
        loop=asyncio.get_running_loop(),
        handler=handler,
        app=AsgiApp(
            handler=handler,
            limits=LIMITS,
            content_read_s=5,
            read_ahead_bytes_max=1 << 20,
            counters=counters,
            on_transfer_failed=lambda error, _: failures.append(error),
        ),
        limits=Http2Limits(
            streams_max=100,
            control_frames_max=100,
            turn_bytes_max=1 << 20,
            read_ahead_bytes_max=1 << 20,
            open_files_max=512,
            header_read_s=10,
            idle_s=60,
            write_progress_s=10,
            drain_deadline_s=5,
            drain_idle_s=0.0,
            request=LIMITS,
        ),
        admission=Admission(connections_max=10, connections_per_address_max=0, counters=counters),
        counters=counters,
        on_transfer_failed=lambda error, _: failures.append(error),
        on_connection_failed=failures.append,
    )


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
    counters, failures, planner = [0] * len(SLOTS), list[Any](), Planner(1)

    async def scenario() -> None:
        server = make_server(planner, counters, failures)
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        await server.start([listener], make_pair(tmp_path).context())
        context = trusting()
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            *address, ssl=context, server_hostname="localhost"
        )
        writer.write(PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, WHOLE, 1, DATA_REQUEST))
        await until(lambda: planner.begun == 1)
        if ending:
            writer.write(ending)
        else:
            writer.transport.abort()
        await until(lambda: planner.dropped == 1)
        assert counters[slots.STREAMS] == 0
        if ending and ending[3] != PING:
            writer.write(frame(HEADERS, WHOLE, 3, DATA_REQUEST))
            received = b""
            while b"made" not in received:
                received += await asyncio.wait_for(reader.read(65_536), 10)
        writer.close()
        await server.drain()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(scenario())
    assert failures == []


def test_plan_of_a_stream_that_is_reset_at_once_does_not_go_on(tmp_path: Path) -> None:
    """HEADERS and RST_STREAM in one piece, forty times: no plan goes on."""
    counters, failures, planner = [0] * len(SLOTS), list[Any](), Planner(40)

    async def scenario() -> None:
        server = make_server(planner, counters, failures)
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        await server.start([listener], make_pair(tmp_path).context())
        context = trusting()
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(
            *address, ssl=context, server_hostname="localhost"
        )
        rapid = b"".join(
            frame(HEADERS, WHOLE, stream_id, DATA_REQUEST)
            + frame(RST_STREAM, 0, stream_id, bytes(4))
            for stream_id in range(1, 81, 2)
        )
        writer.write(PREFACE + frame(SETTINGS, 0, 0) + rapid + frame(PING, 0, 0, PONG[9:]))
        received = b""
        while PONG not in received:
            received += await asyncio.wait_for(reader.read(65_536), 10)
        await until(lambda: counters[slots.STREAMS] == 0)
        assert planner.begun == planner.dropped
        writer.close()
        await server.drain()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(scenario())
    assert failures == []
