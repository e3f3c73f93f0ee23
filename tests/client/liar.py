"""A server that says what a test tells it: byte for byte, cut off, silent or slow.

Owns the socket. It answers requests in the order of its script, whatever they ask for, and keeps
their heads; the last answer is given again to whoever asks more.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import socket
import struct
import termios
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Ending = Literal["keep", "close", "reset", "hold"]

_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

TAG = '"one"'
TIMES = np.arange(1_000, 1_000 + 40_000, dtype="<u4")
PRICES = (TIMES % 97).astype("<f4") / 4


@dataclass(frozen=True)
class Say:
    """What is sent after a request, and what becomes of the connection then.

    `keep` waits for the next request, `close` sends FIN, `reset` RST; `hold` says nothing more
    until the client leaves.
    """

    data: bytes
    ending: Ending = "keep"
    pieces: int = 1
    """Sent in so many pieces, with `pause_s` between them."""
    pause_s: float = 0.0


@dataclass
class Head:
    """A request as it came."""

    target: str
    fields: dict[str, str]

    @property
    def first(self) -> int:
        """The byte at which the asked range begins; 0 where none is asked for."""
        return int(self.fields.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))


class Liar:
    """Serves a script on a port of this machine."""

    def __init__(self, *script: Say | Callable[[Head], Say]) -> None:
        self.heads: list[Head] = []
        self.connections = 0
        self.ended = 0
        """Connections that have ended, by whichever side."""
        self._script = script
        self._lock = threading.Lock()
        self._asked = threading.Condition(self._lock)
        self._closed = threading.Event()
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        """Serve from threads."""
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """End every connection."""
        self._closed.set()
        with self._lock:
            for sock in [self._listener, *self._socks]:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def wait_for(self, heads: int) -> None:
        """Until so many requests have come."""
        with self._asked:
            assert self._asked.wait_for(lambda: len(self.heads) >= heads, 20)

    def wait_until_ended(self, connections: int) -> None:
        """Until so many connections have ended: of one that is held, the client has left."""
        with self._asked:
            assert self._asked.wait_for(lambda: self.ended >= connections, 20)

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with self._lock:
                    self.connections += 1
                    self._socks.append(sock)
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            self._talk(sock)
        with self._lock:
            self.ended += 1
            self._asked.notify_all()

    def _talk(self, sock: socket.socket) -> None:
        while (head := _read_head(sock)) is not None:
            with self._lock:
                told = self._script[min(len(self.heads), len(self._script) - 1)]
                self.heads.append(head)
                self._asked.notify_all()
            say = told if isinstance(told, Say) else told(head)
            size = max(1, -(-len(say.data) // say.pieces))
            for at in range(0, len(say.data), size):
                sock.sendall(say.data[at : at + size])
                self._closed.wait(say.pause_s)
            if say.ending == "keep":
                continue
            while say.ending == "hold" and sock.recv(4_096):
                pass
            if say.ending == "reset":
                _wait_until_taken(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return


def columns_body(
    columns: Mapping[str, NDArray[np.generic]] | None = None, **others: object
) -> bytes:
    """An answer in the format `columns`, `TIMES` and `PRICES` unless told otherwise."""
    columns = {"time": TIMES, "price": PRICES} if columns is None else columns
    header = {
        "columns": [
            {
                "name": name,
                "record_size": values.dtype.itemsize,
                "num_records": len(values),
                "data_length": values.nbytes,
                "dtype": values.dtype.str,
            }
            for name, values in columns.items()
        ],
        **others,
    }
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return line + b"".join(values.tobytes() for values in columns.values())


def response(body: bytes, status: int = 200, **fields: str) -> bytes:
    """A response of HTTP/1.1; `Content_Length="7"` lies about the length, "" leaves it out."""
    told = {"Content-Length": str(len(body))}
    told |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"HTTP/1.1 {status} Told", *(f"{name}: {told[name]}" for name in told if told[name])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def part(body: bytes, first: int, tag: str = TAG) -> bytes:
    """The 206 that resumes `body` at byte `first`."""
    content_range = f"bytes {first}-{len(body) - 1}/{len(body)}"
    return response(body[first:], 206, ETag=tag, Content_Range=content_range)


def upgrade(head: Head, *messages: bytes) -> bytes:
    """The 101 of a WebSocket (RFC 6455, 4.2.2), and binary messages behind it."""
    proof = hashlib.sha1(head.fields["sec-websocket-key"].encode() + _WEBSOCKET_GUID)
    switch = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(proof.digest()) + b"\r\n\r\n"
    )
    return switch + b"".join(
        struct.pack("!BBH", 0x82, 126, len(message)) + message for message in messages
    )


def honest(head: Head) -> Say:
    """What a server says that keeps to RFC 9110."""
    is_part = head.first and head.fields.get("if-range") == TAG
    return Say(part(BODY, head.first) if is_part else WHOLE)


def cut(at: int, whole: bytes | None = None) -> bytes:
    """A response of which the first `at` bytes of its body come."""
    whole = WHOLE if whole is None else whole
    return whole[: whole.index(b"\r\n\r\n") + 4 + at]


def chunked(body: bytes, *, is_whole: bool = True, **fields: str) -> bytes:
    """The same by chunks, as a proxy may send it; without the last one if it is not whole."""
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece)
        for piece in (body[at : at + 30_000] for at in range(0, len(body), 30_000))
    )
    fields |= {"Content_Length": "", "Transfer_Encoding": "chunked"}
    head = response(b"", 200, **fields)
    return head + chunks + (b"0\r\n\r\n" if is_whole else b"")


BODY = columns_body()
OTHER = columns_body({"time": TIMES, "price": PRICES + 1})
"""Another state of the same data."""

WHOLE = response(BODY, ETag=TAG)


def _read_head(sock: socket.socket) -> Head | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(4_096)
        if not piece:
            return None
        data += piece
    first, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return Head(first.split()[1], {name.lower(): value for name, value in fields.items()})


def _wait_until_taken(sock: socket.socket) -> None:
    """Until the client's kernel has everything: an RST throws away what has not left."""
    deadline_s = time.monotonic() + 20
    while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]:
        assert time.monotonic() < deadline_s, "the client reads"
        time.sleep(0.001)
