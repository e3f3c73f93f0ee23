"""An HTTP/2 connection without a network: the server's socket, and a strict client at its end.

Owns the bytes on their way. The server's half is `Http2Wire` on a `TlsChannel`, both real, over the
SSL socket of tls.py and `Wire`, which is the kernel's socket. The client's half is the client of
tests/h2client.py over a pipe. Every write of the protocol is looked at as it is made: it must be
whole frames, and the heads in it tell when a request was answered.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, cast

from tests.h2client import FRAME_HEAD_BYTES, HEADERS, SETTINGS, H2Client
from tests.simulation import tls
from zerocopy.transport import channel
from zerocopy.transport.http2.wire import Http2Wire
from zerocopy.transport.tls import server as tls_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from random import Random

    from tests.simulation.http2_loop import SimLoop
    from zerocopy.transport.channel import Buffer

ROOM_BYTES = (512, 16_384, 65_536)
UNSENT_BYTES_MAX = 8 << 20
WIRE_FD = 50_000


class Tap:
    """What the protocol writes, as it is written."""

    def __init__(self, loop: SimLoop, on_head: Callable[[int], None]) -> None:
        self._loop = loop
        self._on_head = on_head
        self.is_table_told = False  # a header block has left since the last SETTINGS
        self.writes = 0
        self.most_unsent = 0
        self.before_write: Callable[[], None] = lambda: None
        self.digest = hashlib.blake2b(digest_size=16)

    def take(self, data: bytes) -> None:
        """Whole frames were written."""
        self.digest.update(b"%f %d " % (self._loop.time(), len(data)) + data)
        position = 0
        while position < len(data):
            assert len(data) - position >= FRAME_HEAD_BYTES, "half a frame was written"
            nbytes = int.from_bytes(data[position : position + 3], "big")
            if data[position + 3] == SETTINGS:
                self.is_table_told = False
            elif data[position + 3] == HEADERS:
                self.is_table_told = True
                self._on_head(int.from_bytes(data[position + 5 : position + 9], "big"))
            position += FRAME_HEAD_BYTES + nbytes
        assert position == len(data), "half a frame was written"

    def look(self, unsent_bytes: int) -> None:
        """So much waits in the server after a write."""
        self.most_unsent = max(self.most_unsent, unsent_bytes)
        assert unsent_bytes < UNSENT_BYTES_MAX, "the server buffers without a bound"


class TappedWire(Http2Wire):
    """The real one, listened to."""

    tap: Tap

    def write(self, data: Buffer) -> None:
        """Look at what is written, unless nothing is any more."""
        tap = self.tap
        tap.writes += bool(data)
        tap.before_write()
        if data and not self._is_over and self._closing_since is None:
            tap.take(bytes(data))
        super().write(data)
        tap.look(self.unsent_bytes)


class Wire:
    """The server's socket: what it sends waits in `outbox` until the client takes it."""

    def __init__(self, loop: SimLoop, rng: Random) -> None:
        self._loop = loop
        self._room = rng.choice(ROOM_BYTES)
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.error: int | None = None
        self.input_ended = False
        self.output_ended = False
        self.has_closed = False
        self.is_reset = False
        loop.sockets[WIRE_FD] = self

    # ---- the server's side

    def fileno(self) -> int:
        """The descriptor."""
        return -1 if self.has_closed else WIRE_FD

    @property
    def readable(self) -> bool:
        """EPOLLIN."""
        return bool(self.inbox) or self.input_ended or self.error is not None

    @property
    def writable(self) -> bool:
        """EPOLLOUT: a third of the buffer is free, or a call would fail at once."""
        free = self._room - len(self.outbox)
        return free * 3 >= self._room or self.error is not None

    def recv(self, count: int) -> bytes:
        """The system call."""
        assert not self.has_closed, "received of a closed socket"
        if self.inbox:
            data = bytes(self.inbox[:count])
            del self.inbox[:count]
            return data
        self._raise_error()
        if self.input_ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes) -> int:
        """The system call."""
        assert not self.has_closed, "sent on a closed socket"
        assert not self.output_ended, "sent after shutdown"
        self._raise_error()
        count = min(len(data), self._room - len(self.outbox))
        if self.is_reset:
            raise BrokenPipeError
        if count <= 0:
            raise BlockingIOError
        self.outbox += data[:count]
        return count

    def _raise_error(self) -> None:
        if self.error is not None:
            code, self.error = self.error, None
            raise OSError(code, os.strerror(code))

    def setsockopt(self, _level: int, option: int, value: bytes) -> None:
        """SO_LINGER of zero seconds, which makes of closing a reset."""
        assert option == socket.SO_LINGER
        assert value == struct.pack("ii", 1, 0)
        self.is_reset = True

    def shutdown(self, how: int) -> None:
        """The system call, of our side."""
        assert how == socket.SHUT_WR
        if self.is_reset:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        self.output_ended = True

    def close(self) -> None:
        """The system call: a reset if something was not received."""
        if self.has_closed:
            return
        self._loop.forget(WIRE_FD)
        self.has_closed = self.output_ended = True
        if self.inbox or self.is_reset:
            self.is_reset = True
            self.outbox.clear()

    # ---- the client's side

    @property
    def has_ended(self) -> bool:
        """Whether the client sends nothing more, and is still there."""
        return self.input_ended and not self.is_reset

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of the server."""
        return self.output_ended and not self.outbox

    def deliver(self, data: bytes) -> None:
        """Bytes of the client's arrive."""
        if self.has_closed:
            self.is_reset = True
            self.outbox.clear()
        elif self.error is None and not self.is_reset:
            self.inbox += data

    def take(self, count: int) -> bytes:
        """Bytes leave for the client."""
        data = bytes(self.outbox[:count])
        del self.outbox[:count]
        return data

    def end_of_client(self) -> None:
        """The client sends nothing more."""
        self.input_ended = True

    def lose(self) -> None:
        """A reset of the client's arrives: what it has not read is gone."""
        self.outbox.clear()
        self.output_ended = self.output_ended or self.has_closed
        if not self.has_closed and not self.is_reset:
            self.error = errno.ECONNRESET
            self.is_reset = self.input_ended = True


class _Fcntl:
    """The module `fcntl` for the package: ioctl(2) of SIOCOUTQ."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def ioctl(self, fd: int, _request: int, _argument: bytes) -> bytes:
        """How many bytes the client has not taken yet."""
        assert fd == self._wire.fileno(), "asked of a closed socket"
        return struct.pack("i", len(self._wire.outbox))


def attached(wire: Wire, piece_bytes: int) -> AbstractContextManager[None]:
    """The package takes `wire` for a socket, and encrypts at most so many bytes in one call."""
    return tls.changed(
        [
            *tls.changes(piece_bytes),
            (channel, "fcntl", _Fcntl(wire)),
            (tls_server, "Http2Wire", TappedWire),
        ]
    )


class _Pipe:
    """The client's socket: what it sends stays in `sent`."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.arriving = b""
        self.sent_total = 0

    def settimeout(self, _seconds: float) -> None:
        """Nothing waits."""

    def selected_alpn_protocol(self) -> str:
        """HTTP/2."""
        return "h2"

    def sendall(self, data: bytes) -> None:
        """Keep it until the run delivers it."""
        self.sent += data
        self.sent_total += len(data)

    def recv(self, _count: int) -> bytes:
        """What the run gives."""
        return self.arriving

    def close(self) -> None:
        """Nothing is open."""


class _Listener:
    """What the client takes for a running server."""

    tls_port = 443

    def __init__(self, pipe: _Pipe) -> None:
        self.pipe = pipe

    def connect_tls(self, _protocols: list[str], _bytes: int | None) -> _Pipe:
        """The pipe."""
        return self.pipe


class Peer(H2Client):
    """The strict client, given bytes by the run."""

    def __init__(self, **settings: Any) -> None:
        self.pipe = _Pipe()
        super().__init__(cast("Any", _Listener(self.pipe)), **settings)

    def receive(self, data: bytes) -> None:
        """Take bytes of the server; none are its end."""
        self.pipe.arriving = data
        self._read("anything")

    @property
    def settings_are_settled(self) -> bool:
        """Whether the server has acknowledged all SETTINGS."""
        return self.settings_acks >= self._settings_sent

    def change_settings(self, values: dict[Any, int]) -> None:
        """Send SETTINGS; their ACK comes when it comes."""
        self._settings_sent += 1
        self.h2.update_settings(values)
        self.flush()

    @property
    def window_left(self) -> int:
        """What the server may still send on the connection."""
        return int(self.h2._inbound_flow_control_window_manager.current_window_size)
