"""The strict table against the running server: plain HTTP/1.1 and HTTP/1.1 over TLS."""

from __future__ import annotations

import re
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.faults.tls_client import connect_raw, read_to_end
from tests.h2client import H2Client
from tests.server import ForkedServer, RunningServer, connect_to
from tests.table import each
from tests.transport.http1.strict_cases import (
    FIELD_MAX,
    OK,
    TARGET_MAX,
    Case,
    field,
    head,
    target,
)
from tests.transport.http1.strict_framing_cases import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE = b"GET /probe HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
"""Answered by 404 where the connection goes on; ends it either way."""

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
_LENGTH = re.compile(rb"\r\ncontent-length: ([0-9]+)\r\n", re.IGNORECASE)
TRANSPORTS = pytest.mark.parametrize("transport", ["plain", "tls"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Both listeners, one worker, no data; nothing in the table may be an error of the server."""
    root = tmp_path_factory.mktemp("strict")
    with ForkedServer(root, ZEROCOPY_TLS_PORT="0") as running:
        pids = running.worker_pids()
        yield running
        assert running.worker_pids() == pids
        failures = {"connection_failed", "internal_error", "loop_error", "transfer_aborted"}
        assert [event for event in running.events() if event["event"] in failures] == []


def connected(server: RunningServer, transport: str) -> socket.socket:
    """A connection that has said nothing yet."""
    return connect_raw(server, "http/1.1") if transport == "tls" else connect_to(server.plain_port)


def statuses_of(received: bytes, asked: bytes) -> list[int]:
    """The statuses of the answers to `asked`, each framed by its length; HEAD may have none."""
    statuses = []
    while received:
        status = _STATUS.match(received)
        assert status is not None, received[:100]
        fields, blank, received = received.partition(b"\r\n\r\n")
        assert blank, "the connection ended inside a head"
        statuses.append(int(status[1]))
        length = _LENGTH.search(fields + b"\r\n")
        if length is None or (b"HEAD " in asked and (not received or _STATUS.match(received))):
            continue
        assert len(received) >= int(length[1]), "the content is cut off"
        received = received[int(length[1]) :]
    return statuses


def ask(server: RunningServer, transport: str, *pieces: bytes) -> list[int]:
    """The statuses that come for bytes on one connection, until the server ends it cleanly."""
    with closing(connected(server, transport)) as sock:
        for piece in pieces:
            sock.sendall(piece)
        received, is_aborted = read_to_end(sock)
    assert not is_aborted
    return statuses_of(received, b"".join(pieces))


def wanted(case: Case) -> list[int]:
    """The statuses of a case that is followed by `PROBE`."""
    return [*case.verdict.statuses, *([404] if case.verdict.is_kept else [])]


@TRANSPORTS
@pytest.mark.parametrize("section", SECTIONS)
def test_server_decides_as_the_table_says(
    server: RunningServer, transport: str, section: str
) -> None:
    """Every case of a section, then a probe that is answered only where the connection goes on."""
    wrong = {}
    for name, case in SECTIONS[section].items():
        got = ask(server, transport, case.data + PROBE)
        if got != wanted(case):
            wrong[name] = (got, wanted(case))
    assert wrong == {}


@TRANSPORTS
@pytest.mark.parametrize("section", ["2.2 message parsing", "9.3.2 pipelining"])
def test_server_decides_the_same_in_two_packets(
    server: RunningServer, transport: str, section: str
) -> None:
    """The table again, each case cut in its middle: the second half comes when it comes."""
    wrong = {}
    for name, case in SECTIONS[section].items():
        data = case.data + PROBE
        half = len(case.data) // 2
        with closing(connected(server, transport)) as sock:
            sock.sendall(data[:half])
            try:
                sock.sendall(data[half:])
                received, is_aborted = read_to_end(sock)
            except OSError:
                received, is_aborted = b"", True
        expected = wanted(case)
        # Refused and closed before the rest was there: a reset may take the answer with it.
        is_cut_off = is_aborted and expected[-1:] != [404]
        got = None if is_cut_off else statuses_of(received, data)
        if got not in (None, expected):
            wrong[name] = (got, expected)
    assert wrong == {}


@TRANSPORTS
def test_continue_is_sent_once_and_only_for_content_that_is_read(
    server: RunningServer, transport: str
) -> None:
    """RFC 9110 section 10.1.1: 100 to who waits with content; none without, or with too much."""
    expecting = b"Expect: 100-continue"
    for fields, content, statuses in (
        ([b"Content-Length: 3"], b"abc" + PROBE, [100, 200, 404]),
        ([b"Content-Length: 0"], PROBE, [200, 404]),
        ([], PROBE, [200, 404]),
        ([b"Content-Length: 65537"], b"", [200]),
    ):
        with closing(connected(server, transport)) as sock:
            sock.sendall(head(expecting, *fields))
            received = sock.recv(65_536)
            if content:
                sock.sendall(content)
            rest, is_aborted = read_to_end(sock)
        assert not is_aborted
        assert statuses_of(received + rest, b"GET") == statuses, fields


@TRANSPORTS
def test_fault_is_told_in_a_problem_document(server: RunningServer, transport: str) -> None:
    """The same fields on both transports, Connection: close among them; to HEAD no content."""
    for faulty, status, has_content in (
        (target(b"/#"), 400, True),
        (target(b"/#", b"HEAD"), 400, False),
        (target(b"/" + b"x" * TARGET_MAX), 414, True),
        (field(b"Expect: x"), 417, True),
        (field(b"A: " + b"x" * FIELD_MAX), 431, True),
        (field(b"Transfer-Encoding: gzip, chunked"), 501, True),
        (head(line=b"GET / HTTP/3.0"), 505, True),
    ):
        with closing(connected(server, transport)) as sock:
            sock.sendall(faulty + OK)
            received, is_aborted = read_to_end(sock)
        assert not is_aborted
        fields, _, content = received.partition(b"\r\n\r\n")
        lines = {line.lower() for line in fields.split(b"\r\n")}
        assert {
            b"connection: close",
            b"content-type: application/problem+json",
            b"server: zerocopy",
        } <= lines
        assert (b'"status":%d' % status in content) == has_content


@TRANSPORTS
def test_client_that_leaves_amid_a_head_is_not_answered(
    server: RunningServer, transport: str
) -> None:
    """What was asked before is answered; a part of a request is none."""
    with closing(connected(server, transport)) as sock:
        sock.sendall(OK + OK[:-4])
        socket.socket.shutdown(sock, socket.SHUT_WR)
        received, _ = read_to_end(sock)
    assert statuses_of(received, OK) == [200]
    assert ask(server, transport, OK + PROBE) == [200, 404]


@each(
    ("path", "method", "status"),
    [
        ("/healthz", "GET", 200),
        ("/healthz?^|{}", "GET", 200),
        ("*", "OPTIONS", 204),
        ("*", "GET", 400),
        ("/healthz#x", "GET", 400),
        ("/healthz?a b", "GET", 400),
        ("/healthz?\x7f", "GET", 400),
        ("http://t/healthz", "GET", 400),
        ("healthz", "GET", 400),
        ("t:80", "GET", 400),
        ("/api/data#x", "GET", 400),
        ("/api/data?symbol=a b", "GET", 400),
    ],
)
def test_path_of_http2_is_judged_alike(
    server: RunningServer, path: str, method: str, status: int
) -> None:
    """RFC 9113 section 8.3.1: `:path` is an origin-form, or `*` of OPTIONS."""
    with H2Client(server) as client:
        for _ in range(2):
            assert client.ask(path, method).status == status
        assert client.ask("/healthz").status == 200


@pytest.mark.parametrize("authority", ["u@t", "t:65536", "t:x", "a b", "[::g]", "t/"])
def test_authority_of_http2_is_judged_alike(server: RunningServer, authority: str) -> None:
    """RFC 9113 section 8.3.1: `:authority` is a host and a port, without user information."""
    pseudo = {":method": "GET", ":scheme": "https", ":authority": authority, ":path": "/healthz"}
    with H2Client(server) as client:
        assert client.answer(client.request("/healthz", pseudo=pseudo)).status == 400
        assert client.ask("/healthz").status == 200
