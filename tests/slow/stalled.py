"""Hundreds of clients that ask for large answers and stop reading; who is cut off comes again."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Self

from tests.certificate import shared_context
from tests.faults.client import RESET, TINY_BUFFER_BYTES, request_of
from tests.faults.tls_client import HELLO, block_of
from tests.h2client import HEADERS, SETTINGS, WINDOW_UPDATE
from tests.server import connect_to
from tests.transport.http2.frames import WHOLE, frame

if TYPE_CHECKING:
    from collections.abc import Callable

HUNG_UP = select.POLLHUP | select.POLLERR | select.POLLRDHUP
WIDE_OPEN = frame(SETTINGS, 0, 0, b"\x00\x04\x3f\xff\xff\xff") + frame(
    WINDOW_UPDATE, 0, 0, b"\x3f\xff\x00\x00"
)
"""Windows of 1 GB for every stream and for the connection."""

STREAMS = 4
COMEBACKS_A_SECOND_MAX = 200


def stall_plainly(port: int, target: str) -> socket.socket:
    """Ask over HTTP/1.1, and read nothing."""
    sock = connect_to(port, TINY_BUFFER_BYTES)
    sock.sendall(request_of(target))
    return sock


def stall_streams(port: int, target: str) -> socket.socket:
    """Ask on several streams over HTTP/2 with open windows, and read nothing but the handshake."""
    sock = shared_context("h2").wrap_socket(
        connect_to(port, TINY_BUFFER_BYTES), server_hostname="127.0.0.1"
    )
    block = block_of(target)
    requests = (frame(HEADERS, WHOLE, stream_id, block) for stream_id in range(1, 2 * STREAMS, 2))
    sock.sendall(HELLO + WIDE_OPEN + b"".join(requests))
    return sock


class Crowd:
    """`count` stalled readers at any time, for as long as the block runs.

    `ends` counts how the server ended them, `ages_s` has how old they were, `told` the first
    bytes of what it said (over plain HTTP/1.1: over TLS nobody reads).
    """

    def __init__(self, stall: Callable[[], socket.socket], count: int) -> None:
        self._stall = stall
        self._count = count
        self._born_s: dict[int, float] = {}
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._done = threading.Event()
        self._is_full = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.ends: Counter[str] = Counter()
        self.told: Counter[str] = Counter()
        self.ages_s: list[float] = []

    def __enter__(self) -> Self:
        """Start, and wait until all of them have asked once."""
        self._thread.start()
        assert self._is_full.wait(60), "the crowd never got in"
        return self

    def __exit__(self, *_: object) -> None:
        """All of them leave by reset."""
        self._done.set()
        self._thread.join()

    def text(self) -> str:
        """One line for people."""
        age = f", median age {median(self.ages_s):.1f} s" if self.ages_s else ""
        said = f", told {dict(self.told)}" if self.told else ""
        return f"{self._count} at a time; ended by the server: {dict(self.ends)}{age}{said}"

    def _run(self) -> None:
        while not self._done.is_set():
            for _ in range(min(self._count - len(self._sockets), COMEBACKS_A_SECOND_MAX // 10)):
                self._come()
            if len(self._sockets) + self.ends.total() >= self._count:
                self._is_full.set()
            for fd, _ in self._poll.poll(0):
                self._note_end(fd)
            self._done.wait(0.1)
        for sock in self._sockets.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()

    def _come(self) -> None:
        try:
            sock = self._stall()
        except (OSError, ssl.SSLError) as error:
            self.ends[f"refused: {type(error).__name__}"] += 1
            return
        self._poll.register(sock, select.POLLRDHUP)
        self._sockets[sock.fileno()] = sock
        self._born_s[sock.fileno()] = time.monotonic()

    def _note_end(self, fd: int) -> None:
        self._poll.unregister(fd)
        sock = self._sockets.pop(fd)
        self.ages_s.append(time.monotonic() - self._born_s.pop(fd))
        is_reset = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
        self.ends["reset" if is_reset else "closed"] += 1
        if not isinstance(sock, ssl.SSLSocket):
            sock.setblocking(False)
            try:
                first = sock.recv(12)
            except OSError:
                first = b""
            self.told[first.decode("latin-1") or "nothing"] += 1
        sock.close()
