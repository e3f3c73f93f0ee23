"""Request content that an application stops reading: no connection may hang or outlive its client.

Hypercorn hands content over by a queue of ten events; a connection that waits for room in it after
the application has answered would wait for ever.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.h2client import DATA, H2Client
from tests.server import ForkedServer, RunningServer
from tests.transport.http2.frames import ALIVE, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

BOUND_BYTES = 1_000
FRAMES = 100
PATIENCE_S = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One worker that reads little content, and stops within a second once nothing is open."""
    root = tmp_path_factory.mktemp("overrun")
    options = {
        "ZEROCOPY_LIMITS_CONTENT_BYTES_MAX": f"{BOUND_BYTES}",
        "ZEROCOPY_SERVER_DRAIN_DEADLINE_S": "10",
    }
    with ForkedServer(root, USE_TLS="true", **options) as running:
        yield running


def assert_no_connection_is_left(server: RunningServer) -> None:
    """Every client has left, so the gauge has to come to zero."""
    poll(lambda: server.metric("zerocopy_connections") == 0, "no connection", PATIENCE_S)


@pytest.mark.parametrize("target", ["/healthz", "/api/data"])
@pytest.mark.parametrize("frames", [5, FRAMES])
def test_content_above_the_bound_in_many_frames(
    server: RunningServer, target: str, frames: int
) -> None:
    """HTTP/2: the request is answered or reset, PING too, and the connection ends as it should."""
    with H2Client(server) as client:
        stream_id = client.request(target, "POST", end_stream=False)
        content = frame(DATA, 0, stream_id, bytes(BOUND_BYTES + 1))
        client.send_bytes(content + frame(DATA, 0, stream_id, bytes(10)) * frames)
        stream = client.streams[stream_id]
        client.pump(lambda: stream.is_over, "an answer or a reset", PATIENCE_S)
        opaque = b"still on"
        client.h2.ping(opaque)
        client.flush()
        client.pump(lambda: opaque in client.pongs, "the answer to a PING", PATIENCE_S)
        assert client.ask("/healthz").content == ALIVE
    assert_no_connection_is_left(server)


@pytest.mark.parametrize("nbytes", [BOUND_BYTES + 1, 100_000, 2_000_000])
def test_content_above_the_bound_over_http1(server: RunningServer, nbytes: int) -> None:
    """HTTP/1.1: the answer says close, whatever is still sent; then the connection is gone."""
    with server.connect_tls(["http/1.1"]) as sock:
        head = f"POST /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: {2 * nbytes}\r\n\r\n"
        sock.sendall(head.encode())
        with suppress(OSError):  # it may be closed by now
            sock.sendall(bytes(nbytes))
        with suppress(ConnectionError):  # a reset may overtake the answer, RFC 9112 section 9.6
            answer = sock.recv(1 << 16).lower()
            assert answer.startswith(b"http/1.1 405 ")
            assert b"\r\nconnection: close\r\n" in answer
    assert_no_connection_is_left(server)


@pytest.mark.parametrize("frames", [0, 1, 5])
@pytest.mark.parametrize(("method", "status"), [("POST", 414), ("post", 405)])
def test_content_that_comes_with_a_head_answered_at_once(
    server: RunningServer, method: str, status: int, frames: int
) -> None:
    """A stream that was answered and reset in one turn costs no other stream its connection."""
    target = "/healthz" + "?" * (9_000 if status == 414 else 0)
    with H2Client(server) as client:
        client.ping()
        stream_id, raw = client.request_bytes(target, method, end_stream=False)
        client.send_bytes(raw + frame(DATA, 0, stream_id, bytes(10)) * frames)
        stream = client.streams[stream_id]
        client.pump(lambda: stream.is_over, "an answer", PATIENCE_S)
        assert stream.status == status
        assert client.ask("/healthz").content == ALIVE
    assert_no_connection_is_left(server)
