"""Streams that an application answers: a shut window holds it up, a client that leaves ends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypercorn.asyncio.worker_context import EventWrapper

from tests.faults.client import LARGE, poll
from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer
from zerocopy.transport.http2.app_buffer import AppBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUFFERED_BYTES_MAX = 4_000_000
"""Of a response that the client has no window for: some pieces of 256 KiB, and its head."""

CANCEL = 8


@pytest.fixture(name="server", scope="module")
def fixture_server(root: Path) -> Iterator[RunningServer]:
    """One worker on TLS whose clients have two seconds to take something."""
    with ForkedServer(root, USE_TLS="true", ZEROCOPY_TIMEOUTS_WRITE_PROGRESS_S="2") as running:
        yield running


def copied(server: RunningServer) -> float:
    """Bytes that were given to TLS, or wait for a window."""
    return server.metric('zerocopy_sent_bytes_total{path="copy"}')


def is_over(server: RunningServer) -> bool:
    """Whether no request is under way."""
    return not (server.metric("zerocopy_requests_in_flight") or server.metric("zerocopy_streams"))


def test_window_by_the_byte_holds_up_a_response_to_a_request_with_content(
    server: RunningServer,
) -> None:
    """A client that takes a byte at a time gets them, and no piece more is made for each."""
    before = copied(server)
    with H2Client(server, initial_window=1) as client:
        stream_id = client.request(LARGE, end_stream=False)
        client.h2.send_data(stream_id, b"x", end_stream=True)
        client.flush()
        stream = client.streams[stream_id]
        client.pump(lambda: len(stream.content) >= 300, "300 bytes")
        assert copied(server) - before < BUFFERED_BYTES_MAX
        client.reset(stream_id)
        client.ping()
    poll(lambda: is_over(server), "all to be over", 10)


def test_window_that_is_shut_holds_up_a_response_to_a_request_with_content(
    server: RunningServer,
) -> None:
    """It is not gathered in memory, and the stream is reset once write_progress_s has passed."""
    before = copied(server)
    with H2Client(server, initial_window=0) as client:
        stream_id = client.request(LARGE, end_stream=False)
        client.h2.send_data(stream_id, b"x", end_stream=True)
        client.flush()
        client.pump(lambda: client.streams[stream_id].reset_code == CANCEL, "the reset", 20)
    poll(lambda: is_over(server), "all to be over", 10)
    assert copied(server) - before < BUFFERED_BYTES_MAX


def test_streams_that_are_reset_before_their_content_has_ended_cost_nothing(
    server: RunningServer,
) -> None:
    """No response is made for a request that was given up, whatever it asked for."""
    before = copied(server)
    with H2Client(server) as client:
        for _ in range(50):
            client.reset(client.request(LARGE, end_stream=False))
        client.ping()
        poll(lambda: is_over(server), "all to be over", 10)
        assert copied(server) - before < BUFFERED_BYTES_MAX


def test_buffer_lets_its_application_go_on_once_little_is_left() -> None:
    """However small the pieces that are taken."""

    async def scenario() -> None:
        buffer = AppBuffer(EventWrapper, 0)
        pushing = asyncio.ensure_future(buffer.push(bytes(100_000)))
        await asyncio.sleep(0)
        for size in (0, 1, 1_000, 60_000):
            assert len(await buffer.pop(size)) == size
            await asyncio.sleep(0)
            assert not pushing.done(), f"{len(buffer.buffer)} bytes are left"
        await buffer.pop(30_000)
        await asyncio.wait_for(pushing, 10)
        assert len(await buffer.pop(100_000)) == 100_000 - 91_001

    asyncio.run(scenario())
