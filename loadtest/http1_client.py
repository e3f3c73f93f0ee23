"""Plain HTTP/1.1 for one user: one connection, kept, and nothing forgiven.

Owns a socket and the reading of heads. It never asks twice: a connection that ends before its
answer is a failure of the server, where libraries for clients would silently try again.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from loadtest.question import PendingRequest, Question, WrongAnswerError

if TYPE_CHECKING:
    import socket

    from loadtest.server_url import ServerUrl

PIECE_BYTES = 256 * 1024
YIELD_BYTES = 1 << 20
"""Bytes of one answer after which other users get their turn, however fast they come."""

HEAD_BYTES_MAX = 64 * 1024

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\t -~]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t -~]*?)[\t ]*")
_BODILESS = 204, 304


class Http1Client:
    """Asks one question after the other."""

    def __init__(self, url: ServerUrl) -> None:
        self._url = url
        self._sock: socket.socket | None = None
        self._buffer = memoryview(bytearray(PIECE_BYTES))

    def ask(self, question: Question) -> PendingRequest:
        """Ask and wait; what goes wrong is in the exchange, and ends the connection."""
        exchange = PendingRequest(question)
        try:
            if self._sock is None:
                self._sock = self._url.connect()
            self._sock.sendall(self._request(question))
            if not self._receive(self._sock, exchange):
                self.close()
        except (OSError, WrongAnswerError) as error:
            exchange.fail(error)
            self.close()
        return exchange

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._sock is not None:
            with suppress(OSError):
                self._sock.close()
            self._sock = None

    def _request(self, question: Question) -> bytes:
        lines = [f"{question.method} {question.target} HTTP/1.1", f"host: {self._url.authority}"]
        lines += [f"{name}: {value}" for name, value in question.fields]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _receive(self, sock: socket.socket, exchange: PendingRequest) -> bool:
        """Read one answer; whether the connection may be used again."""
        head, begun = self._receive_head(sock)
        status, fields = _parse_head(head)
        exchange.begin(status, fields)
        left = 0
        if exchange.question.method != "HEAD" and status not in _BODILESS:
            left = int(fields["content-length"])
        if len(begun) > left:
            raise WrongAnswerError(f"{len(begun) - left} bytes more than Content-Length says")
        if begun:
            exchange.feed(memoryview(begun))
        left -= len(begun)
        turn = 0
        while left:
            received = sock.recv_into(self._buffer, min(left, PIECE_BYTES))
            if not received:
                raise WrongAnswerError(f"the connection ended {left} bytes early")
            exchange.feed(self._buffer[:received])
            left -= received
            turn += received
            if turn >= YIELD_BYTES:
                turn = 0
                time.sleep(0)
        exchange.end()
        return fields.get("connection", "").lower() != "close"

    def _receive_head(self, sock: socket.socket) -> tuple[bytes, bytes]:
        head = b""
        while b"\r\n\r\n" not in head:
            received = sock.recv_into(self._buffer)
            if not received:
                raise WrongAnswerError(f"the connection ended in a head of {len(head)} bytes")
            head += self._buffer[:received]
            if b"\r\n\r\n" not in head and len(head) > HEAD_BYTES_MAX:
                raise WrongAnswerError(f"a head of more than {HEAD_BYTES_MAX} bytes")
        head, _, begun = head.partition(b"\r\n\r\n")
        return head, begun


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and fields; framed by one Content-Length, as the contract says."""
    first, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(first)
    if status is None:
        raise WrongAnswerError(f"status line {first[:100]!r}")
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise WrongAnswerError(f"field line {line[:100]!r}")
        name = found[1].decode("ascii").lower()
        if name == "content-length" and name in fields:
            raise WrongAnswerError("Content-Length is there twice")
        value = found[2].decode("ascii")
        fields[name] = f"{fields[name]}, {value}" if name in fields else value  # RFC 9110, 5.2
    if "transfer-encoding" in fields:
        raise WrongAnswerError("Transfer-Encoding instead of an exact Content-Length")
    if int(status[1]) not in _BODILESS and not fields.get("content-length", "").isdecimal():
        raise WrongAnswerError(f"Content-Length {fields.get('content-length')!r}")
    return int(status[1]), fields
