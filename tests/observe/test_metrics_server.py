"""The listener of the metrics: clients that only connect, drip, or do not read hold nothing up."""

from __future__ import annotations

import gzip
import http.client
import os
import socket
import struct
import threading
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import poll
from tests.faults.tls_client import read_to_end
from zerocopy.observe import metrics_server
from zerocopy.observe.counter_rows import make_counters
from zerocopy.observe.metrics import Collector, serve_metrics
from zerocopy.observe.metrics_server import CLIENTS_MAX, HEAD_BYTES_MAX, MetricsServer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

HEAD = b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n"
LARGE_BYTES = 64 * 1024 * 1024
"""More than the kernel takes for a client that does not read."""


@pytest.fixture
def port() -> Iterator[int]:
    """The metrics of a server without workers, as the supervisor serves them."""
    fd = make_counters(0)
    yield serve_metrics(Collector(fd, 0), socket.AF_INET, ("127.0.0.1", 0))
    os.close(fd)


@pytest.fixture
def large_port() -> Iterator[int]:
    """A page that a slow client never has whole."""

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [bytes(LARGE_BYTES)]

    server = MetricsServer(socket.AF_INET, ("127.0.0.1", 0), app)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def connect(port: int, receive_buffer_bytes: int | None = None) -> socket.socket:
    """A client that has said nothing yet."""
    sock = socket.socket()
    if receive_buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.settimeout(20)
    sock.connect(("127.0.0.1", port))
    return sock


def scrape(port: int, method: str = "GET", **fields: str) -> tuple[int, dict[str, str], bytes]:
    """Status, fields and content of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, "/metrics", headers=fields)
        answer = connection.getresponse()
        names = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, names, answer.read()


def threads_of_clients() -> int:
    """How many threads serve a client of the metrics; the one that accepts is none of them."""
    return sum(thread.name == "metrics client" for thread in threading.enumerate())


def is_ended(sock: socket.socket) -> bool:
    """Whether the server has closed; a byte more is sent to find out."""
    try:
        sock.sendall(b"a")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\nA: b"], ids=["idle", "amid head"])
def test_scrape_beside_a_crowd_that_asks_nothing_is_answered(port: int, said: bytes) -> None:
    """However many connect and stay: threads are bounded, and who asks gets the page."""
    with ExitStack() as stack:
        for _ in range(5 * CLIENTS_MAX):
            stack.enter_context(connect(port)).sendall(said)
        for _ in range(3):
            status, _, page = scrape(port)
            assert status == 200
            assert b"# TYPE zerocopy_requests_total counter" in page
        poll(lambda: threads_of_clients() <= CLIENTS_MAX, "as many threads as there are places")
    poll(lambda: threads_of_clients() == 0, "all threads to end with their clients")


def test_head_by_drops_has_a_deadline_as_a_whole(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no progress; the thread ends with the connection."""
    monkeypatch.setattr(metrics_server, "HEAD_S", 0.5)
    with connect(port) as sock:
        sock.sendall(HEAD[:-2])
        poll(lambda: is_ended(sock), "the end of who never finishes its head")
        poll(lambda: threads_of_clients() == 0, "the end of its thread")


def test_client_that_does_not_read_has_a_deadline(
    large_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reset, and its thread ends; what it took meanwhile is no reason to wait for more."""
    monkeypatch.setattr(metrics_server, "ANSWER_S", 0.5)
    with connect(large_port, 4_096) as sock:
        sock.sendall(HEAD)
        assert sock.recv(100).startswith(b"HTTP/1.0 200 OK\r\n")
        poll(lambda: threads_of_clients() == 0, "the end of its thread")
        content, is_reset = read_to_end(sock)
        assert is_reset
        assert len(content) < LARGE_BYTES


def test_client_beyond_those_that_are_being_answered_is_closed_at_once(large_port: int) -> None:
    """Nobody who has asked is cut off for a newcomer, and none is kept waiting."""
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(large_port, 4_096)) for _ in range(CLIENTS_MAX)]
        for sock in slow:
            sock.sendall(HEAD)
            assert sock.recv(100).startswith(b"HTTP/1.0 200 OK\r\n")
        with connect(large_port) as newcomer:
            assert newcomer.recv(1) == b""
        assert threads_of_clients() == CLIENTS_MAX
        for sock in slow:
            assert sock.recv(100)


def test_head_that_is_too_long_or_ends_early_is_closed_without_an_answer(port: int) -> None:
    """Neither takes memory, nor is it a request."""
    with connect(port) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nA: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n")
        with suppress(ConnectionResetError):  # as the kernel has it: some may be unread
            assert sock.recv(1) == b""
    with connect(port) as sock:
        sock.sendall(HEAD[:-1])
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def test_client_that_resets_is_nothing_to_tell_of(
    port: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """No traceback between the lines of the log."""
    with connect(port) as sock:
        sock.sendall(HEAD[:5])
        poll(lambda: threads_of_clients() == 1, "its thread")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    poll(lambda: threads_of_clients() == 0, "the end of its thread")
    assert capfd.readouterr().err == ""


def test_what_is_answered_is_left_to_prometheus_client(port: int) -> None:
    """Methods, encodings and formats are negotiated by its application."""
    status, fields, page = scrape(port, **{"Accept-Encoding": "gzip"})
    assert (status, fields["content-encoding"]) == (200, "gzip")
    assert b"zerocopy_workers" in gzip.decompress(page)
    status, fields, page = scrape(port, Accept="application/openmetrics-text; version=1.0.0")
    assert fields["content-type"].startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")
    with connect(port) as sock:
        sock.sendall(b"GET /metrics?name%5B%5D=zerocopy_workers HTTP/1.0\r\n\r\n")
        asked = b"".join(iter(lambda: sock.recv(4_096), b""))
    samples = [line for line in asked.partition(b"\r\n\r\n")[2].splitlines() if line[:1] != b"#"]
    assert [line.split()[0] for line in samples] == [b"zerocopy_workers"]
    status, fields, page = scrape(port, "HEAD")
    assert (status, fields["allow"], page) == (405, "OPTIONS,GET", b"")
    with connect(port) as sock:
        sock.sendall(b"GET /metrics HTTP/1.0\n\n")
        assert sock.recv(100).startswith(b"HTTP/1.0 200 OK\r\n")
