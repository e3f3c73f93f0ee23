"""The bytes of one connection, encrypted by OpenSSL straight into its socket.

Owns a non-blocking `ssl.SSLSocket` past its handshake. Between it and the kernel is no buffer but
OpenSSL's record: `send` encrypts a view of a file where it lies. What that means for a caller:

- OpenSSL takes a piece as a whole. Where the socket fills amid one, nothing of it counts as sent,
  and the same bytes must come again (SSL_write(3), SSL_ERROR_WANT_WRITE): `retry_bytes` of them.
- A record may hold more than was asked for. The socket is then not readable, though there is
  something to receive. `pending()` tells, and the event loop is asked to call again.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING

from zerocopy.transport.channel import SocketChannel
from zerocopy.transport.sendfile import send_range
from zerocopy.transport.tls import auto_retry

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zerocopy.transport.channel import Buffer
    from zerocopy.transport.sendfile import Outcome

RECORD_BYTES = 16_384
"""Bytes of a full record (RFC 8446 section 5.1)."""

SEND_BYTES_MAX = 262_144
"""Bytes of one piece: sixteen records. A client that stalls makes its connection keep one piece."""


class TlsChannel(SocketChannel):
    """A TCP socket whose bytes are encrypted; see `Channel` for what each method promises.

    With `is_kernel` the kernel encrypts what is sent (`tls/kernel.py`).
    """

    __slots__ = (
        "_is_closing", "_on_readable", "_read", "_tls", "_write", "can_send_file", "retry_bytes",
    )  # fmt: skip

    piece_bytes_max = SEND_BYTES_MAX

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket, *, is_kernel: bool = False
    ) -> None:
        super().__init__(loop, sock)
        auto_retry.clear(sock)
        self.can_send_file = is_kernel
        self._tls = sock  # the object that `_sock` is too, by the type that has OpenSSL's methods
        self._read: Callable[[int], bytes] = sock.read
        self._write = sock.write
        self._on_readable: Callable[[], None] | None = None
        self._is_closing = False
        self.retry_bytes = 0

    # ---- receiving

    def recv(self, nbytes_max: int, /) -> bytes:
        """Decrypt at most one record. Returns b"" after close_notify, or if the peer sent none.

        A record without data raises BlockingIOError like none at all (`tls/auto_retry.py`).
        """
        try:
            data = self._read(nbytes_max)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLZeroReturnError:  # both have said close_notify
            return b""
        except ssl.SSLError as error:  # OpenSSL has sent the alert
            raise ConnectionAbortedError(str(error)) from None
        if self._tls.pending():
            self._loop.call_soon(self._look_again)
        elif not data:
            # CPython before 3.12.3 tells a reset as an end; a socket that was reset has no peer.
            socket.socket.getpeername(self._tls)
        return data

    def _look_again(self) -> None:
        """Something was decrypted and not received; the socket says nothing of it."""
        if self._is_reading and self._on_readable is not None:
            self._on_readable()

    def wait_readable(self, on_readable: Callable[[], None]) -> None:
        """Watch for EPOLLIN, and for what was decrypted already."""
        if not self._is_reading:
            self._on_readable = on_readable
            super().wait_readable(on_readable)
            if self._tls.pending():
                self._loop.call_soon(self._look_again)

    # ---- sending

    def send(self, data: Buffer, flags: int = 0, /) -> int:  # noqa: ARG002 - see `send_all`
        """Encrypt and send one piece: all of `data`, if it is no longer than `piece_bytes_max`."""
        if len(data) > SEND_BYTES_MAX:
            data = memoryview(data)[:SEND_BYTES_MAX]
        try:
            sent = self._write(data) if len(data) <= RECORD_BYTES else self._write_corked(data)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self.retry_bytes = len(data)
            raise BlockingIOError from None
        except ssl.SSLError as error:  # SSLEOFError where the peer has gone
            raise ConnectionAbortedError(str(error)) from None
        self.retry_bytes = 0
        return sent

    def _write_corked(self, data: Buffer) -> int:
        """OpenSSL writes each record by itself; the kernel is to send them together (tcp(7))."""
        self._tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            return self._write(data)
        finally:
            self._tls.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def send_all(self, parts: tuple[Buffer, ...], flags: int = 0, /) -> int:  # noqa: ARG002
        """Several buffers in one piece. MSG_MORE means nothing here: a record is never joined."""
        return self.send(b"".join(parts))

    def send_file(self, fd: int, offset: int, count: int, most: int) -> tuple[int, Outcome]:
        """One turn of sendfile(2), which the kernel encrypts; see `can_send_file`."""
        assert not self.retry_bytes, "what OpenSSL has begun comes first"
        return send_range(self._fd, fd, offset, count, most)

    # ---- ending

    def shut_down(self) -> bool:
        """Say close_notify, then FIN; the peer may still send (RFC 8446 section 6.1)."""
        is_said = self._says_close_notify()
        if is_said:
            # Not SSLSocket.shutdown: it would forget the keys, and what the peer sends is read.
            socket.socket.shutdown(self._tls, socket.SHUT_WR)
        else:
            self.wait_writable(self._on_room)
        return is_said

    def _on_room(self) -> None:
        """The socket was full when nothing was to follow."""
        self.stop_writing()
        with contextlib.suppress(OSError):  # the peer is gone, which reading tells
            self.shut_down()

    def _says_close_notify(self) -> bool:
        """Say it once. Returns whether FIN may follow now.

        False: the socket has no room for close_notify; call again once it has. A pending piece
        (`retry_bytes`) gives True without close_notify, which would break its record. The client
        then sees FIN alone, and knows that something is missing (RFC 8446 section 6.1).
        """
        if not (self._is_closing or self.retry_bytes):
            self._is_closing = True
            try:
                self._tls.unwrap()
                self._read = _nothing  # the peer's has come, and the keys are forgotten
            except ssl.SSLWantWriteError:
                self._is_closing = False
            except ssl.SSLWantReadError:  # the peer's has not come
                pass
            except OSError:
                # Something else of the peer's was in the way (APPLICATION_DATA_AFTER_CLOSE_NOTIFY).
                # OpenSSL gives nothing more; what comes is received as it is, so that closing
                # sends no reset.
                self._read = partial(socket.socket.recv, self._tls)
        return self._is_closing or bool(self.retry_bytes)

    def close(self) -> None:
        """Say close_notify, and end in an orderly way."""
        self._says_close_notify()
        self._on_readable = None
        super().close()

    def reset(self) -> None:
        """Close with a reset and without close_notify, so that nobody takes it for an end."""
        self._is_closing = True
        super().reset()


def _nothing(_nbytes_max: int) -> bytes:
    return b""
