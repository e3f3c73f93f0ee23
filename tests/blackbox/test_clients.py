"""The plain listener as real clients and raw sockets use it: HTTP/1.1, RFC 9112."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    LARGE,
    MEDIUM,
    SMALL,
    Client,
    body_of,
    get_many,
    make_root,
    request_of,
    target_of,
)
from tests.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEALTH = request_of("/healthz")
ALIVE = b'{"status":"alive"}'

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("clients")
    make_root(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[RunningServer]:
    """One worker with default options."""
    with RunningServer(root) as running:
        yield running


def curl(server: RunningServer, target: str, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl with `options` for one target."""
    command = ["curl", "-sS", "--max-time", "20", *options]
    url = f"http://127.0.0.1:{server.port}{target}"
    return subprocess.run([*command, url], capture_output=True, check=True)


@needs_curl
@pytest.mark.parametrize("series", ["SMALL", "MEDIUM", "LARGE"])
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_curl_writes_a_file_equal_to_the_data(
    server: RunningServer, root: Path, tmp_path: Path, series: str, version: str
) -> None:
    """A body from memory and bodies from files arrive byte for byte, by both versions."""
    target = target_of(series, "price")
    curl(server, target, version, "-o", str(tmp_path / "body"))
    assert (tmp_path / "body").read_bytes() == body_of(root, series, ["price"])


@needs_curl
def test_curl_head_options_and_upgrade(server: RunningServer, root: Path) -> None:
    """HEAD tells the length without content, OPTIONS is 204, and an upgrade to h2c is ignored."""
    expected = body_of(root, "MEDIUM")
    head = curl(server, MEDIUM, "--head").stdout
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: %d\r\n" % len(expected) in head
    assert head.endswith(b"\r\n\r\n")
    options = curl(server, MEDIUM, "-X", "OPTIONS", "-i").stdout
    assert options.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"\r\nContent-Length:" not in options
    upgraded = curl(server, MEDIUM, "--http2", "-w", "%{http_version}").stdout
    assert upgraded == expected + b"1.1"


@needs_curl
def test_curl_reuses_one_connection_for_two_urls(server: RunningServer) -> None:
    """Curl connects once for two answers, the first of them from files."""
    url = f"http://127.0.0.1:{server.port}/healthz"
    discard = ("-o", "/dev/null", "-w", "%{num_connects} ")
    assert curl(server, MEDIUM, *discard, *("-o", "/dev/null"), url).stdout == b"1 0 "


@needs_curl
def test_curl_expect_continue_is_answered_at_once(server: RunningServer) -> None:
    """Content that waits for 100 (Continue) is asked for, not waited for a second."""
    done = curl(
        server, "/healthz", "-X", "GET", "-v", "-H", "Expect: 100-continue", "-d", "x" * 2_000
    )
    assert b"< HTTP/1.1 100 Continue" in done.stderr
    assert done.stdout == ALIVE
    assert b"Done waiting for 100-continue" not in done.stderr


@needs_wrk
@pytest.mark.parametrize(("series", "connections"), [("SMALL", 64), ("MEDIUM", 16)])
def test_wrk_sees_no_error(server: RunningServer, series: str, connections: int) -> None:
    """A second of full load ends without a socket error or a status other than 2xx."""
    url = f"http://127.0.0.1:{server.port}{target_of(series)}"
    command = ["wrk", "-t1", f"-c{connections}", "-d1s", "--timeout", "5s", url]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Socket errors" not in report
    assert "Non-2xx" not in report
    requests = re.search(r"(\d+) requests in", report)
    assert requests is not None
    assert int(requests[1]) > 100


def test_http_client_keeps_one_connection(server: RunningServer, root: Path) -> None:
    """CPython's client gets small, large and wrong answers in turn over one connection."""
    targets = [SMALL, MEDIUM, "/nowhere", SMALL, "/api/data", MEDIUM]
    before = server.metric("zerocopy_connections_accepted_total")
    answers = get_many(server, targets)
    assert [status for status, _ in answers] == [200, 200, 404, 200, 400, 200]
    assert answers[0][1] == answers[3][1] == body_of(root, "SMALL")
    assert answers[1][1] == answers[5][1] == body_of(root, "MEDIUM")
    assert server.metric("zerocopy_connections_accepted_total") == before + 1


def test_http_client_sends_chunked_content(server: RunningServer) -> None:
    """Content in chunks is dropped, and the connection goes on."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(2):
        connection.request("GET", "/healthz", body=iter([b"one", b"two"]), encode_chunked=True)
        assert connection.getresponse().read() == ALIVE
    connection.close()


def test_pipelined_requests_are_answered_in_order(server: RunningServer, root: Path) -> None:
    """Small, large, wrong and HEAD requests in one packet are answered in that order."""
    small, medium = body_of(root, "SMALL"), body_of(root, "MEDIUM")
    with Client(server) as client:
        client.send(
            request_of(MEDIUM),
            request_of(SMALL),
            request_of(MEDIUM, method="HEAD"),
            request_of("/nowhere"),
            request_of(MEDIUM),
            HEALTH,
        )
        assert client.answer().content == medium
        assert client.answer().content == small
        assert client.answer(is_head=True).fields["content-length"] == str(len(medium))
        assert client.answer().status == 404
        assert client.answer().content == medium
        assert client.answer().content == ALIVE


def test_pipelined_requests_beyond_every_queue_are_all_answered(server: RunningServer) -> None:
    """Thousands at once outlast the pipeline's bound, a turn and one recv; none is lost."""
    targets = [SMALL, "/healthz", "/nowhere"] * 700
    with Client(server) as client:
        client.send(*map(request_of, targets))
        statuses = [client.answer().status for _ in targets]
    assert statuses == [200, 200, 404] * 700


def test_request_split_anywhere_is_the_same_request(server: RunningServer, root: Path) -> None:
    """Two requests cut in two packets at every byte boundary are answered alike."""
    requests = request_of(SMALL, "Accept: */*") + request_of("/healthz")
    small = body_of(root, "SMALL")
    with Client(server) as client:
        for cut in range(1, len(requests)):
            client.send(requests[:cut])
            client.send(requests[cut:])
            assert client.answer().content == small, cut
            assert client.answer().content == ALIVE, cut


def test_request_byte_by_byte_gets_its_large_answer(server: RunningServer) -> None:
    """A head that comes byte for byte is answered from files like one that came whole."""
    request = request_of(MEDIUM)
    with Client(server) as client:
        client.send(request)
        expected = client.answer().content
        client.send(request[:10])
        for position in range(10, len(request) - 10):
            client.send(request[position : position + 1])
        client.send(request[-10:])
        assert client.answer().content == expected


def test_fault_after_an_answer_from_files_is_answered_last(server: RunningServer) -> None:
    """What was asked properly before is answered, then the fault, and what follows is not read."""
    with Client(server) as client:
        client.send(request_of(MEDIUM), HEALTH, request_of("/healthz", "Bad Name: x"), HEALTH)
        assert client.answer().status == 200
        assert client.answer().content == ALIVE
        fault = client.answer()
        assert (fault.status, fault.fields["connection"]) == (400, "close")
        assert client.is_closed()


@pytest.mark.parametrize("target", [SMALL, MEDIUM, "/nowhere"])
@pytest.mark.parametrize(
    ("version", "fields", "connection"),
    [
        ("1.1", (), None),
        ("1.1", ("Connection: keep-alive",), None),
        ("1.1", ("Connection: close",), "close"),
        ("1.1", ("Connection: Foo , CLOSE",), "close"),
        ("1.0", (), "close"),
        ("1.0", ("Connection: keep-alive",), "keep-alive"),
        ("1.0", ("Connection: Keep-Alive, Foo",), "keep-alive"),
        ("1.1", ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: A"), None),
    ],
)
def test_connection_persists_as_agreed(
    server: RunningServer, target: str, version: str, fields: tuple[str, ...], connection: str
) -> None:
    """The answer says what becomes of the connection (RFC 9112 section 9.3), and it does."""
    with Client(server) as client:
        client.send(request_of(target, *fields, version=version))
        assert client.answer().fields.get("connection") == connection
        if connection == "close":
            assert client.is_closed()
        else:
            client.send(HEALTH)
            assert client.answer().content == ALIVE


def test_client_that_half_closes_is_still_answered(server: RunningServer, root: Path) -> None:
    """Requests before the client's FIN are answered, a large one too; then the server closes."""
    with Client(server) as client:
        client.send(request_of(LARGE), HEALTH)
        client.sock.shutdown(1)
        assert client.answer().content == body_of(root, "LARGE", ["price"])
        assert client.answer().content == ALIVE
        assert client.is_closed()


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        (("Content-Length: 1000000",), b"x" * 1_000_000),
        (("Transfer-Encoding: chunked",), (b"8000\r\n" + b"x" * 32_768 + b"\r\n") * 3),
    ],
)
def test_content_far_beyond_the_bound_closes_the_connection(
    server: RunningServer, fields: tuple[str, ...], content: bytes
) -> None:
    """The request is answered, and nothing after it is taken for another one."""
    with Client(server) as client:
        client.send(request_of("/healthz", *fields), content)
        answer = client.answer()
        assert (answer.content, answer.fields["connection"]) == (ALIVE, "close")
        assert client.is_closed()


def test_continue_is_sent_only_when_it_is_awaited(server: RunningServer) -> None:
    """100 comes before content is sent, and not to HTTP/1.0, without content, or when it came."""
    expecting = ("Expect: 100-Continue", "Content-Length: 5")
    with Client(server) as client:
        client.send(request_of("/healthz", *expecting))
        assert client.head() == (100, {})
        client.send(b"hello")
        assert client.answer().content == ALIVE
        client.send(request_of("/healthz", *expecting) + b"hello")
        assert client.answer().content == ALIVE
        client.send(request_of("/healthz", "Expect: 100-continue"))
        assert client.answer().content == ALIVE
        client.send(request_of("/healthz", *expecting, "Connection: keep-alive", version="1.0"))
        client.send(b"hello")
        assert client.answer().content == ALIVE
        client.send(request_of(MEDIUM) + request_of("/healthz", *expecting))
        assert client.answer().status == 200
        assert client.answer().fields["connection"] == "close"


@pytest.mark.parametrize("origin", ["http://t", "HTTP://other:80", "https://t:8443"])
def test_absolute_form_is_its_origin_form(server: RunningServer, root: Path, origin: str) -> None:
    """A server must accept the form that proxies get (RFC 9112 section 3.2.2)."""
    with Client(server) as client:
        client.send(request_of(origin + SMALL))
        assert client.answer().content == body_of(root, "SMALL")
