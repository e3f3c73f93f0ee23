"""Both ends of one TLS connection in one thread: a channel, its loop by hand, and a raw client."""

from __future__ import annotations

import fcntl
import socket
import ssl
import struct
import termios
from typing import TYPE_CHECKING, Any, Self, cast

from tests.tls import make_pair, trusting
from zerocopy.transport.tls.channel import TlsChannel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUFFER_BYTES = 16_384
WAIT = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


class Secured(ssl.SSLSocket):
    """A socket that can say that it has no room for close_notify, which is hard to bring about.

    It notes whether it was corked when it was written to.
    """

    has_room = True
    was_corked = False

    @property
    def is_corked(self) -> bool:
        """TCP_CORK, tcp(7)."""
        return bool(self.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))

    def write(self, data: Any) -> int:
        """Encrypt and send."""
        self.was_corked = self.is_corked
        return super().write(data)

    def unwrap(self) -> socket.socket:
        """Say close_notify."""
        if not self.has_room:
            raise ssl.SSLWantWriteError
        return super().unwrap()


class HandLoop:
    """What a channel asks of an event loop; the test looks, and calls."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], None]] = {}
        self.writers: dict[int, Callable[[], None]] = {}
        self.soon: list[Callable[[], None]] = []

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Noted."""
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        """Forgotten."""
        del self.readers[fd]

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        """Noted."""
        self.writers[fd] = callback

    def remove_writer(self, fd: int) -> None:
        """Forgotten."""
        del self.writers[fd]

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Noted."""
        self.soon.append(callback)

    def turn(self) -> int:
        """One iteration's calls; how many there were."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        return len(soon)


class Ends:
    """A channel past its handshake, and its client, whose socket does not block."""

    def __init__(self, directory: Path, version: ssl.TLSVersion) -> None:
        self.loop = HandLoop()
        serving = make_pair(directory).context()
        serving.maximum_version = version
        serving.sslsocket_class = Secured
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
            raw.connect(listener.getsockname())
            accepted, _ = listener.accept()
        accepted.setblocking(False)
        raw.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client = trusting().wrap_socket(
            raw,
            server_hostname="localhost",
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        sock = serving.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        assert isinstance(sock, Secured)
        self.sock = sock
        steps = [self.client.do_handshake, self.sock.do_handshake]
        while steps:
            step = steps.pop(0)
            try:
                step()
            except WAIT:
                steps.append(step)
        self.channel = TlsChannel(cast("Any", self.loop), self.sock)

    def __enter__(self) -> Self:
        """As it is."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close both."""
        self.client.close()
        self.sock.close()

    def take(self, nbytes: int = 1 << 30) -> bytes:
        """What the client gets, at most so many bytes, until nothing comes."""
        taken = b""
        while len(taken) < nbytes:
            try:
                data = self.client.recv(min(65_536, nbytes - len(taken)))
            except WAIT:
                break
            if not data:
                break
            taken += data
        return taken

    def unread_bytes(self) -> int:
        """What has come for the channel and was not read."""
        return unread_bytes(self.sock)

    def fill(self, piece: bytes = bytes(1_000)) -> int:
        """Send until the socket is full; how many bytes count as sent."""
        sent = 0
        while True:
            try:
                sent += self.channel.send(piece)
            except BlockingIOError:
                return sent


def unread_bytes(sock: socket.socket) -> int:
    """What has come for a socket and was not read (FIONREAD, tcp(7))."""
    [nbytes] = struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))
    return int(nbytes)


def until(look: Callable[[], Any]) -> Any:
    """What `look` gives, once it does not ask to wait: the loopback delivers by itself."""
    for _ in range(1_000_000):
        try:
            return look()
        except WAIT:
            continue
    raise AssertionError("it never came")
