"""The body of a response, read as it comes.

Owns how one waits for bytes. `HTTPResponse.readinto` waits until its buffer is full, and forgets
what came where a connection breaks before; a socket with a timeout asks poll(2) before each
recv(2), which costs an eighth of the rate. So a body of known length is taken by `read_some`, and
on a plain socket the kernel keeps the time (SO_RCVTIMEO, socket(7)).
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNKED_BYTES_MAX = 1 << 16
"""Bytes of one read from a body in chunks, whose framing `http.client` takes off: a break costs no
more than these to fetch again."""


class Response(HTTPResponse):
    """`http.client`'s response, with `read_some`."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._connected = sock

    def read_some(self, view: memoryview) -> int:
        """Take what has come of the body, at most `view`; waits for the first byte. 0: the end.

        The body may end before its length: `length` is then what is missing.

        Raises:
            TimeoutError: nothing came in time.
            OSError, HTTPException: the connection broke.
        """
        if self.chunked:
            return self.readinto(view[:CHUNKED_BYTES_MAX])
        if self.length == 0 or self.fp is None:
            return 0
        count: int | None = self.fp.readinto1(view[: self.length])
        if count is None:  # EAGAIN of SO_RCVTIMEO
            raise TimeoutError
        if self.length is not None:
            self.length -= count
        return count

    @contextmanager
    def waiting_in_kernel(self) -> Iterator[None]:
        """Have reads wait in recv(2) itself, where that can be: not of chunks, nor by OpenSSL."""
        sock = self._connected
        timeout_s = sock.gettimeout()
        is_plain = not isinstance(sock, ssl.SSLSocket) and not self.chunked
        if not (is_plain and timeout_s and sys.platform == "linux"):
            yield
            return
        time = struct.pack("ll", int(timeout_s), int(timeout_s % 1 * 1e6))
        with suppress(OSError):  # the connection was closed meanwhile
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, time)
            sock.settimeout(None)
        try:
            yield
        finally:
            with suppress(OSError):
                sock.settimeout(timeout_s)
