"""Clients of the TLS listener that are as slow or as rude as a fault test wants.

Owns what the fault and life-cycle tests over TLS share: HTTP/1.1 over TLS framed by hand, an HTTP/2
connection of a few raw bytes, and what a worker process holds. `tests.h2client` is the strict one.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from hpack import Encoder

from tests.certificate import shared_context
from tests.faults.client import RESET, Client
from tests.h2client import FRAME_HEAD_BYTES, GOAWAY, HEADERS, SETTINGS, H2Client
from tests.server import connect_to
from tests.transport.http2.frames import PREFACE, WHOLE, frame

if TYPE_CHECKING:
    from tests.server import RunningServer

WIDE = (1 << 30) - 1
"""A window that no test fills."""

NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0, 2, 7, 8
HELLO = PREFACE + frame(SETTINGS, 0, 0)
GONE = (ssl.SSLError, ConnectionError)


class TlsClient(Client):
    """HTTP/1.1 over TLS; an end without close_notify is told from one with it."""

    def __init__(self, server: RunningServer, receive_buffer_bytes: int | None = None) -> None:
        self.sock: ssl.SSLSocket = server.connect_tls(["http/1.1"], receive_buffer_bytes)
        self._buffer = bytearray()

    def read_until_end(self, count: int) -> tuple[bytes, bool]:
        """Up to `count` bytes of content, and whether the connection was aborted amid them."""
        content = bytearray()
        try:
            while len(content) < count and (data := self.read_some(count - len(content))):
                content += data
        except GONE:
            return bytes(content), True
        return bytes(content), False


def connect_raw(
    server: RunningServer, alpn: str = "h2", receive_buffer_bytes: int | None = None
) -> ssl.SSLSocket:
    """A TLS connection that has said nothing yet."""
    return shared_context(alpn).wrap_socket(
        connect_to(server.tls_port, receive_buffer_bytes),
        server_hostname="127.0.0.1",
        suppress_ragged_eofs=False,
    )


def wide_client(
    server: RunningServer,
    *,
    window: int = WIDE,
    auto_window: bool = True,
    receive_buffer_bytes: int | None = None,
) -> H2Client:
    """A client whose connection window is never what holds an answer up."""
    return H2Client(
        server,
        initial_window=window,
        connection_window=WIDE,
        auto_window=auto_window,
        receive_buffer_bytes=receive_buffer_bytes,
    )


def block_of(target: str, method: str = "GET") -> bytes:
    """The HPACK block of the first request of a connection."""
    head = {":method": method, ":scheme": "https", ":authority": "t", ":path": target}
    return Encoder().encode(list(head.items()))


def request_frame(target: str) -> bytes:
    """The first request of a connection, as stream 1."""
    return frame(HEADERS, WHOLE, 1, block_of(target))


def reset(sock: socket.socket) -> None:
    """Close a connection with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def read_to_end(sock: socket.socket) -> tuple[bytes, bool]:
    """What comes until the server ends the connection, and whether it aborted it."""
    received = bytearray()
    try:
        while data := sock.recv(1 << 16):
            received += data
    except GONE:
        return bytes(received), True
    return bytes(received), False


def goaways_of(received: bytes) -> list[int]:
    """The error codes of the GOAWAY frames in what a server sent."""
    codes, at = [], 0
    while at + FRAME_HEAD_BYTES <= len(received):
        if received[at + 3] == GOAWAY:
            codes.append(int.from_bytes(received[at + 13 : at + 17], "big"))
        at += FRAME_HEAD_BYTES + int.from_bytes(received[at : at + 3], "big")
    return codes


def client_hello(alpn: str = "h2") -> bytes:
    """The first flight of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = shared_context(alpn).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def status_number(pid: int, name: str) -> int:
    """A line of /proc/PID/status: Threads as a count, RssAnon in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                number, *unit = line.split()[1:]
                return int(number) * (1024 if unit == ["kB"] else 1)
    raise AssertionError(f"/proc/{pid}/status has no {name}")


def anonymous_bytes(pid: int) -> int:
    """Resident memory that is not pages of files."""
    return status_number(pid, "RssAnon")


def threads(pid: int) -> int:
    """How many threads a process has."""
    return status_number(pid, "Threads")
