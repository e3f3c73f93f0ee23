"""The bytes of one connection: what a protocol needs of its socket, and nothing of what they mean.

Owns the socket, and which of its two directions the event loop watches. A protocol works on a
`Channel` and does not know which one it has. `PlainChannel` is the socket itself. A channel that
encrypts has the same methods: its `recv` and `send` raise `BlockingIOError` while the socket is not
ready in whichever direction the encryption needs, and `can_send_file` says whether the kernel
encrypts what sendfile(2) sends.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
from typing import TYPE_CHECKING, Protocol

from zerocopy.transport.sendfile import Outcome, send_range

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    Buffer = bytes | memoryview

_QUEUED = struct.Struct("i")
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds."""


class Channel(Protocol):
    """One connection's bytes, in both directions. Used in the event loop's thread only.

    `can_send_file` is whether `send_file` works; where it does not, send views of the file.
    `retry_bytes` is how many bytes the next `send` must begin with, the same as before: a channel
    that encrypts has begun with them. 0 nearly always, and always on a plain socket. A `send` of
    more than `piece_bytes_max` bytes takes only so many of them.
    """

    can_send_file: bool
    retry_bytes: int
    piece_bytes_max: int

    @property
    def is_reading(self) -> bool:
        """Whether `wait_readable` holds."""

    def recv(self, nbytes_max: int, /) -> bytes:
        """Take at most `nbytes_max` of the bytes that have arrived; b"" once the peer has ended.

        Raises:
            BlockingIOError: nothing has arrived.
            OSError: the peer is gone.
        """

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        """Send `data`. Returns how many bytes the kernel took.

        `flags` may be MSG_MORE (tcp(7), TCP_CORK).

        Raises:
            BlockingIOError: none; wait until the channel is writable.
            OSError: the peer is gone.
        """

    def send_all(self, parts: tuple[Buffer, ...], flags: int = 0, /) -> int:
        """The same for several buffers in one call, sendmsg(2)."""

    def send_file(self, fd: int, offset: int, count: int, most: int) -> tuple[int, Outcome]:
        """Send up to `most` of `count` bytes of a file; see `sendfile.send_range`."""

    def wait_readable(self, on_readable: Callable[[], None]) -> None:
        """Call `on_readable` whenever there is something to receive."""

    def stop_reading(self) -> None:
        """Call nothing any more."""

    def wait_writable(self, on_writable: Callable[[], None]) -> None:
        """Call `on_writable` whenever there is room to send."""

    def stop_writing(self) -> None:
        """Call nothing any more."""

    def untaken_bytes(self) -> int:
        """How many sent bytes the peer has not acknowledged."""

    def peer_host(self) -> str | None:
        """Where the peer is; see `Peer`."""

    def shut_down(self) -> bool:
        """Say that nothing follows; the peer may still send. False: it will be said, soon.

        Raises:
            OSError: the peer is gone.
        """

    def close(self) -> None:
        """Give everything back; nothing is called afterwards."""

    def reset(self) -> None:
        """Close with a reset (RST), so that the peer cannot take what it has for all there is."""


def recv_all(channel: Channel, nbytes_max: int) -> bytes:
    """Receive what has arrived, some more than `nbytes_max` bytes at most.

    A channel that encrypts gives one record a call. An end, or an error, is told by the next call.
    """
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < nbytes_max and (received := channel.recv(nbytes_max)):
            data += received
    return data


class SocketChannel:
    """What all channels have in common: a TCP socket, and what the event loop watches of it."""

    __slots__ = ("_fd", "_is_reading", "_is_writing", "_loop", "_sock")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        assert sock.gettimeout() == 0, "a blocking socket would hold the event loop"
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._is_reading = False
        self._is_writing = False

    def wait_readable(self, on_readable: Callable[[], None]) -> None:
        """Watch for EPOLLIN."""
        if not self._is_reading:
            self._is_reading = True
            self._loop.add_reader(self._fd, on_readable)

    def stop_reading(self) -> None:
        """Watch for it no longer."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._fd)

    def wait_writable(self, on_writable: Callable[[], None]) -> None:
        """Watch for EPOLLOUT."""
        if not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._fd, on_writable)

    def stop_writing(self) -> None:
        """Watch for it no longer."""
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._fd)

    @property
    def is_reading(self) -> bool:
        """Whether it is watched for input."""
        return self._is_reading

    def untaken_bytes(self) -> int:
        """The kernel's queue (SIOCOUTQ, tcp(7)): what the peer has not acknowledged."""
        return int(_QUEUED.unpack(fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4)))[0])

    def peer_host(self) -> str | None:
        """getpeername(2), without the zone of an IPv6 address (RFC 4007 section 11)."""
        try:
            # Not the method of the object: that of `HandshakeSocket` tells nobody's address.
            return str(socket.socket.getpeername(self._sock)[0]).partition("%")[0]
        except OSError:  # it has left
            return None

    def shut_down(self) -> bool:
        """shutdown(2) of our direction."""
        self._sock.shutdown(socket.SHUT_WR)
        return True

    def close(self) -> None:
        """End in an orderly way: what is queued is still sent."""
        with contextlib.ExitStack() as whatever_fails:
            whatever_fails.callback(self._sock.close)
            whatever_fails.callback(self.stop_writing)
            self.stop_reading()

    def reset(self) -> None:
        """Close(2) with SO_LINGER of zero seconds, which sends a reset."""
        with contextlib.suppress(OSError):  # the peer's reset may have come first
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.close()


class PlainChannel(SocketChannel):
    """A TCP socket as it is. `recv`, `send` and `sendmsg` are the socket's own methods."""

    __slots__ = ("recv", "send", "sendmsg")

    can_send_file = True
    retry_bytes = 0
    piece_bytes_max = 0x7FFF_F000  # of sendfile(2) and send(2)

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        super().__init__(loop, sock)
        # Bound once: looking them up for each request would cost a tenth of a microsecond.
        self.recv = sock.recv
        self.send = sock.send
        self.sendmsg = sock.sendmsg

    def send_all(self, parts: tuple[Buffer, ...], flags: int = 0) -> int:
        """Several buffers in one sendmsg(2)."""
        return self.sendmsg(parts, (), flags)

    def send_file(self, fd: int, offset: int, count: int, most: int) -> tuple[int, Outcome]:
        """One turn of sendfile(2)."""
        return send_range(self._fd, fd, offset, count, most)
