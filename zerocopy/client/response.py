"""The body of a response, read as it comes.

Owns how one waits for bytes. `HTTPResponse.readinto` waits until its buffer is full, and forgets
what came where a connection breaks before. A socket with a timeout asks poll(2) before each
recv(2), which costs an eighth of the rate. So what a plain socket has is taken as it is, and the
kernel keeps the time (SO_RCVTIMEO, socket(7)). TLS gives a record of 16 KB a call, and would wait
for ever; chunks have a framing that `http.client` takes off: those are read in pieces.
"""

from __future__ import annotations

import signal
import socket
import ssl
import struct
import sys
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from io import DEFAULT_BUFFER_SIZE
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES_MAX = 1 << 16
"""Bytes of a piece: a break costs no more than these to fetch again."""


class Response(HTTPResponse):
    """`http.client`'s response, with `read_some`."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._connected = sock
        self._is_plain = not isinstance(sock, ssl.SSLSocket)
        self._is_buffered = True  # perhaps; what came with the head

    def read_some(self, view: memoryview) -> int:
        """Take what has come of the body, at most `view`; waits while nothing has. 0: the end.

        The body may end before its length: `length` is then what is missing.

        Raises:
            TimeoutError: nothing came in time.
            OSError, HTTPException: the connection broke.
        """
        if self.chunked or not self._is_plain:
            return self.readinto(view[:PIECE_BYTES_MAX])
        if self.length == 0 or self.fp is None:
            return 0
        view = view[: self.length]
        if self._is_buffered:  # a longer view would wait for recv(2) behind what is there
            view = view[:DEFAULT_BUFFER_SIZE]
        count: int | None = self.fp.readinto1(view)
        if count is None:  # EAGAIN of SO_RCVTIMEO
            raise TimeoutError
        # A short view is filled from the buffer of `fp`, which then holds more, or from the socket.
        self._is_buffered = count == len(view) <= DEFAULT_BUFFER_SIZE
        if self.length is not None:
            self.length -= count
        return count

    @contextmanager
    def waiting_in_kernel(self) -> Iterator[None]:
        """Have reads wait in recv(2) itself, where that can be.

        Its time begins anew at each signal that has a handler; so not where a timer sends such.
        """
        sock = self._connected
        timeout_s = sock.gettimeout()
        can_be = self._is_plain and not self.chunked and sys.platform == "linux"
        if not (can_be and timeout_s) or _is_timed_each(timeout_s):
            yield
            return
        microseconds = max(1, round(timeout_s * 1e6))  # 0 would be for ever
        time = struct.pack("ll", *divmod(microseconds, 1_000_000))
        with suppress(OSError):  # the connection was closed meanwhile
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time)
            sock.settimeout(None)
        try:
            yield
        finally:
            with suppress(OSError):
                sock.settimeout(timeout_s)


def _is_timed_each(seconds: float) -> bool:
    """Whether a timer sends a signal so often or more often, as a profiler's (setitimer(2))."""
    timers = signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF
    return any(0 < signal.getitimer(timer)[1] <= seconds for timer in timers)
