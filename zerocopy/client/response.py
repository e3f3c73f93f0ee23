"""The body of a response, read as it comes.

Owns how one waits for bytes. `HTTPResponse.readinto` waits until its buffer is full, and forgets
what came where a connection breaks before. A socket with a timeout asks poll(2) before each
recv(2), which costs an eighth of the rate. So a plain socket is asked for what it has, and waited
for only where it has nothing. TLS gives a record of 16 KB a call, at the cost of a Python call, and
chunks have a framing that `http.client` takes off: those are read in pieces.
"""

from __future__ import annotations

import math
import select
import ssl
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

PIECE_BYTES_MAX = 1 << 16
"""Bytes of a piece: a break costs no more than these to fetch again."""


class Response(HTTPResponse):
    """`http.client`'s response, with `read_some`."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self._connected = sock
        self._is_plain = not isinstance(sock, ssl.SSLSocket)
        self._timeout_s = sock.gettimeout()

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
        while (count := self.fp.readinto1(view[: self.length])) is None:  # EAGAIN
            self._wait()
        if self.length is not None:
            self.length -= count
        return count

    @contextmanager
    def asked_first(self) -> Iterator[None]:
        """Have `read_some` ask the socket before it waits, where that can be."""
        sock = self._connected
        if self.chunked or not self._is_plain or not self._timeout_s:
            yield
            return
        with suppress(OSError):  # the connection was closed meanwhile
            sock.setblocking(False)
        try:
            yield
        finally:
            with suppress(OSError):
                sock.settimeout(self._timeout_s)

    def _wait(self) -> None:
        assert self._timeout_s, "a socket without one blocks"
        poll = select.poll()
        poll.register(self._connected, select.POLLIN)
        if not poll.poll(math.ceil(self._timeout_s * 1e3)):
            raise TimeoutError
