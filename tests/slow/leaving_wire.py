"""One connection of a client that is about to leave: plain or TLS, over a non-blocking socket.

Owns how such a client speaks and how it goes: FIN, RST, half a close, close_notify, or silence
until the server gives it up. TLS runs over memory, so that each of these can be had alone.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time
from contextlib import suppress
from typing import NamedTuple, Self

from tests.certificate import shared_context
from tests.faults.client import RESET, request_of

RECV_BYTES = 1 << 18
HUNG_UP = select.POLLHUP | select.POLLERR | select.POLLRDHUP
LOOK_S = 0.1
"""Between two looks at whether the server has hung up: poll(2) sees it behind unread bytes."""

ASK_AFTER_S = 5.0
ASK_EVERY_S = 1.0
"""A client that reads nothing may never see the end. Then the server is asked for another seat."""

KEPT_S = 25.0
"""Longer than all deadlines of a connection together: it should have been given up by then."""

GONE = (ConnectionError, ssl.SSLError, EOFError)


class KeptError(AssertionError):
    """The server still holds a connection whose client has been silent for `KEPT_S`."""


class Door(NamedTuple):
    """Where a client comes from, and the two ports of the server: each comes from another address.

    The server allows one connection an address, so a second one tells whether the first has ended.
    """

    address: str
    plain_port: int
    tls_port: int

    async def connect(self, *, is_tls: bool, receive_buffer_bytes: int = 0) -> socket.socket:
        """A TCP connection."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
            # Or its port could not be bound on all addresses by another test meanwhile.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((self.address, 0))
            port = self.tls_port if is_tls else self.plain_port
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return sock

    async def is_open(self) -> bool:
        """Whether the server has a seat for this address, so holds no other of its connections."""
        async with Wire(await self.connect(is_tls=False)) as wire:
            await wire.send(request_of("/healthz"))
            try:
                return (await wire.read(12)) == b"HTTP/1.1 200"
            except GONE:
                return False


class Wire:
    """A connection that is closed at the end of its block, if it was not before."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    async def __aenter__(self) -> Self:
        """The connection itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        self.sock.close()

    async def handshake(self, alpn: str) -> None:
        """Speak TLS from here on."""
        tls = shared_context(alpn).wrap_bio(
            self._incoming, self._outgoing, server_hostname="127.0.0.1"
        )
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
                continue
            await self._flush()
            self._tls = tls
            return

    async def send(self, data: bytes) -> None:
        """Send bytes, encrypted where TLS is spoken."""
        if self._tls is None:
            await self.send_raw(data)
        else:
            self._tls.write(data)
            await self._flush()

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, below TLS."""
        await self._loop.sock_sendall(self.sock, data)

    async def receive(self, count: int = RECV_BYTES) -> bytes:
        """Up to `count` bytes; none at the end.

        Raises:
            ConnectionError: the server reset the connection.
            ssl.SSLError: it ended without close_notify, or with an alert.
        """
        if self._tls is None:
            return await self._loop.sock_recv(self.sock, count)
        while True:
            try:
                return self._tls.read(count)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    async def read(self, count: int) -> bytes:
        """`count` bytes.

        Raises:
            EOFError: the server ended the connection before.
        """
        received = bytearray()
        while len(received) < count:
            data = await self.receive(count - len(received))
            if not data:
                raise EOFError(f"the end after {bytes(received[:100])!r}")
            received += data
        return bytes(received)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self.send_raw(self._outgoing.read())

    async def _fill(self) -> None:
        data = await self._loop.sock_recv(self.sock, RECV_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    # ---- leaving

    def close(self) -> None:
        """FIN, or RST where something is unread."""
        self.sock.close()

    def reset(self) -> None:
        """RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()

    def half_close(self) -> None:
        """FIN, and the other half stays open."""
        self.sock.shutdown(socket.SHUT_WR)

    async def notify(self) -> None:
        """Send close_notify, if the server did not end the handshake; TCP stays open."""
        if self._tls is None:
            return
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def until_given_up(self, door: Door) -> float:
        """Do and read nothing until the server has given the connection up; after how long it did.

        Raises:
            KeptError: it has not.
        """
        begun_s = time.monotonic()
        ask_at_s = begun_s + ASK_AFTER_S
        watch = select.poll()
        watch.register(self.sock, select.POLLRDHUP)
        while not any(event & HUNG_UP for _, event in watch.poll(0)):
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            if now_s < ask_at_s:
                continue
            ask_at_s = now_s + ASK_EVERY_S
            if await door.is_open():
                break
            if now_s - begun_s > KEPT_S:
                raise KeptError(f"not given up after {KEPT_S:.0f} s")
        return time.monotonic() - begun_s
