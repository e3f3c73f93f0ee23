"""However and whenever a client of the TLS listener leaves, nothing of its connection stays.

All of a kind leave at once from one server; what it holds is looked at from within.
"""

from __future__ import annotations

import gc
import socket
import struct
from contextlib import suppress
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import pytest
from h2.connection import H2Connection
from hpack import Encoder

from tests.faults.client import RESET
from tests.faults.tls_client import client_hello
from tests.h2client import DATA, HEADERS, WINDOW_UPDATE
from tests.transport.http2.frames import END_HEADERS, END_STREAM, PREFACE, WHOLE, frame, settings
from tests.transport.tls_bench import (
    LARGE_BYTES,
    SMALL_BYTES,
    BenchHandler,
    TlsBench,
    connect_tcp,
    run,
)
from zerocopy.transport.http2.connection import Http2Connection
from zerocopy.transport.http2.wire import Http2Wire
from zerocopy.transport.timers import HORIZON_TICKS
from zerocopy.transport.tls.channel import TlsChannel

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("frozen")

MANY = 6
CONTENT_BYTES = 10
CHUNKS = 40
"""More than Hypercorn's queue of content has room for."""

HANDSHAKE_S = 2.0
"""Real seconds: uvloop has a timer of its own for handshakes."""

WIDE = (1 << 31) - 1
HELLO = PREFACE + settings(4, WIDE) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDE - 65_535))


class Said(NamedTuple):
    """What clients of a kind ask for, and how many bytes answer it at least."""

    name: str
    of_http1: bytes
    of_http2: bytes
    answers: int
    answer_bytes: int


def http1(target: str, method: str = "GET", *fields: str) -> bytes:
    """A request head."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: t", *fields, "", ""]).encode()


def http2(target: str, method: str = "GET", times: int = 1, *, flags: int = WHOLE) -> bytes:
    """That many HEADERS frames of a new connection."""
    encoder = Encoder()
    head = {":method": method, ":scheme": "https", ":authority": "t", ":path": target}
    return b"".join(
        frame(HEADERS, flags, 2 * index + 1, encoder.encode(list(head.items())))
        for index in range(times)
    )


def kinds() -> list[Said]:
    """No request, a part of one, one or more of each kind of answer, and content."""
    found = [
        Said("nothing", b"", b"", 0, 0),
        Said("part of a head", http1("/small")[:12], http2("/api/data?small")[:12], 0, 0),
    ]
    for name, nbytes in (("small", SMALL_BYTES), ("large", LARGE_BYTES), ("later", SMALL_BYTES)):
        target = f"/api/data?{name}"
        found += [
            Said(
                f"{times} {name}", http1(target) * times, http2(target, times=times), times, nbytes
            )
            for times in (1, 2, MANY)
        ]
    content = bytes(CONTENT_BYTES)
    post = http1("/large", "POST", f"Content-Length: {CONTENT_BYTES}")
    posted = http2("/large", "POST", flags=END_HEADERS)
    posted_whole = posted + frame(DATA, END_STREAM, 1, content)
    chunked = http1("/large", "POST", "Transfer-Encoding: chunked")
    return [
        *found,
        Said(
            "content", post + content, posted + frame(DATA, END_STREAM, 1, content), 1, LARGE_BYTES
        ),
        Said("part of content", post + content[:3], posted + frame(DATA, 0, 1, content), 0, 0),
        Said("two with content", (post + content) * 2, posted_whole, 1, LARGE_BYTES),
        Said(
            "chunks",
            chunked + b"1\r\nx\r\n" * CHUNKS,
            posted + frame(DATA, 0, 1, content) * CHUNKS,
            1,
            SMALL_BYTES,
        ),
    ]


READS: dict[str, Callable[[Said], int]] = {
    "nothing": lambda _said: 0,
    "some bytes": lambda said: min(400, said.answer_bytes),
    "one answer": lambda said: said.answer_bytes,
    "everything": lambda said: said.answers * said.answer_bytes,
}


def close(sock: socket.socket) -> None:
    """FIN, or RST where something was not read; no close_notify."""
    sock.close()


def reset(sock: socket.socket) -> None:
    """RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def notify(sock: ssl.SSLSocket) -> None:
    """close_notify alone; the socket stays open, and nothing is read."""
    sock.setblocking(False)
    with suppress(OSError):
        sock.unwrap()


def half_close(sock: socket.socket) -> None:
    """FIN alone; nothing is read."""
    socket.socket.shutdown(sock, socket.SHUT_WR)


def stay(_sock: socket.socket) -> None:
    """Say and read nothing more."""


OF_A_CONNECTION = (H2Connection, Http2Connection, Http2Wire, TlsChannel)

STAYING = (notify, half_close, stay)
"""Whose sockets stay open: some of them are let go by a deadline."""


@pytest.mark.parametrize("leave", [close, reset, notify, half_close, stay])
@pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
def test_connection_that_its_client_leaves_gives_everything_back(
    tmp_path: Path, protocol: str, leave: Callable[[ssl.SSLSocket], None]
) -> None:
    """Before, amid or after any number of requests: seats, gauges and tasks are as before."""

    def behave(bench: TlsBench, said: Said, read: str) -> ssl.SSLSocket:
        sock = bench.connect(protocol)
        sock.sendall(said.of_http1 if protocol == "http/1.1" else HELLO + said.of_http2)
        left = READS[read](said)
        while left > 0 and (data := sock.recv(min(left, 65_536))):
            left -= len(data)
        leave(sock)
        return sock

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        calls: list[Callable[[], ssl.SSLSocket]] = [
            partial(behave, bench, said, read)
            for said, read in product(kinds(), READS)
            if said.answers or read == "nothing"
        ]
        socks = await bench.in_threads(calls)
        try:
            await bench.until_nothing_is_held(is_hurried=leave in STAYING)
            await bench.stop()
        finally:
            for sock in socks:
                sock.close()
        assert bench.failures == []

    run(scenario)


def of_connections() -> list[object]:
    """Every object of this process that a connection has."""
    return [held for held in gc.get_objects() if isinstance(held, OF_A_CONNECTION)]


def test_http2_connection_that_has_ended_is_freed_without_the_collector(tmp_path: Path) -> None:
    """After a crowd has left, it would stop the event loop to find what each held in circles."""

    def ask(bench: TlsBench, said: Said) -> None:
        with bench.connect("h2") as sock:
            sock.sendall(HELLO + said.of_http2)
            sock.recv(1)

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler())
        await bench.start()
        gc.collect()
        before = of_connections()  # of clients of other tests
        gc.disable()
        try:
            await bench.in_threads([partial(ask, bench, said) for said in kinds() if said.answers])
            await bench.until_nothing_is_held()
            for _ in range(HORIZON_TICKS):
                bench.server.context.wheel.advance()  # which has a deadline of each
            kept = [held for held in of_connections() if all(held is not old for old in before)]
        finally:
            gc.enable()
        await bench.stop()
        assert kept == []

    run(scenario)


@pytest.mark.parametrize("is_draining", [False, True])
@pytest.mark.parametrize("leave", [close, reset, half_close, stay])
def test_handshake_that_does_not_end_gives_its_seat_back(
    tmp_path: Path, leave: Callable[[socket.socket], None], *, is_draining: bool
) -> None:
    """Whatever has come of it, or just after it, also while the server drains."""
    hello = client_hello()
    parts = [b"", hello[:3], hello[: len(hello) // 2], hello, b"GET / HTTP/1.1\r\n\r\n"]

    def begin(bench: TlsBench, sent: bytes) -> socket.socket:
        sock = connect_tcp(bench.address)
        sock.sendall(sent)
        leave(sock)
        return sock

    def finish(bench: TlsBench) -> socket.socket:
        sock = bench.connect("h2")
        leave(sock)
        return sock

    async def scenario() -> None:
        bench = TlsBench(tmp_path, BenchHandler(), header_read_s=HANDSHAKE_S)
        await bench.start()
        calls: list[Callable[[], socket.socket]] = [
            *(partial(begin, bench, sent) for sent in parts * 4),
            *[partial(finish, bench)] * 4,
        ]
        socks = await bench.in_threads(calls)
        try:
            if is_draining:
                await bench.stop()
            await bench.until_nothing_is_held(is_hurried=not is_draining)
            if not is_draining:
                await bench.stop()
        finally:
            for sock in socks:
                sock.close()
        assert bench.failures == []

    run(scenario)
