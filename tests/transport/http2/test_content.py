"""Requests with content: they are answered at once, and what they hold does not depend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.client import LARGE, SMALL, body_of, poll
from tests.h2client import DATA, H2Client
from tests.server import ForkedServer, RunningServer
from tests.transport.http2.frames import ALIVE, END_STREAM, NO_ERROR, frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STREAMS = 50
BUFFERED_BYTES_MAX = 100_000
"""Of all of them, behind windows that are shut: a piece of an application's would be 256 KiB."""

EXPECTS = [("expect", "100-continue"), ("content-length", "10")]


@pytest.fixture(name="server", scope="module")
def fixture_server(root: Path) -> Iterator[RunningServer]:
    """One worker that waits longer for content than a client of these tests does."""
    with ForkedServer(root, USE_TLS="true", ZEROCOPY_TIMEOUTS_HEADER_READ_S="60") as running:
        yield running


def test_data_asked_for_with_content_is_not_buffered(server: RunningServer) -> None:
    """A request that ends with an empty DATA frame costs what one costs that ends with its head."""
    name = 'zerocopy_sent_bytes_total{path="copy"}'
    before = server.metric(name)
    with H2Client(server, initial_window=0, auto_window=False) as client:
        client.ping()
        streams = [client.request(LARGE, end_stream=False) for _ in range(STREAMS)]
        client.send_bytes(b"".join(frame(DATA, END_STREAM, stream_id) for stream_id in streams))
        client.pump(lambda: all(client.streams[i].status == 200 for i in streams), "the heads")
        assert server.metric(name) - before < BUFFERED_BYTES_MAX
    poll(lambda: server.metric("zerocopy_streams") == 0, "the streams to be over")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("target", ["/healthz", SMALL, "/api/symbols", "/nowhere"])
def test_client_that_expects_100_is_answered_at_once(
    server: RunningServer, root: Path, target: str, method: str
) -> None:
    """RFC 9110 section 10.1.1: by the final status; the content it may still send is refused."""
    with H2Client(server) as client:
        client.ping()
        stream_id = client.request(target, method, EXPECTS, end_stream=False)
        status = 200 if method == "GET" else 405
        assert client.answer(stream_id).status == (404 if target == "/nowhere" else status)
        client.pump(lambda: (stream_id, NO_ERROR) in client.resets, "the reset")
        assert client.ask("/healthz").content == ALIVE
        assert client.ask(SMALL).content == body_of(root, "SMALL")


def test_streams_that_are_answered_before_their_content_give_back_their_place(
    server: RunningServer,
) -> None:
    """More of them than a connection may have open, none of which the client ends."""
    with H2Client(server) as client:
        client.ping()
        for _ in range(120):
            stream_id = client.request("/healthz", "POST", EXPECTS, end_stream=False)
            assert client.answer(stream_id).status == 405
