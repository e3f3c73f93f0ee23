"""Floods of every kind of frame on streams of every state: they end, and nothing piles up."""

from __future__ import annotations

import select
import ssl
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.faults.client import LARGE, SMALL, poll
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
    WINDOW_UPDATE,
    H2Client,
)
from tests.server import RunningServer, resident_bytes
from tests.transport.http2.frames import (
    END_HEADERS,
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    WHOLE,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FRAMES_AT_ONCE = 500
FRAMES_MAX = 400_000
FRAMES_BACK_MAX = 6_000
"""Frames that a flood may make the server send; one for each of its own is many more."""
GROWTH_BYTES_MAX = 32 << 20
PATIENCE_S = 15.0

BLOCK = b"\x82\x87\x04\x08/healthz\x01\x01a"  # nothing of it goes into the table
POST = b"\x83" + BLOCK[1:]
ONE = struct.pack(">I", 1)
MAKE: dict[str, Callable[[int], bytes]] = {
    "DATA": lambda n: frame(DATA, 0, n, b"x"),
    "empty DATA": lambda n: frame(DATA, 0, n),
    "HEADERS": lambda n: frame(HEADERS, WHOLE, n, BLOCK),
    "HEADERS in two": lambda n: (
        frame(HEADERS, 1, n, BLOCK[:2]) + frame(CONTINUATION, END_HEADERS, n, BLOCK[2:])
    ),
    "PRIORITY": lambda n: frame(PRIORITY, 0, n, b"\0\0\0\0\x07"),
    "RST_STREAM": lambda n: frame(RST_STREAM, 0, n, ONE),
    "SETTINGS": lambda n: frame(SETTINGS, 0, n),
    "PUSH_PROMISE": lambda n: frame(PUSH_PROMISE, END_HEADERS, n, b"\0\0\0\2" + BLOCK),
    "PING": lambda n: frame(PING, 0, n, bytes(8)),
    "GOAWAY": lambda n: frame(GOAWAY, 0, n, bytes(8)),
    "WINDOW_UPDATE": lambda n: frame(WINDOW_UPDATE, 0, n, ONE),
    "CONTINUATION": lambda n: frame(CONTINUATION, END_HEADERS, n, BLOCK),
    "unknown": lambda n: frame(0x42, 0, n, b"x"),
}


def _idle(_client: H2Client) -> int:
    return 1


def _open(client: H2Client) -> int:
    return client.request("/healthz", "POST", end_stream=False)


def _half_closed(client: H2Client) -> int:
    stream_id = client.request(LARGE)
    client.pump(lambda: bool(client.lengths(stream_id)), "the first DATA")
    return stream_id


def _unread(client: H2Client) -> int:
    client.set(initial_window_size=0)
    return client.request(SMALL, end_stream=False)


def _unread_of_an_application(client: H2Client) -> int:
    client.set(initial_window_size=0)
    return client.request("/healthz", "POST", end_stream=False)


def _closed(client: H2Client) -> int:
    stream_id = client.request(SMALL)
    client.answer(stream_id)
    return stream_id


def _reset(client: H2Client) -> int:
    stream_id = _half_closed(client)
    client.reset(stream_id)
    return stream_id


def _refused(client: H2Client) -> int:
    stream_id = client.request("/healthz", fields=[("te", "gzip")], end_stream=False)
    client.pump(lambda: bool(client.resets), "the refusal")
    return stream_id


def _connection(_client: H2Client) -> int:
    return 0


STATES = {
    "idle": _idle,
    "open": _open,
    "half-closed": _half_closed,
    "open and unread": _unread,
    "open and unread, of an application": _unread_of_an_application,
    "closed": _closed,
    "reset": _reset,
    "refused": _refused,
    "connection": _connection,
}
CALM_OR_ERROR = {ENHANCE_YOUR_CALM, PROTOCOL_ERROR, STREAM_CLOSED}


class Neighbour(threading.Thread):
    """Asks for little on a connection of its own, again and again, until told to stop."""

    def __init__(self, server: RunningServer) -> None:
        super().__init__(daemon=True)
        self._server = server
        self.stopped = threading.Event()
        self.answered = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Ask, with a breath between, for its own work must not be what a test measures."""
        try:
            with H2Client(self._server) as client:
                while not self.stopped.wait(0.02):
                    assert client.ask(SMALL).status == 200
                    self.answered += 1
        except BaseException as error:  # noqa: BLE001 - told by the test, in its own thread
            self.error = error


@pytest.fixture(name="neighbour", scope="module")
def fixture_neighbour(strict: RunningServer) -> Iterator[Neighbour]:
    """Somebody else who is served all the while."""
    neighbour = Neighbour(strict)
    neighbour.start()
    yield neighbour
    neighbour.stopped.set()
    neighbour.join(30)


def pour(client: H2Client, make: Callable[[int], bytes]) -> bytes | None:
    """Send frames until the server ends the connection, and what it sent; None if it never does."""
    sock, received = client.sock, bytearray(client._received)
    sock.setblocking(False)
    pending, begun = memoryview(b""), 0
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        with suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            if not pending and begun < FRAMES_MAX:
                pending = memoryview(b"".join(map(make, range(begun, begun + FRAMES_AT_ONCE))))
                begun += FRAMES_AT_ONCE
            try:
                pending = pending[sock.send(pending) :]
                while data := sock.recv(1 << 16):
                    received += data
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                raise
            except OSError:  # it closed while this was being sent
                return bytes(received)
            return bytes(received)
        select.select([sock], [sock] if pending else [], [], 0.1)
    return None


def assert_calm(
    client: H2Client, strict: RunningServer, neighbour: Neighbour, make: Callable[[int], bytes]
) -> set[int]:
    """The flood ends, little was made of it, and the neighbour was served; the codes told."""
    (worker,) = strict.worker_pids()
    resident, answered = resident_bytes(worker), neighbour.answered
    received = pour(client, make)
    assert received is not None, "a flood is ended"
    assert resident_bytes(worker) - resident < GROWTH_BYTES_MAX
    codes, frames, at = set(), 0, 0
    while at + FRAME_HEAD_BYTES <= len(received):
        frames += 1
        if received[at + 3] == GOAWAY:
            codes.add(int.from_bytes(received[at + 13 : at + 17], "big"))
        at += FRAME_HEAD_BYTES + int.from_bytes(received[at : at + 3], "big")
    assert frames < FRAMES_BACK_MAX
    poll(lambda: neighbour.answered > answered or neighbour.error is not None, "the neighbour")
    assert neighbour.error is None, neighbour.error
    return codes


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("state", STATES)
def test_flood_on_a_stream_of_any_state_ends(
    strict: RunningServer, neighbour: Neighbour, state: str, kind: str
) -> None:
    """ENHANCE_YOUR_CALM, or the connection error that RFC 9113 has for such a frame."""
    with H2Client(strict, auto_window=False) as client:
        client.ping()
        stream_id = STATES[state](client)
        codes = assert_calm(client, strict, neighbour, lambda _: MAKE[kind](stream_id))
    assert codes <= CALM_OR_ERROR, "an end may lose its GOAWAY, never its code"


FORCED: dict[str, Callable[[int], bytes]] = {
    "its window too wide": lambda n: (
        frame(HEADERS, WHOLE, n, BLOCK) + frame(WINDOW_UPDATE, 0, n, b"\x7f\xff\xff\xff")
    ),
    "content after the end": lambda n: frame(HEADERS, WHOLE, n, BLOCK) + frame(DATA, 0, n, b"x"),
    "headers after the end": lambda n: 2 * frame(HEADERS, WHOLE, n, BLOCK),
    "malformed": lambda n: frame(HEADERS, WHOLE, n, BLOCK + b"\0\x02te\x01x"),
    "too much content": lambda n: (
        frame(HEADERS, END_HEADERS, n, BLOCK + b"\x0f\x0d\x011") + frame(DATA, 0, n, b"xx")
    ),
    "too little content": lambda n: (
        frame(HEADERS, END_HEADERS, n, BLOCK + b"\x0f\x0d\x013") + frame(DATA, 1, n, b"xx")
    ),
    "trailers that do not end": lambda n: (
        frame(HEADERS, END_HEADERS, n, BLOCK) + frame(HEADERS, END_HEADERS, n, b"\0\x01x\x01y")
    ),
    "more than are allowed": lambda n: frame(HEADERS, END_HEADERS, n, POST),
    "taken back": lambda n: frame(HEADERS, WHOLE, n, BLOCK) + frame(RST_STREAM, 0, n, ONE),
}


@pytest.mark.parametrize("name", FORCED)
def test_resets_that_a_client_forces_are_a_flood(
    strict: RunningServer, neighbour: Neighbour, name: str
) -> None:
    """One stream after the other, by any error that ends a stream (CVE-2025-8671)."""
    with H2Client(strict, auto_window=False) as client:
        client.ping()
        codes = assert_calm(client, strict, neighbour, lambda at: FORCED[name](2 * at + 1))
    assert codes <= {ENHANCE_YOUR_CALM, STREAM_CLOSED}, "an end may lose its GOAWAY"
