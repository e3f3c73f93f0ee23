"""A malformed request ends its stream alone, RFC 9113 section 8.1.1; what beside it is served."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes

from tests.faults.client import MEDIUM, SMALL, body_of
from tests.h2client import (
    CONTINUATION,
    DATA,
    HEADERS,
    RST_STREAM,
    WINDOW_BYTES_MAX,
    WINDOW_UPDATE,
    H2Client,
)
from tests.server import ForkedServer, RunningServer
from tests.transport.http2.frames import (
    ALIVE,
    COMPRESSION_ERROR,
    END_HEADERS,
    END_STREAM,
    NO_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    WHOLE,
    assert_connection_error,
    frame,
)
from zerocopy.transport.http2.errors import JudgedConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

PSEUDO = {":method": "GET", ":scheme": "https", ":authority": "localhost", ":path": "/healthz"}
CONNECT = {":method": "CONNECT", ":authority": "localhost:443"}
CONTROL_FRAMES_MAX = 20
REFUSED_STREAM = 7


@pytest.fixture(name="server", scope="module")
def fixture_server(root: Path) -> Iterator[RunningServer]:
    """One worker on TLS to which twenty useless frames in a second are a flood."""
    options = {"ZEROCOPY_LIMITS_CONTROL_FRAMES_MAX": f"{CONTROL_FRAMES_MAX}"}
    with ForkedServer(root, USE_TLS="true", **options) as running:
        yield running


class Beside:
    """A connection with a download that waits for its window."""

    def __init__(self, client: H2Client, root: Path) -> None:
        self.client = client
        self._body = body_of(root, "MEDIUM")
        self._download = client.request(MEDIUM)
        client.pump(lambda: sum(client.lengths(self._download)) == 65_535, "the window's worth")

    def assert_served(self) -> None:
        """The download comes whole, and requests whose fields the decoder has to remember."""
        client = self.client
        client.window(0, WINDOW_BYTES_MAX - 65_535)
        client.window(self._download, WINDOW_BYTES_MAX - 65_535)
        assert client.answer(self._download).content == self._body
        for _ in range(2):
            assert client.ask("/healthz", fields=[("x-behind", "the fault")]).content == ALIVE
        assert not client.goaways


@pytest.fixture(name="beside")
def fixture_beside(server: RunningServer, root: Path) -> Iterator[Beside]:
    """A client whose windows open only when told."""
    with H2Client(server, auto_window=False) as client:
        yield Beside(client, root)


def without(name: str) -> Mapping[str, str]:
    """All pseudo-fields but one."""
    return {key: value for key, value in PSEUDO.items() if key != name}


MALFORMED: dict[str, tuple[Mapping[str, str], Sequence[tuple[str, str]]]] = {
    # section 8.2.1
    "upper-case name": (PSEUDO, [("X-Upper", "1")]),
    "name with a space": (PSEUDO, [("x y", "1")]),
    "name with a colon": (PSEUDO, [("x:y", "1")]),
    "name beyond ASCII": (PSEUDO, [("x\xe9", "1")]),
    "empty name": (PSEUDO, [("", "1")]),
    "line feed": (PSEUDO, [("x", "a\nb: c")]),
    "carriage return": (PSEUDO, [("x", "a\rb")]),
    "nul": (PSEUDO, [("x", "a\0b")]),
    "space before a value": (PSEUDO, [("x", " a")]),
    "tab behind a value": (PSEUDO, [("x", "a\t")]),
    # section 8.2.2
    "connection": (PSEUDO, [("connection", "close")]),
    "keep-alive": (PSEUDO, [("keep-alive", "timeout=5")]),
    "proxy-connection": (PSEUDO, [("proxy-connection", "close")]),
    "transfer-encoding": (PSEUDO, [("transfer-encoding", "chunked")]),
    "upgrade": (PSEUDO, [("upgrade", "websocket")]),
    "te": (PSEUDO, [("te", "gzip")]),
    # section 8.3
    "two :path": (PSEUDO, [(":path", "/healthz")]),
    "late :path": (without(":path"), [("x", "1"), (":path", "/healthz")]),
    "unknown pseudo-field": ({**PSEUDO, ":new": "1"}, []),
    "pseudo-field of responses": ({**PSEUDO, ":status": "200"}, []),
    # section 8.3.1
    "no pseudo-field": ({}, [("x", "1")]),
    "no :path": (without(":path"), []),
    "no :method": (without(":method"), []),
    "no :scheme": (without(":scheme"), []),
    "empty :path": ({**PSEUDO, ":path": ""}, []),
    "empty :method": ({**PSEUDO, ":method": ""}, []),
    "empty :scheme": ({**PSEUDO, ":scheme": ""}, []),
    "no authority": (without(":authority"), []),
    "another Host": (PSEUDO, [("host", "elsewhere")]),
    "two Hosts": (without(":authority"), [("host", "a"), ("host", "a")]),
    # section 8.5
    "CONNECT with :scheme": ({**CONNECT, ":scheme": "https"}, []),
    "CONNECT with :path": ({**CONNECT, ":path": "/"}, []),
    "CONNECT without :authority": ({":method": "CONNECT"}, [("host", "localhost:443")]),
    "CONNECT of a protocol without :path": (
        {":method": "CONNECT", ":protocol": "websocket", ":scheme": "https", ":authority": "a"},
        [],
    ),
    ":protocol without CONNECT": ({**PSEUDO, ":protocol": "websocket"}, []),
    # section 8.1.1
    "content-length twice": (PSEUDO, [("content-length", "0"), ("content-length", "1")]),
    "content-length no number": (PSEUDO, [("content-length", "x")]),
    "content-length below zero": (PSEUDO, [("content-length", "-1")]),
    "content-length without content": (PSEUDO, [("content-length", "5")]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_ends_its_stream_alone(beside: Beside, name: str) -> None:
    """RST_STREAM with PROTOCOL_ERROR, once; the field block behind the fault is decoded."""
    pseudo, fields = MALFORMED[name]
    client = beside.client
    fields = [*fields, ("x-behind", "the fault")]
    refused = client.request("", fields=fields, pseudo=pseudo)
    client.pump(lambda: client.streams[refused].is_over, "a refusal")
    assert client.streams[refused].reset_code == PROTOCOL_ERROR
    assert not client.streams[refused].status
    beside.assert_served()


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_with_content_ends_its_stream_alone(beside: Beside, name: str) -> None:
    """So it does in two frames, with content behind it, which is not answered any more."""
    pseudo, fields = MALFORMED[name]
    client = beside.client
    fields = [*fields, ("x-behind", "the fault")]
    refused, raw = client.request_bytes("", "POST", fields, end_stream=False, pseudo=pseudo)
    head, block = raw[:9], raw[9:]
    assert head[4] == END_HEADERS
    content = frame(DATA, 0, refused, bytes(100)) + frame(DATA, END_STREAM, refused, bytes(100))
    client.send_bytes(
        frame(HEADERS, 0, refused, block[:1])
        + frame(CONTINUATION, END_HEADERS, refused, block[1:])
        + content
    )
    client.pump(lambda: client.streams[refused].is_over, "a refusal")
    beside.assert_served()
    assert client.streams[refused].reset_code == PROTOCOL_ERROR
    assert client.resets == [(refused, PROTOCOL_ERROR)], "it ignores what is late, section 5.1"


TRAILER = b"\x10\x03x-y\x01z"  # literal, never indexed
FAULTY_CONTENT: dict[str, Callable[[int], bytes]] = {
    "longer than its length": lambda n: frame(DATA, 0, n, bytes(11)),
    "shorter than its length": lambda n: frame(DATA, END_STREAM, n, bytes(9)),
    "shorter, with an empty last frame": lambda n: (
        frame(DATA, 0, n, bytes(9)) + frame(DATA, END_STREAM, n)
    ),
    "none": lambda n: frame(DATA, END_STREAM, n),
    "shorter, with trailers": lambda n: (
        frame(DATA, 0, n, bytes(9)) + frame(HEADERS, WHOLE, n, TRAILER)
    ),
    "trailers that do not end it": lambda n: (
        frame(DATA, 0, n, bytes(10)) + frame(HEADERS, END_HEADERS, n, TRAILER)
    ),
    "trailers with a pseudo-field": lambda n: (
        frame(DATA, 0, n, bytes(10)) + frame(HEADERS, WHOLE, n, b"\x84")
    ),
    "trailers in upper case": lambda n: (
        frame(DATA, 0, n, bytes(10)) + frame(HEADERS, WHOLE, n, b"\x10\x03X-y\x01z")
    ),
    "trailers of the connection": lambda n: (
        frame(DATA, 0, n, bytes(10)) + frame(HEADERS, WHOLE, n, b"\x10\x07upgrade\x01z")
    ),
}


@pytest.mark.parametrize("name", FAULTY_CONTENT)
@pytest.mark.parametrize(("method", "target"), [("POST", "/healthz"), ("GET", SMALL)])
def test_faulty_content_ends_its_stream_alone(
    beside: Beside, method: str, target: str, name: str
) -> None:
    """Content that breaks its promise, and bad trailers: PROTOCOL_ERROR of the stream.

    GET is answered before the content has come, RFC 9113 section 8.1.
    """
    client = beside.client
    faulty = client.request(target, method, [("content-length", "10")], end_stream=False)
    client.send_bytes(FAULTY_CONTENT[name](faulty))
    client.pump(lambda: client.streams[faulty].is_over, "a refusal")
    assert client.streams[faulty].reset_code == PROTOCOL_ERROR
    assert not client.streams[faulty].is_ended
    assert not client.streams[faulty].status or method == "GET"
    beside.assert_served()


def test_faulty_content_gives_the_window_of_the_connection_back(server: RunningServer) -> None:
    """Malformed uploads and what comes behind them do not use up what the others may send."""
    with H2Client(server, auto_window=False) as client:
        for _ in range(8):  # 65,535 bytes each, which the window of the connection holds once
            fields = [("content-length", "49152")]
            faulty = client.request("/healthz", "POST", fields, end_stream=False)
            client.send_bytes(frame(DATA, 0, faulty, bytes(16_384)) * 3)
            client.send_bytes(frame(DATA, 0, faulty, bytes(16_383)))
            client.pump(lambda: client.streams[faulty].is_over, "the end of it")  # noqa: B023
            client.ping()
        assert client.ask("/healthz").content == ALIVE
        given = [f for f in client.frames if (f.kind, f.stream_id) == (WINDOW_UPDATE, 0)]
        assert len(given) >= 7


def test_stream_above_the_bound_is_refused_alone(server: RunningServer, root: Path) -> None:
    """RFC 9113 section 5.1.2: REFUSED_STREAM, which a client may repeat; the others are served."""
    with H2Client(server, initial_window=0) as client:
        client.ping()
        streams_max = client.h2.remote_settings.max_concurrent_streams
        opened = [client.request(SMALL) for _ in range(streams_max)]
        settings = client.h2.remote_settings._settings
        settings[SettingCodes.MAX_CONCURRENT_STREAMS] = deque([1 << 20])
        above = [client.request(SMALL, fields=[("x-more", "1")]) for _ in range(3)]
        for stream_id in above:
            client.pump(lambda: client.streams[stream_id].is_over, "a refusal")  # noqa: B023
            assert client.streams[stream_id].reset_code == REFUSED_STREAM
        for stream_id in opened:
            client.window(stream_id, 1 << 20)
        for stream_id in opened:
            assert client.answer(stream_id).content == body_of(root, "SMALL")
        assert not client.goaways


@pytest.mark.parametrize("first", [0, DATA])
def test_broken_hpack_is_a_compression_error(server: RunningServer, first: int) -> None:
    """RFC 9113 section 4.3: of the connection, also where it came as trailers."""
    with H2Client(server) as client:
        stream_id = client.request("/healthz", "POST", end_stream=False)
        client.send_bytes(frame(HEADERS, WHOLE, stream_id + first, b"\xff\xff\xff\xff\xff"))
        assert_connection_error(client, COMPRESSION_ERROR)


@pytest.mark.parametrize("stream_id", [2, 9])
def test_reset_of_an_idle_stream_is_a_connection_error(
    server: RunningServer, stream_id: int
) -> None:
    """RFC 9113 section 6.4, on a connection that has served a request."""
    with H2Client(server) as client:
        assert client.ask("/healthz").content == ALIVE
        client.send_bytes(frame(RST_STREAM, 0, stream_id, bytes(4)))
        assert_connection_error(client, PROTOCOL_ERROR)


@pytest.mark.parametrize("target", ["/healthz", SMALL])
def test_content_after_the_end_is_told_at_once(server: RunningServer, target: str) -> None:
    """RFC 9113 section 5.1: STREAM_CLOSED, without a further frame that makes the server send."""
    with H2Client(server) as client:
        for _ in range(3):  # the last one is answered without h2
            stream_id = client.request(target)
            client.answer(stream_id)
            client.send_bytes(frame(DATA, 0, stream_id, b"x"))
            client.pump(lambda: client.resets[-1:] == [(stream_id, STREAM_CLOSED)], "RST_STREAM")  # noqa: B023
        assert client.ask(target).status == 200


# ---- what is no flood


def test_content_on_its_way_when_its_request_was_answered_is_no_flood(
    server: RunningServer,
) -> None:
    """Forty small frames behind each of five answers: ignored, and their window is given back."""
    with H2Client(server, auto_window=False) as client:
        for _ in range(5):
            stream_id = client.request("/healthz" + "?" * 9_000, "POST", end_stream=False)
            stream = client.streams[stream_id]
            client.pump(lambda: client.resets[-1:] == [(stream_id, NO_ERROR)], "the end")  # noqa: B023
            assert stream.status == 414
            client.send_bytes(frame(DATA, 0, stream_id, bytes(1_000)) * 2 * CONTROL_FRAMES_MAX)
            client.ping()
        assert len(client.resets) == 5
        assert client.ask("/healthz").content == ALIVE


def test_window_updates_for_each_frame_are_no_flood(server: RunningServer, root: Path) -> None:
    """Two for each KB that came, most of them when the stream is over already."""
    body = body_of(root, "MEDIUM")
    with H2Client(
        server, initial_window=1 << 20, connection_window=1 << 21, auto_window=False
    ) as client:
        stream_id = client.request(MEDIUM)
        assert client.answer(stream_id).content == body
        one = frame(WINDOW_UPDATE, 0, 0, b"\0\0\4\0") + frame(
            WINDOW_UPDATE, 0, stream_id, b"\0\0\4\0"
        )
        client.send_bytes(one * (len(body) // 1_024))
        client.ping()
        assert not client.goaways


def test_window_updates_of_answers_without_content_are_no_flood(server: RunningServer) -> None:
    """A client that widens the window of each stream asks for what has no content."""
    with H2Client(server, auto_window=False) as client:
        for target in ("/healthz", SMALL):
            for _ in range(2 * CONTROL_FRAMES_MAX):
                stream_id, raw = client.request_bytes(target, "HEAD")
                client.send_bytes(raw + frame(WINDOW_UPDATE, 0, stream_id, b"\0\0\4\0"))
                assert client.answer(stream_id).status == 200
        assert not client.goaways


def test_empty_frame_that_ends_content_is_no_flood(server: RunningServer) -> None:
    """So most uploads end."""
    with H2Client(server) as client:
        for _ in range(2 * CONTROL_FRAMES_MAX):
            stream_id = client.request("/healthz", "GET", end_stream=False)
            client.send_bytes(
                frame(DATA, 0, stream_id, b"content") + frame(DATA, END_STREAM, stream_id)
            )
            assert client.answer(stream_id).content == ALIVE
        assert not client.goaways


def test_stream_of_a_connection_that_has_ended_is_reset_without_a_word() -> None:
    """An application that ends its stream after our GOAWAY is no fault, and sends nothing more."""
    client, server = H2Connection(), JudgedConnection(H2Configuration(client_side=False))
    client.initiate_connection()
    client.send_headers(1, list(PSEUDO.items()), end_stream=True)
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    server.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
    server.data_to_send()
    server.reset_stream(1, ErrorCodes.INTERNAL_ERROR)
    assert not server.data_to_send()
