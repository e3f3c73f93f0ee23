"""A TLS connection without TLS: a transport in memory, and a strict client at its other end.

Owns the bytes on their way. The server's half is a real asyncio reader and writer over `Wire`; the
client's half is the client of tests/h2client.py over a pipe. Every write of the server is looked at
as it is made: it must be whole frames, and the heads in it tell when a request was answered.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, cast

from tests.h2client import FRAME_HEAD_BYTES, HEADERS, SETTINGS, H2Client
from zerocopy.transport.http2.batch import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.http2_loop import SimLoop

HIGH_WATER_BYTES = (512, 16_384, 65_536)
UNSENT_BYTES_MAX = 8 << 20


class _Socket:
    """What TlsConnection asks of a socket."""

    family = 2

    def getpeername(self) -> tuple[str, int]:
        """Of nobody."""
        return "127.0.0.1", 1

    getsockname = getpeername

    def fileno(self) -> int:
        """None: the kernel's queue is not looked at."""
        return -1

    def selected_alpn_protocol(self) -> str:
        """HTTP/2, always."""
        return "h2"


class Wire(asyncio.Transport):
    """The server's transport: what it writes waits in `unsent` until the client takes it."""

    def __init__(self, loop: SimLoop, rng: Random, on_head: Callable[[int], None]) -> None:
        super().__init__()
        self._loop = loop
        self._high = rng.choice(HIGH_WATER_BYTES)
        self._protocol: asyncio.StreamReaderProtocol
        self._on_head = on_head
        self._socket = _Socket()
        self._is_paused = False
        self.has_room = True
        self.is_table_told = False  # a header block has left since the last SETTINGS
        self.unsent = bytearray()
        self.most_unsent = 0
        self.writes = 0
        self.before_write: Callable[[], None] = lambda: None
        self.digest = hashlib.blake2b(digest_size=16)
        self.has_closed = False
        self.is_over = False

    def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The server's reader and writer."""
        loop = cast("asyncio.AbstractEventLoop", self._loop)
        reader = asyncio.StreamReader(loop=loop)
        self._protocol = Receiver(reader, loop=loop)
        self._protocol.connection_made(self)
        return reader, asyncio.StreamWriter(self, self._protocol, reader, loop)

    # ---- the server's side

    def get_protocol(self) -> asyncio.BaseProtocol:
        """What bytes are given to."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A socket and a TLS object that are none."""
        return self._socket if name in {"socket", "ssl_object"} else default

    def get_write_buffer_size(self) -> int:
        """What the client has not taken."""
        return len(self.unsent)

    def is_closing(self) -> bool:
        """Whether the server closed it."""
        return self.has_closed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep whole frames for the client."""
        self.writes += 1
        self.before_write()
        if self.has_closed:
            return
        self._tap(bytes(data))
        self.unsent += data
        self.most_unsent = max(self.most_unsent, len(self.unsent))
        assert len(self.unsent) < UNSENT_BYTES_MAX, "the server buffers without a bound"
        if len(self.unsent) > self._high and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def _tap(self, data: bytes) -> None:
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

    def pause_reading(self) -> None:
        """The server's reader is full."""
        self.has_room = False

    def resume_reading(self) -> None:
        """It has room."""
        self.has_room = True

    def close(self) -> None:
        """Let what was written leave, then end."""
        self.has_closed = True
        self._end_if_empty()

    def abort(self) -> None:
        """End at once."""
        self.unsent.clear()
        self.close()

    # ---- the client's side

    def deliver(self, data: bytes) -> None:
        """Bytes of the client's come."""
        if not self.has_closed:
            self._protocol.data_received(data)

    def take(self, count: int) -> bytes:
        """Bytes leave for the client."""
        data = bytes(self.unsent[:count])
        del self.unsent[:count]
        if self._is_paused and len(self.unsent) <= self._high // 4:
            self._is_paused = False
            self._protocol.resume_writing()
        if self.has_closed:
            self._end_if_empty()
        return data

    def end_of_client(self) -> None:
        """The client sends nothing more."""
        if not self.has_closed:
            self._protocol.eof_received()

    def lose(self) -> None:
        """The connection breaks."""
        self.unsent.clear()
        self.has_closed = True
        if not self.is_over:
            self.is_over = True
            self._protocol.connection_lost(ConnectionResetError())

    def _end_if_empty(self) -> None:
        if not self.unsent and not self.is_over:
            self.is_over = True
            self._loop.call_soon(self._protocol.connection_lost, None)


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
