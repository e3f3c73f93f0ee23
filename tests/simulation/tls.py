"""OpenSSL without encryption: an SSL socket over a simulated TCP socket, with its rules.

Owns what OpenSSL does between a `TlsChannel`, which is the real one, and the kernel's socket. Bytes
pass as they are, in records. Whatever a record may do, a seed does: a part of one arrives and
nothing can be read yet; more of one was opened than was asked for, and the socket is silent about
the rest; the socket fills amid a piece, or OpenSSL wants to read or write first for reasons of its
own. Then the same piece must come again.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zerocopy.transport.tls import channel as tls_channel
from zerocopy.transport.tls.channel import TlsChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from random import Random

RECORD_BYTES = (40, 300, 5_000, 16_384)
PIECE_BYTES = (200, 3_000, 131_072)
MOODS = (0.0, 0.1, 0.4)
"""How often a call is not possible, a record comes in parts, or only some of one is given."""
WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class End(Protocol):
    """The server's end of a TCP connection, as OpenSSL uses it."""

    error: int | None

    @property
    def inbox(self) -> bytearray:
        """What has arrived and was not received."""

    @property
    def input_ended(self) -> bool:
        """Whether nothing will arrive any more."""

    def fileno(self) -> int:
        """The descriptor."""

    def recv(self, count: int, /) -> bytes:
        """The system call."""

    def send(self, data: bytes, /) -> int:
        """The system call."""

    def shutdown(self, how: int, /) -> None:
        """The system call."""

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        """The system call."""

    def close(self) -> None:
        """The system call."""


class TlsSocket:
    """As much of ssl.SSLSocket as a channel uses, past its handshake."""

    _sslobj = None  # no OpenSSL is behind it

    def __init__(self, end: End, rng: Random) -> None:
        self._end = end
        self._rng = rng
        self._record_bytes = rng.choice(RECORD_BYTES)
        self._mood = rng.choice(MOODS)
        self._piece = b""  # which was begun, and must come again
        self._sealed_bytes = 0  # of it, that are in the socket
        self._partial = bytearray()  # of a record
        self._opened = bytearray()  # of a record, and not read
        self._has_keys = True
        self._has_failed = False  # after an error of the socket's, nothing works any more
        self.retries = 0
        self.fileno = end.fileno
        self._is_corked = False
        self.shutdown = end.shutdown
        self.close = end.close

    def gettimeout(self) -> float:
        """Never waits."""
        return 0.0

    def setsockopt(self, level: int, option: int, value: bytes | int) -> None:
        """TCP_CORK, which holds nothing back here, or the system call."""
        if option == socket.TCP_CORK:
            self._is_corked = bool(value)
        else:
            assert isinstance(value, bytes)
            self._end.setsockopt(level, option, value)

    def selected_alpn_protocol(self) -> str:
        """What both sides agreed on, where it is asked for."""
        return "h2"

    def _is_moody(self) -> bool:
        """Whether something is in the way; never of an error, which the event loop tells once."""
        return self._end.error is None and self._rng.random() < self._mood

    def read(self, count: int) -> bytes:
        """SSL_read(3): bytes of one record; b"" at the end."""
        assert self._has_keys, "read after the end of TLS"
        assert not self._is_corked, "left corked"
        if not self._opened:
            if self._is_moody():
                self._receive_part()
                raise self._rng.choice(WANTS)
            data = self._receive(self._record_bytes - len(self._partial))
            if not data:
                assert not self._partial, "the rest of a record has arrived"
                return b""
            self._opened += self._partial + data
            self._partial.clear()
        count = min(count, len(self._opened))
        if self._is_moody():
            count = self._rng.randint(1, count)
        data = bytes(self._opened[:count])
        del self._opened[:count]
        return data

    def _receive_part(self) -> None:
        """Some of a record, never the last byte that has arrived: the socket stays readable."""
        most = min(len(self._end.inbox), self._record_bytes - len(self._partial)) - 1
        if most > 0:
            self._partial += self._receive(self._rng.randint(1, most))

    def _receive(self, count: int) -> bytes:
        try:
            return self._end.recv(count)
        except BlockingIOError:
            raise ssl.SSLWantReadError from None
        except OSError:
            self._has_failed = True
            raise

    def pending(self) -> int:
        """SSL_pending(3)."""
        return len(self._opened)

    def write(self, data: bytes | memoryview) -> int:
        """SSL_write(3): all of a piece; where it was begun before, what it began with then.

        Without SSL_MODE_ENABLE_PARTIAL_WRITE, and with SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER.
        """
        piece = bytes(data)
        if self._has_failed:
            raise ssl.SSLError
        assert self._has_keys, "written after the end of TLS"
        assert piece, "nothing is no piece"
        assert len(piece) >= len(self._piece), "bad write retry: it is shorter"
        assert piece.startswith(self._piece), "bad write retry: these are other bytes"
        self.retries += bool(self._piece)
        self._piece = piece
        while self._sealed_bytes < len(piece):
            if self._is_moody():
                raise self._rng.choice(WANTS)
            begin = self._sealed_bytes
            try:
                self._sealed_bytes += self._end.send(piece[begin : begin + self._record_bytes])
            except BlockingIOError:
                raise ssl.SSLWantWriteError from None
            except OSError:
                self._has_failed = True
                raise
        self._piece, self._sealed_bytes = b"", 0
        return len(piece)

    def unwrap(self) -> None:
        """SSL_shutdown(3): say close_notify; with the peer's own, the keys are forgotten."""
        if self._has_failed:
            raise ssl.SSLError
        assert not self._piece, "close_notify amid a record"
        if self._is_moody():
            raise self._rng.choice(WANTS)
        if not self._end.input_ended or self._opened or self._end.inbox:
            raise ssl.SSLWantReadError
        self._has_keys = False


class _TcpCalls(NamedTuple):
    """The methods of socket.socket, called past those of an SSL socket."""

    shutdown: Callable[[TlsSocket, int], None]
    getpeername: Callable[[TlsSocket], tuple[str, int]]
    recv: Callable[[TlsSocket, int], bytes]


class _SocketModule(NamedTuple):
    """The module `socket`, for a channel."""

    socket: _TcpCalls
    SHUT_WR: int
    IPPROTO_TCP: int
    TCP_CORK: int


Change = tuple[Any, str, Any]
"""Of a module or class: which, the name, and what it is from now on."""


@contextmanager
def changed(changes: Sequence[Change]) -> Iterator[None]:
    """The changes hold for as long as the block runs."""
    before = [getattr(owner, name) for owner, name, _ in changes]
    for owner, name, value in changes:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(changes, before, strict=True):
            setattr(owner, name, value)


def changes(piece_bytes: int) -> list[Change]:
    """What to set where, so that a `TlsChannel` works on a `TlsSocket` in small pieces."""
    # A reset is told as one here, so whoever says nothing more still has an address.
    calls = _TcpCalls(
        shutdown=lambda sock, how: sock.shutdown(how),
        getpeername=lambda _sock: ("192.0.2.1", 1),
        recv=lambda sock, count: sock.read(count),
    )
    module = _SocketModule(calls, socket.SHUT_WR, socket.IPPROTO_TCP, socket.TCP_CORK)
    return [
        (tls_channel, "socket", module),
        (tls_channel, "SEND_BYTES_MAX", piece_bytes),
        (TlsChannel, "piece_bytes_max", piece_bytes),
    ]
