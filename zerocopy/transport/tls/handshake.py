"""A TCP connection until it speaks HTTP: its handshake, or the word why there is none.

Owns the socket from accept(2) to the end of the handshake, and its deadline. Handshakes take turns
like large responses: each costs a millisecond, and many at once would hold up the small ones.

A client that cannot be served is told so: by the alert that OpenSSL sends (RFC 8446 section 6.2),
or in plain HTTP where it spoke that. Its socket is then read out before it is closed, for closing
with input unread would send a reset, which can destroy what was said.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from zerocopy.transport.faults import contained
from zerocopy.transport.timers import NEVER, Wheel
from zerocopy.transport.tls.hello import (
    LOOK_BYTES,
    hello_bytes,
    is_plain_http,
    offered_protocols,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zerocopy.transport.admission import Seat
    from zerocopy.transport.context import Context

PROTOCOLS = ("h2", "http/1.1")
"""What a listener can speak, as ALPN names it; the preferred one first."""

LINGER_TICKS = Wheel.ticks(2.0)
"""How long a client that was refused gets to close."""

DROPPED_BYTES = 65_536
"""What one call drops of what a refused client still sends."""

NO_APPLICATION_PROTOCOL = 120
"""The alert of RFC 7301 section 3.2."""

_PLAIN_CONTENT = b"this port speaks HTTPS; ask again with https://\n"
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nServer: zerocopy\r\nContent-Type: text/plain\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_PLAIN_CONTENT), _PLAIN_CONTENT)
)


class HandshakeSocket(ssl.SSLSocket):
    """A socket that knows whether its client offers protocols of which we speak none."""

    has_no_protocol = False

    def getpeername(self) -> object:
        """Nobody's address: asked when it is made, to see whether it is connected.

        Where the client has left again, Python would close the descriptor that the event loop
        watches. `do_handshake` finds that out as well.
        """
        return None


def refuse_protocols(sock: ssl.SSLObject, _name: str | None, _context: object) -> int | None:
    """The alert for a ClientHello, if it gets one; OpenSSL calls it for each, with SNI or without.

    Python's ssl would go on without a protocol, where RFC 7301 section 3.2 has a fatal alert.
    """
    return NO_APPLICATION_PROTOCOL if getattr(sock, "has_no_protocol", False) else None


class Handshake:
    """One connection that has yet to speak TLS. A member of the listener's wheel.

    `on_done` gets the socket once it does; `on_failed` is told that there is no connection. One of
    them is called, once.
    """

    __slots__ = (
        "_awaited_bytes", "_context", "_fd", "_is_refused", "_is_writing", "_loop", "_on_done",
        "_on_failed", "_protocols", "_sock", "_tls_context", "deadline", "seat",
    )  # fmt: skip

    def __init__(
        self,
        context: Context,
        accepted: tuple[socket.socket, ssl.SSLContext],
        seat: Seat,
        *,
        protocols: frozenset[bytes],
        on_done: Callable[[Handshake, ssl.SSLSocket], None],
        on_failed: Callable[[Handshake], None],
    ) -> None:
        self._context = context
        self._loop: asyncio.AbstractEventLoop = context.loop
        self._sock, self._tls_context = accepted  # an SSLSocket once the client has said something
        self.seat = seat
        self._protocols = protocols
        self._awaited_bytes = 1
        self._on_done = on_done
        self._on_failed = on_failed
        self._is_refused = False
        self._is_writing = False
        self.deadline = context.wheel.now + context.header_ticks
        self._fd = self._sock.fileno()
        self._loop.add_reader(self._fd, self._on_readable)

    def on_deadline(self) -> None:
        """It takes too long."""
        self.close()

    def close(self) -> None:
        """Give everything back; there is no connection."""
        self._stop_watching()
        self._give_back()

    def fail(self, error: Exception) -> None:
        """A fault of the server: log it, and end this connection and no other."""
        try:
            self._context.on_connection_failed(error)
        finally:
            if self.deadline != NEVER:
                self.close()

    # ---- what the event loop calls

    @contained
    def _on_readable(self) -> None:
        if self._is_refused:
            self._drop_input()
        else:
            self._loop.remove_reader(self._fd)
            self._context.scheduler.queue(self._take_turn)

    def _take_turn(self) -> int:
        """Take one step of the handshake. Returns the bytes charged for the turn.

        A whole turn, however little the step was: one takes a millisecond of cryptography, and
        which step that is only OpenSSL knows.
        """
        if self.deadline == NEVER:
            return 0  # closed in between
        self._go_on()
        return self._context.scheduler.turn_bytes

    @contained
    def _go_on(self) -> None:
        self._loop.add_reader(self._fd, self._on_readable)
        if isinstance(self._sock, ssl.SSLSocket):
            self._step(self._sock)
        else:
            self._begin()

    def _begin(self) -> None:
        """The client has said something: TLS, as far as one can see."""
        try:
            hello = self._sock.recv(LOOK_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not hello:
            self.close()
        elif is_plain_http(hello):
            self._refuse(PLAIN_ANSWER)
        else:
            self._take_hello(hello)

    def _take_hello(self, hello: bytes) -> None:
        """Give OpenSSL the ClientHello, once it has come as a whole."""
        is_whole = len(hello) >= hello_bytes(hello)
        is_last = len(hello) < self._awaited_bytes  # called all the same: no more will come
        if not is_whole and not is_last:
            self._await(hello_bytes(hello))
            try:  # on EPOLLERR uvloop calls the reader a last time
                self._sock.getpeername()
            except OSError:  # and this was that call
                self.close()
        else:
            self._await(1)
            sock = self._sock = self._tls_context.wrap_socket(
                self._sock, server_side=True, do_handshake_on_connect=False
            )
            offered = offered_protocols(hello)
            if isinstance(sock, HandshakeSocket):
                sock.has_no_protocol = bool(offered) and self._protocols.isdisjoint(offered)
            self._step(sock)

    def _await(self, nbytes: int) -> None:
        """Be called once so many bytes are there (SO_RCVLOWAT, socket(7)), or no more will come."""
        if nbytes != self._awaited_bytes:
            self._awaited_bytes = nbytes
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, nbytes)

    @contained
    def _on_writable(self) -> None:
        self._loop.remove_writer(self._fd)
        self._is_writing = False
        assert isinstance(self._sock, ssl.SSLSocket), "only OpenSSL waits for room"
        self._step(self._sock)

    def _step(self, sock: ssl.SSLSocket) -> None:
        """Go on with the handshake as far as the client's bytes allow."""
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            if not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._fd, self._on_writable)
        except ssl.SSLError:  # OpenSSL has sent the alert
            self._refuse()
        except OSError:  # it has left, or its address with it (ENOTCONN)
            self.close()
        else:
            self._stop_watching()
            try:
                self._on_done(self, sock)
            except Exception:
                self._give_back()  # nobody else has it
                raise

    # ---- ending

    def _refuse(self, answer: bytes = b"") -> None:
        """Say `answer`, in plain, and that nothing follows; then wait for the client to close."""
        self._is_refused = True
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._fd)
        try:
            # The calls of the plain socket: an SSLSocket has no keys to encrypt with.
            if answer:
                socket.socket.send(self._sock, answer)
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.deadline = self._context.wheel.now + LINGER_TICKS
        self._drop_input()

    def _drop_input(self) -> None:
        try:
            is_over = not socket.socket.recv(self._sock, DROPPED_BYTES)
        except BlockingIOError:
            return
        except OSError:
            is_over = True
        if is_over:
            self.close()

    def _give_back(self) -> None:
        try:
            self._sock.close()
        finally:
            self._on_failed(self)

    def _stop_watching(self) -> None:
        self.deadline = NEVER
        self._loop.remove_reader(self._fd)
        if self._is_writing:
            self._loop.remove_writer(self._fd)
