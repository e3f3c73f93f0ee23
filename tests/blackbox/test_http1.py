"""Both HTTP/1.1 listeners as raw sockets use them: RFC 9112, the same over TLS."""

from __future__ import annotations

import shutil
import socket
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import (
    LARGE,
    MEDIUM,
    SMALL,
    Client,
    body_of,
    make_root,
    request_of,
)
from tests.faults.tls_client import TlsClient
from tests.server import ForkedServer, RunningServer
from tests.table import each

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEALTH = request_of("/healthz")
ALIVE = b'{"status":"alive"}'
TOO_LONG = "x" * 8_192


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root that no test changes."""
    path = tmp_path_factory.mktemp("clients")
    make_root(path)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module", params=["plain", "tls"])
def server(root: Path, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """One worker with default options."""
    with ForkedServer(root, USE_TLS=str(request.param == "tls").lower()) as running:
        yield running


def connect(server: RunningServer) -> Client:
    """A client that has said nothing yet."""
    return TlsClient(server) if server.is_tls else Client(server)


def test_pipelined_requests_are_answered_in_order(server: RunningServer, root: Path) -> None:
    """Small, large, wrong and HEAD requests in one packet are answered in that order."""
    small, medium = body_of(root, "SMALL"), body_of(root, "MEDIUM")
    with connect(server) as client:
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
    with connect(server) as client:
        client.send(*map(request_of, targets))
        statuses = [client.answer().status for _ in targets]
    assert statuses == [200, 200, 404] * 700


def test_request_split_anywhere_is_the_same_request(server: RunningServer, root: Path) -> None:
    """Two requests cut in two packets at every byte boundary are answered alike."""
    requests = request_of(SMALL, "Accept: */*") + request_of("/healthz")
    small = body_of(root, "SMALL")
    with connect(server) as client:
        for cut in range(1, len(requests)):
            client.send(requests[:cut])
            client.send(requests[cut:])
            assert client.answer().content == small, cut
            assert client.answer().content == ALIVE, cut


def test_request_byte_by_byte_gets_its_large_answer(server: RunningServer) -> None:
    """A head that comes byte for byte is answered from files like one that came whole."""
    request = request_of(MEDIUM)
    with connect(server) as client:
        client.send(request)
        expected = client.answer().content
        client.send(request[:10])
        for position in range(10, len(request) - 10):
            client.send(request[position : position + 1])
        client.send(request[-10:])
        assert client.answer().content == expected


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (request_of("/healthz", "Bad Name: x"), 400),
        (request_of(f"/{TOO_LONG}"), 414),
        (request_of("/healthz", f"A: {TOO_LONG}"), 431),
    ],
)
def test_fault_after_pipelined_requests_is_answered_last(
    server: RunningServer, bad: bytes, status: int
) -> None:
    """What was asked properly before is answered, then the fault, and what follows is not read."""
    with connect(server) as client:
        client.send(request_of(MEDIUM), HEALTH, bad, HEALTH)
        assert client.answer().status == 200
        assert client.answer().content == ALIVE
        fault = client.answer()
        assert (fault.status, fault.fields["connection"]) == (status, "close")
        assert client.is_closed()


@each("target", [SMALL, MEDIUM, "/nowhere"])
@each(
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
    with connect(server) as client:
        client.send(request_of(target, *fields, version=version))
        assert client.answer().fields.get("connection") == connection
        if connection == "close":
            assert client.is_closed()
        else:
            client.send(HEALTH)
            assert client.answer().content == ALIVE


def test_client_that_half_closes_is_still_answered(server: RunningServer, root: Path) -> None:
    """Requests before the client's FIN are answered, a large one too; then the server closes."""
    with connect(server) as client:
        client.send(request_of(LARGE), HEALTH)
        socket.socket.shutdown(client.sock, socket.SHUT_WR)
        assert client.answer().content == body_of(root, "LARGE", ["price"])
        assert client.answer().content == ALIVE
        assert client.is_closed()


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        (("Content-Length: 5",), b"GET /"),
        (("Content-Length: 65536",), b"x" * 65_536),
    ],
)
def test_content_within_the_bound_is_drained(
    server: RunningServer, fields: tuple[str, ...], content: bytes
) -> None:
    """Content is no request: it is dropped, and the next request is found behind it."""
    with connect(server) as client:
        client.send(request_of("/healthz", *fields), content, request_of("/nowhere"))
        assert client.answer().content == ALIVE
        assert client.answer().status == 404


@each(
    ("fields", "content"),
    [
        (("Content-Length: 65537",), b""),
        (("Content-Length: 1000000",), b"x" * 1_000_000),
        (("Transfer-Encoding: chunked",), b"5\r\nGET /\r\n3;a=b\r\nabc\r\n0\r\n\r\n"),
        (("Transfer-Encoding: chunked",), b"1\r\na\r\n0\r\nTrailer: b\r\n\r\n"),
        (("Transfer-Encoding: chunked",), (b"8000\r\n" + b"x" * 32_768 + b"\r\n") * 3),
    ],
)
def test_content_chunked_or_beyond_the_bound_closes_the_connection(
    server: RunningServer, fields: tuple[str, ...], content: bytes
) -> None:
    """The request is answered, and nothing after it is taken for another one."""
    with connect(server) as client:
        client.send(request_of("/healthz", *fields), content)
        answer = client.answer()
        assert (answer.content, answer.fields["connection"]) == (ALIVE, "close")
        assert client.is_closed()


def test_continue_is_sent_only_when_it_is_awaited(server: RunningServer) -> None:
    """100 comes before content is sent, and not to HTTP/1.0, without content, or when it came."""
    expecting = ("Expect: 100-Continue", "Content-Length: 5")
    with connect(server) as client:
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


def test_other_expectation_is_417(server: RunningServer) -> None:
    """RFC 9110 section 10.1.1: an expectation that is not known is refused."""
    with connect(server) as client:
        client.send(request_of("/healthz", "Expect: 200-ok"))
        assert client.answer().status == 417


@pytest.mark.parametrize("origin", ["http://t", "HTTP://other:80", "https://t:8443"])
def test_absolute_form_is_its_origin_form(server: RunningServer, root: Path, origin: str) -> None:
    """A server must accept the form that proxies get (RFC 9112 section 3.2.2)."""
    with connect(server) as client:
        client.send(request_of(origin + SMALL))
        assert client.answer().content == body_of(root, "SMALL")


HOSTS_REFUSED = {
    "none": request_of("/healthz", host=None),
    "two": request_of("/healthz", "Host: t"),
    "two in 1.0": request_of("/healthz", "Host: t", version="1.0"),
    "none with absolute-form": request_of("http://t/healthz", host=None),
    **{h: request_of("/healthz", host=h) for h in ("a b", "a/b", "u@t", "t:x", "t, t", "[::1")},
}


@pytest.mark.parametrize("request_bytes", HOSTS_REFUSED.values(), ids=HOSTS_REFUSED)
def test_host_that_is_not_exactly_one_valid_is_400(
    server: RunningServer, request_bytes: bytes
) -> None:
    """RFC 9112 section 3.2, and the connection is closed."""
    assert_refused(server, request_bytes, 400)


@each("host", ["t", "t:80", "127.0.0.1:", "[::1]:8443", "", "xn--a.b-c_d"])
def test_host_that_is_valid_is_answered(server: RunningServer, host: str) -> None:
    """Names, addresses, ports and the empty host of RFC 9110 section 7.2."""
    with connect(server) as client:
        client.send(request_of("/healthz", host=host))
        assert client.answer().status == 200


MANY = [f"N{index}: x" for index in range(100)]
MUCH = [f"N{index}: {'x' * 8_000}" for index in range(5)]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(request_of("/" + "x" * 8_192), 414, id="target"),
        pytest.param(request_of("/" + "x" * 100_000), 414, id="target without end"),
        pytest.param(b"GET /" + b"x" * 40_000, 414, id="target that never ends"),
        pytest.param(request_of("/", "A: " + "x" * 8_192), 431, id="field"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"x" * 40_000, 431, id="field that never ends"),
        pytest.param(request_of("/", *MUCH), 431, id="all fields"),
        pytest.param(request_of("/", *MANY), 431, id="count"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="HTTP/2"),
        pytest.param(b"GET /healthz\r\n\r\n", 400, id="HTTP/0.9"),
        pytest.param(b"GET /healthz HTTP/3.0\r\nHost: t\r\n\r\n", 505, id="HTTP/3.0"),
        pytest.param(request_of("/healthz", "Name : x"), 400, id="blank before colon"),
        pytest.param(request_of("/healthz", " folded"), 400, id="folded"),
        pytest.param(request_of("/healthz", "A: \0"), 400, id="NUL"),
        pytest.param(request_of("/healthz", "Content-Length: +1"), 400, id="length with sign"),
        pytest.param(request_of("/healthz", "Content-Length: 1, 1"), 400, id="length as list"),
        pytest.param(request_of("/healthz", "Content-Length: 9" * 3), 400, id="length huge"),
        pytest.param(
            request_of("/healthz", "Content-Length: 1", "Transfer-Encoding: chunked"),
            400,
            id="length and chunked",
        ),
        pytest.param(request_of("/healthz", "Transfer-Encoding: gzip"), 400, id="not chunked"),
    ],
)
def test_request_that_cannot_be_read_is_refused(
    server: RunningServer, request_bytes: bytes, status: int
) -> None:
    """Limits and grammar: a problem document, then the end of the connection."""
    assert_refused(server, request_bytes, status)


def assert_refused(server: RunningServer, request_bytes: bytes, status: int) -> None:
    """One problem document with Connection: close; nothing behind it is answered."""
    with connect(server) as client:
        client.send(request_bytes, HEALTH)
        answer = client.answer()
        assert answer.status == status
        assert answer.fields["content-type"] == "application/problem+json"
        assert answer.fields["connection"] == "close"
        assert client.is_closed()
