"""HTTP/2 clients that break the rules: each error has its code, and no flood shuts others out."""

from __future__ import annotations

import select
import ssl
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.faults.client import LARGE, SMALL, body_of, poll
from tests.h2client import (
    CONTINUATION,
    DATA,
    FRAME_HEAD_BYTES,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_BYTES_MAX,
    WINDOW_UPDATE,
    H2Client,
)
from tests.server import RunningServer, open_descriptors, resident_bytes
from tests.transport.http2.frames import (
    ACK,
    COMPRESSION_ERROR,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    WHOLE,
    assert_connection_error,
    frame,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLOOD_BYTES_MAX = 4 << 20
GROWTH_BYTES_MAX = 64 << 20
PATIENCE_S = 5.0


BLOCK = b"\x82\x87\x84\x41\x01a"  # GET https / and :authority a, added to the table
WINDOW_MAX = struct.pack(">I", WINDOW_BYTES_MAX)
CONNECTION_ERRORS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "DATA on an idle stream": (frame(DATA, 0, 1, b"x"), (PROTOCOL_ERROR,)),
    "DATA on stream 0": (frame(DATA, 0, 0, b"x"), (PROTOCOL_ERROR,)),
    "HEADERS on stream 0": (frame(HEADERS, WHOLE, 0, BLOCK), (PROTOCOL_ERROR,)),
    "HEADERS on an even stream": (frame(HEADERS, WHOLE, 2, BLOCK), (PROTOCOL_ERROR,)),
    "HEADERS on a lower stream": (
        frame(HEADERS, WHOLE, 5, BLOCK) + frame(HEADERS, WHOLE, 3, BLOCK),
        (PROTOCOL_ERROR, STREAM_CLOSED),
    ),
    "HEADERS that is too large": (frame(HEADERS, WHOLE, 1, bytes(16_385)), (FRAME_SIZE_ERROR,)),
    "SETTINGS that is too large": (frame(SETTINGS, 0, 0, bytes(16_386)), (FRAME_SIZE_ERROR,)),
    "HEADERS padded beyond its end": (
        frame(HEADERS, WHOLE | PADDED, 1, b"\xff" + BLOCK),
        (PROTOCOL_ERROR,),
    ),
    "HEADERS that is no HPACK": (
        frame(HEADERS, WHOLE, 1, b"\xff\xff\xff\xff\xff"),
        (COMPRESSION_ERROR, PROTOCOL_ERROR),
    ),
    "HEADERS with an index beyond the table": (
        frame(HEADERS, WHOLE, 1, BLOCK + b"\xfe"),
        (COMPRESSION_ERROR, PROTOCOL_ERROR),
    ),
    "HEADERS interrupted": (
        frame(HEADERS, END_STREAM, 1, BLOCK[:2]) + frame(PING, 0, 0, bytes(8)),
        (PROTOCOL_ERROR,),
    ),
    "CONTINUATION of another stream": (
        frame(HEADERS, END_STREAM, 1, BLOCK[:2]) + frame(CONTINUATION, END_HEADERS, 3, BLOCK[2:]),
        (PROTOCOL_ERROR,),
    ),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, BLOCK), (PROTOCOL_ERROR,)),
    "PUSH_PROMISE": (
        frame(HEADERS, WHOLE, 1, BLOCK) + frame(PUSH_PROMISE, 4, 1, bytes([0, 0, 0, 2]) + BLOCK),
        (PROTOCOL_ERROR,),
    ),
    "RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, bytes(4)), (PROTOCOL_ERROR,)),
    "RST_STREAM on stream 0": (frame(RST_STREAM, 0, 0, bytes(4)), (PROTOCOL_ERROR,)),
    "RST_STREAM of 3 bytes": (
        frame(HEADERS, WHOLE, 1, BLOCK) + frame(RST_STREAM, 0, 1, bytes(3)),
        (FRAME_SIZE_ERROR,),
    ),
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), (PROTOCOL_ERROR,)),
    "PING of 7 bytes": (frame(PING, 0, 0, bytes(7)), (FRAME_SIZE_ERROR,)),
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), (PROTOCOL_ERROR,)),
    "SETTINGS of 5 bytes": (frame(SETTINGS, 0, 0, bytes(5)), (FRAME_SIZE_ERROR,)),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), (PROTOCOL_ERROR,)),
    "SETTINGS acknowledged with content": (
        frame(SETTINGS, ACK, 0, bytes(6)),
        (FRAME_SIZE_ERROR, PROTOCOL_ERROR),  # hyperframe cannot tell which
    ),
    "ENABLE_PUSH 2": (settings(2, 2), (PROTOCOL_ERROR,)),
    "INITIAL_WINDOW_SIZE 2**31": (settings(4, 1 << 31), (FLOW_CONTROL_ERROR,)),
    "MAX_FRAME_SIZE 16383": (settings(5, 16_383), (PROTOCOL_ERROR,)),
    "MAX_FRAME_SIZE 2**24": (settings(5, 1 << 24), (PROTOCOL_ERROR,)),
    "WINDOW_UPDATE 0": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), (PROTOCOL_ERROR,)),
    "WINDOW_UPDATE of 3 bytes": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), (FRAME_SIZE_ERROR,)),
    "WINDOW_UPDATE on an idle stream": (
        frame(WINDOW_UPDATE, 0, 1, WINDOW_MAX),
        (PROTOCOL_ERROR,),
    ),
    "window of the connection too wide": (
        frame(WINDOW_UPDATE, 0, 0, WINDOW_MAX),
        (FLOW_CONTROL_ERROR,),
    ),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_connection_error_is_told_by_goaway(client: H2Client, name: str) -> None:
    """The connection ends with the code of RFC 9113, and only this connection."""
    raw, codes = CONNECTION_ERRORS[name]
    for stream_id in (1, 5):
        client.streams[stream_id] = client.streams[client.request_bytes("/")[0]]
    client.send_bytes(raw)
    assert_connection_error(client, *codes)


STREAM_ERRORS: dict[str, tuple[Callable[[int], bytes], tuple[int, ...]]] = {
    "WINDOW_UPDATE 0": (lambda n: frame(WINDOW_UPDATE, 0, n, bytes(4)), (PROTOCOL_ERROR,)),
    "window of a stream too wide": (
        lambda n: 2 * frame(WINDOW_UPDATE, 0, n, WINDOW_MAX),
        (FLOW_CONTROL_ERROR,),
    ),
    "DATA after the end": (lambda n: frame(DATA, 0, n, b"x"), (STREAM_CLOSED,)),
    "HEADERS after the end": (lambda n: frame(HEADERS, WHOLE, n, BLOCK), (STREAM_CLOSED,)),
    "PRIORITY of 4 bytes": (lambda n: frame(PRIORITY, 0, n, bytes(4)), (FRAME_SIZE_ERROR,)),
    "window raised too wide by SETTINGS": (
        lambda n: (
            frame(WINDOW_UPDATE, 0, n, struct.pack(">I", 1 << 30)) + settings(4, WINDOW_BYTES_MAX)
        ),
        (FLOW_CONTROL_ERROR,),
    ),
}


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_stream_error_ends_the_stream_or_the_connection(client: H2Client, name: str) -> None:
    """With the code of RFC 9113, amid a body that waits for its window."""
    make, codes = STREAM_ERRORS[name]
    client.auto_window = False
    stream_id = client.request(LARGE)
    client.pump(lambda: bool(client.lengths(stream_id)), "the first DATA")
    client.send_bytes(make(stream_id))
    stream = client.streams[stream_id]
    client.pump(lambda: stream.is_over or client.is_closed, "the end of the stream")
    if client.is_closed:
        assert client.goaways
        assert client.goaways[-1][0] in codes
    else:
        assert stream.reset_code in codes


class Flood(NamedTuple):
    """What to repeat, for stream n = 1, 3, 5 and so on; whether config.toml says that it ends."""

    make: Callable[[int], bytes]
    is_ended: bool = True
    first: bytes = b""
    codes: tuple[int, ...] = (ENHANCE_YOUR_CALM,)


LITERAL = b"\x40\x01x\x7f\xa2\x1e" + bytes([ord("x")] * 4_001)
"""A field of 4,001 bytes for the table; index 62 (0xbe) repeats it in one byte."""
CANCEL = struct.pack(">I", 8)
HEALTH = b"\x82\x87\x04\x08/healthz\x01\x01a"  # nothing of it goes into the table
FLOODS = {
    "rapid reset": Flood(lambda n: frame(HEADERS, WHOLE, n, HEALTH) + frame(3, 0, n, CANCEL)),
    "ping": Flood(lambda n: frame(PING, 0, 0, struct.pack(">Q", n))),
    "settings": Flood(lambda _: frame(SETTINGS, 0, 0)),
    "settings that change": Flood(lambda n: settings(4, n % 60_000)),
    "priority": Flood(lambda n: frame(PRIORITY, 0, n, struct.pack(">IB", max(0, n - 2), n % 256))),
    "unknown frames": Flood(lambda n: frame(0x42, 0, n % 99)),
    "empty data": Flood(
        lambda _: frame(DATA, 0, 1),
        first=frame(HEADERS, END_HEADERS, 1, b"\x83" + HEALTH[1:]),
        codes=(ENHANCE_YOUR_CALM, STREAM_CLOSED),
    ),
    "requests without reading": Flood(
        lambda n: frame(HEADERS, WHOLE, n, HEALTH),
        is_ended=False,
        codes=(ENHANCE_YOUR_CALM, PROTOCOL_ERROR),  # more streams than allowed
    ),
    "tiny windows": Flood(lambda _: frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))),
    "continuation": Flood(
        lambda _: frame(CONTINUATION, 0, 1, b"\0\x01a\x01b"),
        first=frame(HEADERS, END_STREAM, 1, HEALTH),
        codes=(ENHANCE_YOUR_CALM, PROTOCOL_ERROR),
    ),
    "empty continuation": Flood(
        lambda _: frame(CONTINUATION, 0, 1),
        first=frame(HEADERS, END_STREAM, 1, HEALTH),
        codes=(ENHANCE_YOUR_CALM, PROTOCOL_ERROR),
    ),
    "small blocks that unpack to megabytes": Flood(
        lambda n: frame(HEADERS, WHOLE, n, HEALTH + b"\xbe" * 8_000),
        is_ended=False,  # 431 to each is as good
        first=frame(HEADERS, WHOLE, 1, HEALTH + LITERAL),
        codes=(ENHANCE_YOUR_CALM, PROTOCOL_ERROR),
    ),
}


class Honest(threading.Thread):
    """Somebody else, who asks on a connection of their own until told to stop."""

    def __init__(self, server: RunningServer, body: bytes) -> None:
        super().__init__(daemon=True)
        self._server, self._body = server, body
        self.stopped = threading.Event()
        self.answered = 0
        self.longest_s = 0.0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Every third request is on a new connection."""
        try:
            while not self.stopped.is_set():
                with H2Client(self._server) as client:
                    for _ in range(3):
                        begun_s = time.monotonic()
                        assert client.ask(SMALL).content == self._body
                        self.longest_s = max(self.longest_s, time.monotonic() - begun_s)
                        self.answered += 1
        except BaseException as error:  # noqa: BLE001 - told by the test, in its own thread
            self.error = error


def receive(sock: ssl.SSLSocket, received: bytearray) -> bool:
    """Read what there is, within the timeout of the socket; whether the server ended it."""
    try:
        while data := sock.recv(1 << 16):
            received += data
    except (ssl.SSLWantReadError, TimeoutError):
        return False
    except OSError:
        pass
    return True


def pour(sock: ssl.SSLSocket, flood: Flood) -> tuple[bool, bytes]:
    """Send until the server ends the connection or all is sent; and what the server sent."""
    sock.setblocking(False)
    poured, stream_id, received = 0, 3, bytearray()
    pending = memoryview(PREFACE + frame(SETTINGS, 0, 0) + flood.first)
    deadline_s = time.monotonic() + 20
    while poured < FLOOD_BYTES_MAX and time.monotonic() < deadline_s:
        if not pending:
            ids = range(stream_id, stream_id + 2_000, 2)
            pending = memoryview(b"".join(map(flood.make, ids)))
            stream_id += 2_000
        try:
            sent = sock.send(pending)
            pending, poured = pending[sent:], poured + sent
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            select.select([sock], [sock], [], 0.1)
        except OSError:  # it closed while this was being sent
            return True, bytes(received)
        if receive(sock, received):
            return True, bytes(received)
    if flood.is_ended:
        sock.settimeout(PATIENCE_S)  # what was sent may still wait in buffers
        return receive(sock, received), bytes(received)
    return False, bytes(received)


def goaways_in(received: bytes) -> list[int]:
    """The error codes of the GOAWAY frames in what a server sent."""
    codes, at = [], 0
    while at + FRAME_HEAD_BYTES <= len(received):
        length = int.from_bytes(received[at : at + 3], "big")
        if received[at + 3] == GOAWAY:
            codes.append(int.from_bytes(received[at + 13 : at + 17], "big"))
        at += FRAME_HEAD_BYTES + length
    return codes


@pytest.mark.parametrize("name", FLOODS)
def test_flood_ends_or_stays_bounded_and_others_are_served(
    strict: RunningServer, root: Path, name: str
) -> None:
    """4 MB of frames that cost the sender nothing: ENHANCE_YOUR_CALM, and nobody else feels it."""
    flood = FLOODS[name]
    (worker,) = strict.worker_pids()
    resident, descriptors = resident_bytes(worker), open_descriptors(worker)
    honest = Honest(strict, body_of(root, "SMALL"))
    honest.start()
    try:
        with strict.connect_tls(["h2"]) as sock:
            has_ended, received = pour(sock, flood)
            answered = honest.answered
            poll(lambda: honest.answered >= answered + 6 or honest.error is not None, "others")
            assert resident_bytes(worker) - resident < GROWTH_BYTES_MAX
    finally:
        honest.stopped.set()
        honest.join(30)
    assert honest.error is None, honest.error
    assert honest.longest_s < PATIENCE_S
    assert has_ended or not flood.is_ended
    assert {*goaways_in(received)} <= {*flood.codes}, "an end may lose its GOAWAY, never its code"
    poll(lambda: open_descriptors(worker) <= descriptors + 4, "descriptors given back")
    assert strict.worker_pids() == [worker]


def test_tiny_window_updates_send_what_they_allow(server: RunningServer, root: Path) -> None:
    """Thousands of updates by one byte are no offence: the body comes byte by byte."""
    body = body_of(root, "SMALL")
    with H2Client(server, initial_window=0, auto_window=False) as client:
        stream_id = client.request(SMALL)
        client.send_bytes(frame(WINDOW_UPDATE, 0, stream_id, struct.pack(">I", 1)) * len(body))
        client.h2._get_stream_by_id(stream_id)._inbound_window_manager.window_opened(len(body))
        assert client.answer(stream_id).content == body


def test_streams_that_never_read_cost_no_memory(server: RunningServer, root: Path) -> None:
    """Ten connections with a hundred 16 MB answers each behind closed windows."""
    (worker,) = server.worker_pids()
    resident = resident_bytes(worker)
    clients = [H2Client(server, initial_window=0) for _ in range(10)]
    try:
        for client in clients:
            client.ping()
            streams = [client.streams[client.request(LARGE)] for _ in range(100)]
            client.pump(lambda: all(stream.status for stream in streams), "heads")  # noqa: B023
        assert resident_bytes(worker) - resident < GROWTH_BYTES_MAX
        with H2Client(server) as other:
            assert other.ask(SMALL).content == body_of(root, "SMALL")
    finally:
        for client in clients:
            client.close()
