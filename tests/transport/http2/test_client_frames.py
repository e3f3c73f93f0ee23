"""HTTP/2 frames as clients may send them, and as they must not: RFC 9113, section by section."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from h2.config import H2Configuration

from tests.faults.client import LARGE, LARGE_BYTES, MEDIUM, SMALL, body_of
from tests.h2client import (
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PRIORITY,
    SETTINGS,
    WINDOW_BYTES_MAX,
    H2Client,
)
from tests.transport.http2.frames import (
    ACK,
    ALIVE,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    WHOLE,
    WITH_PRIORITY,
    assert_connection_error,
    assert_refused,
    block_of,
    frame,
    settings,
)
from zerocopy.transport.http2.errors import JudgedConnection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.server import RunningServer

PSEUDO = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/healthz"}


def test_requests_split_byte_by_byte_over_tls_records(client: H2Client) -> None:
    """Each byte comes in a TLS record of its own."""
    for target in ("/healthz", "/healthz", "/healthz?x=1"):
        stream_id, raw = client.request_bytes(target)
        for index in range(len(raw)):
            client.send_bytes(raw[index : index + 1])
        assert client.answer(stream_id).content == ALIVE


def test_preface_split_byte_by_byte(server: RunningServer) -> None:
    """Preface and SETTINGS too; the acknowledgement comes."""
    with server.connect_tls(["h2"]) as sock:
        for byte in PREFACE + frame(SETTINGS, 0, 0):
            sock.sendall(bytes([byte]))
        received = b""
        while frame(SETTINGS, ACK, 0) not in received:
            data = sock.recv(1_024)
            assert data
            received += data
        assert received[3] == SETTINGS


def test_several_requests_in_one_tls_record(client: H2Client, root: Path) -> None:
    """Twenty requests and their preface of pings in one piece, each answered."""
    requests = [client.request_bytes(SMALL) for _ in range(20)]
    client.send_bytes(b"".join(raw for _, raw in requests))
    for stream_id, _ in requests:
        assert client.answer(stream_id).content == body_of(root, "SMALL")


def test_headers_continued(client: H2Client, root: Path) -> None:
    """A block in pieces of one byte and empty ones, in frames of their own."""
    stream_id, block = block_of(client, SMALL)
    pieces = [block[:1], b"", *(block[index : index + 1] for index in range(1, 9)), block[9:]]
    raw = frame(HEADERS, END_STREAM, stream_id, pieces[0])
    for piece in pieces[1:-1]:
        raw += frame(CONTINUATION, 0, stream_id, piece)
    client.send_bytes(raw + frame(CONTINUATION, END_HEADERS, stream_id, pieces[-1]))
    assert client.answer(stream_id).content == body_of(root, "SMALL")


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_headers_padded(client: H2Client, padding: int) -> None:
    """Padding is dropped."""
    stream_id, block = block_of(client, "/healthz")
    payload = bytes([padding]) + block + bytes(padding)
    client.send_bytes(frame(HEADERS, WHOLE | PADDED, stream_id, payload))
    assert client.answer(stream_id).content == ALIVE


@pytest.mark.parametrize("depends_on", [0, 1, 99, 0x8000_0000])
def test_headers_with_priority(client: H2Client, depends_on: int) -> None:
    """Flag and fields of RFC 7540 are read over, whatever they name."""
    assert client.ask("/healthz").content == ALIVE
    stream_id, block = block_of(client, "/healthz")
    payload = struct.pack(">IB", depends_on, 200) + block
    client.send_bytes(frame(HEADERS, WHOLE | WITH_PRIORITY, stream_id, payload))
    assert client.answer(stream_id).content == ALIVE


def test_priority_frames_on_streams_of_every_state(client: H2Client, root: Path) -> None:
    """Idle, open and closed ones, with a circle of dependencies; every answer is exact."""
    streams = [client.request(MEDIUM) for _ in range(3)]
    for stream_id, depends_on in ((1, 3), (3, 5), (5, 1), (5, 0x8000_0001), (99, 1), (1, 99)):
        client.send_bytes(frame(PRIORITY, 0, stream_id, struct.pack(">IB", depends_on, 7)))
    for stream_id in streams:
        assert client.answer(stream_id).content == body_of(root, "MEDIUM")
    client.send_bytes(frame(PRIORITY, 0, streams[0], struct.pack(">IB", 0, 255)))
    assert client.ask(SMALL).content == body_of(root, "SMALL")


@pytest.mark.parametrize("kind", [HEADERS, PRIORITY])
def test_stream_that_depends_on_itself(client: H2Client, kind: int) -> None:
    """An error by RFC 7540, 5.3.1, and read over by RFC 9113: either way no harm."""
    stream_id, block = block_of(client, "/healthz")
    priority = struct.pack(">IB", stream_id, 1)
    if kind == HEADERS:
        flags = WHOLE | WITH_PRIORITY
        client.send_bytes(frame(HEADERS, flags, stream_id, priority + block))
    else:
        client.send_bytes(frame(HEADERS, WHOLE, stream_id, block))
        client.send_bytes(frame(PRIORITY, 0, stream_id, priority))
    stream = client.streams[stream_id]
    client.pump(lambda: stream.is_over or client.is_closed, "an answer or a refusal")
    if stream.is_ended:
        assert stream.answer().content == ALIVE
    else:
        assert stream.reset_code == PROTOCOL_ERROR or client.goaways[-1][0] == PROTOCOL_ERROR


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("GET", 200), ("HEAD", 200)])
def test_request_with_content_and_trailers(client: H2Client, method: str, status: int) -> None:
    """DATA, padded and empty frames, trailers: read over, and the connection goes on."""
    for length in (None, 1_003):
        fields = [] if length is None else [("content-length", str(length))]
        stream_id = client.request("/healthz", method, fields, end_stream=False)
        client.send_bytes(
            frame(DATA, 0, stream_id, bytes(1_000))
            + frame(DATA, 0, stream_id)
            + frame(DATA, PADDED, stream_id, b"\x05abc" + bytes(5))
        )
        trailer = b"\x10\x03x-y\x01z"  # literal, never indexed
        client.send_bytes(frame(HEADERS, WHOLE, stream_id, trailer))
        assert client.answer(stream_id).status == status
    assert client.ask("/healthz").content == ALIVE


def test_content_shorter_than_its_length_is_malformed(client: H2Client) -> None:
    """RFC 9113, 8.1.1: a stream error of type PROTOCOL_ERROR, or a connection error."""
    stream_id = client.request("/healthz", "GET", [("content-length", "9")], end_stream=False)
    client.send_bytes(frame(DATA, END_STREAM, stream_id, b"abc"))
    stream = client.streams[stream_id]
    client.pump(lambda: stream.is_over or client.is_closed, "an answer or a refusal")
    if stream.status != 200:  # 8.1: it may have been answered before its content came
        assert_refused(client, stream_id, PROTOCOL_ERROR)


def test_unknown_frames_settings_and_flags_are_ignored(client: H2Client, root: Path) -> None:
    """RFC 9113, 4.1, 5.5 and 6.5.2."""
    stream_id = client.request(MEDIUM)
    client.send_bytes(
        frame(0x42, 0xFF, 0, b"unknown")
        + frame(0x42, 0xFF, stream_id, bytes(16_384))
        + frame(0xFA, 0, 99)
        + frame(SETTINGS, 0, 0, struct.pack(">HI", 0xFAFA, 7))
        + frame(PING, 0xF0, 0, b"87654321")
    )
    assert client.answer(stream_id).content == body_of(root, "MEDIUM")
    client.pump(lambda: b"87654321" in client.pongs, "the answer to a PING")


def test_ping_amid_a_body_is_answered_at_once_with_its_bytes(
    server: RunningServer, root: Path
) -> None:
    """The answer comes while most of 16 MB is still to come."""
    with H2Client(
        server, initial_window=WINDOW_BYTES_MAX, connection_window=WINDOW_BYTES_MAX
    ) as client:
        stream_id = client.request(LARGE)
        client.pump(lambda: bool(client.lengths(stream_id)), "the first DATA")
        client.send_bytes(frame(PING, 0, 0, b"\x00opaque\xff"))
        client.pump(lambda: bool(client.pongs), "the answer to a PING")
        assert client.pongs == [b"\x00opaque\xff"]
        assert len(client.streams[stream_id].content) < LARGE_BYTES * 3 // 4
        assert client.answer(stream_id).content == body_of(root, "LARGE", ["price"])


def without(name: str) -> Mapping[str, str]:
    """All pseudo-fields but one."""
    return {key: value for key, value in PSEUDO.items() if key != name}


MALFORMED: dict[str, tuple[Mapping[str, str], Sequence[tuple[str, str]]]] = {
    "upper-case name": (PSEUDO, [("X-Upper", "1")]),
    "name with a space": (PSEUDO, [("x y", "1")]),
    "name with a colon": (PSEUDO, [("x:y", "1")]),
    "empty name": (PSEUDO, [("", "1")]),
    "line feed": (PSEUDO, [("x", "a\nb: c")]),
    "carriage return": (PSEUDO, [("x", "a\rb")]),
    "nul": (PSEUDO, [("x", "a\0b")]),
    "no :path": (without(":path"), []),
    "no :method": (without(":method"), []),
    "no :scheme": (without(":scheme"), []),
    "empty :path": ({**PSEUDO, ":path": ""}, []),
    "two :path": (PSEUDO, [(":path", "/healthz")]),
    "late :path": (without(":path"), [("x", "1"), (":path", "/healthz")]),
    "unknown pseudo-field": ({**PSEUDO, ":new": "1"}, []),
    "pseudo-field of responses": ({**PSEUDO, ":status": "200"}, []),
    "connection": (PSEUDO, [("connection", "close")]),
    "keep-alive": (PSEUDO, [("keep-alive", "timeout=5")]),
    "proxy-connection": (PSEUDO, [("proxy-connection", "close")]),
    "transfer-encoding": (PSEUDO, [("transfer-encoding", "chunked")]),
    "upgrade": (PSEUDO, [("upgrade", "websocket")]),
    "te": (PSEUDO, [("te", "gzip")]),
    "content-length twice": (PSEUDO, [("content-length", "0"), ("content-length", "1")]),
    "content-length no number": (PSEUDO, [("content-length", "x")]),
    "content-length without content": (PSEUDO, [("content-length", "5")]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_is_never_served(client: H2Client, name: str) -> None:
    """RFC 9113, 8.1.1 to 8.3: PROTOCOL_ERROR of the stream or the connection, or 400."""
    pseudo, fields = MALFORMED[name]
    assert_refused(client, client.request("", fields=fields, pseudo=pseudo), PROTOCOL_ERROR)


def test_te_trailers_is_allowed(client: H2Client) -> None:
    """RFC 9113, 8.2.2: the one value that TE may have."""
    assert client.ask("/healthz", fields=[("te", "trailers")]).content == ALIVE


def test_bad_preface_is_not_served(server: RunningServer) -> None:
    """What is not HTTP/2 under ALPN h2 is closed, at once and without an answer to it."""
    with server.connect_tls(["h2"]) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(99))
        received = b""
        while data := sock.recv(1_024):
            received += data
        assert ALIVE not in received


@pytest.mark.parametrize("target", [SMALL, LARGE, "/healthz"])
def test_request_taken_back_in_the_same_bytes_costs_nobody_else(
    server: RunningServer, target: str
) -> None:
    """HEADERS and RST_STREAM in one record beside a request that is meant: that is answered."""
    with H2Client(server) as client:
        for _ in range(3):  # unknown, then planned, then known
            taken_back, raw = client.request_bytes(target)
            client.h2.reset_stream(taken_back, 8)
            client.streams[taken_back].is_given_up = True
            raw += client.h2.data_to_send()
            stream_id, wanted = client.request_bytes(SMALL)
            client.send_bytes(raw + wanted)
            assert client.answer(stream_id).status == 200
        assert not client.goaways


def test_priority_frames_in_a_circle_hang_nobody(server: RunningServer) -> None:
    """Two of the streams end and one is shut by its window: the worker goes on, and idles."""
    with H2Client(server, connection_window=WINDOW_BYTES_MAX, auto_window=False) as client:
        client.ping()
        shut, second, third = client.request(LARGE), client.request(MEDIUM), client.request(MEDIUM)
        client.ping()
        for stream_id, depends_on in ((second, shut), (third, second), (shut, second)):
            client.send_bytes(frame(PRIORITY, 0, stream_id, struct.pack(">IB", depends_on, 15)))
        for stream_id in (third, second):
            client.window(stream_id, 1 << 24)
            assert client.answer(stream_id).status == 200
        client.ping()
        with H2Client(server) as other:
            assert other.ask("/healthz").content == ALIVE


def judged() -> JudgedConnection:
    """The server's side, whose client has sent nothing but its preface."""
    connection = JudgedConnection(H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    connection.receive_data(PREFACE + frame(SETTINGS, 0, 0))
    return connection


def test_unknown_settings_are_not_kept() -> None:
    """RFC 9113 section 6.5.2: they mean nothing, so they cost nothing."""
    connection = judged()
    known = len(connection.remote_settings)
    for begin in range(100, 30_000, 2_000):
        many = [struct.pack(">HI", code, 1) for code in range(begin, begin + 2_000)]
        connection.receive_data(frame(SETTINGS, 0, 0, b"".join(many)))
    assert len(connection.remote_settings) == known


@pytest.mark.parametrize(("asked", "used"), [(0, 0), (100, 100), (4_096,) * 2, (2**32 - 1, 4_096)])
def test_table_of_the_encoder_is_as_small_as_the_client_asks_and_never_large(
    asked: int, used: int
) -> None:
    """RFC 7541 section 4.2: an encoder may use less than it is allowed."""
    connection = judged()
    connection.receive_data(settings(1, asked))
    assert connection.encoder.header_table_size == used
    connection.receive_data(settings(1, 2**32 - 1))
    assert connection.encoder.header_table_size == 4_096
    assert connection.encoder.table_size_changes in ([], [used], [used, 4_096])


def test_settings_of_many_bytes_are_a_flood_as_many_frames_are(strict: RunningServer) -> None:
    """Ten settings that nobody knows are welcome, thousands in a frame are not."""
    with H2Client(strict) as client:
        client.ping()
        one = struct.pack(">HI", 0x4242, 1)
        client.send_bytes(frame(SETTINGS, 0, 0, one * 10))
        client.ping()
        client.send_bytes(frame(SETTINGS, 0, 0, one * 2_700))
        assert_connection_error(client, ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("target", ["/healthz", SMALL])
def test_table_size_that_is_said_twice_is_told(client: H2Client, target: str) -> None:
    """RFC 7541 section 4.2: the next block says that the table is empty, and can be read."""
    assert client.ask("/healthz").content == ALIVE  # its fields are in the table now
    acks = client.settings_acks
    client.send_bytes(settings(1, 0) * 2)
    client.pump(lambda: client.settings_acks == acks + 2, "both to be acknowledged")
    client.h2.decoder.max_allowed_table_size = 0
    assert client.ask(target).status == 200
