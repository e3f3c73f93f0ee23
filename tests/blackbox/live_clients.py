"""Clients of /api/live that know nothing of the server: each way to read a stream, by hand.

A `Reader` holds one connection and gives the records that come, with the cursor behind them. It
reads as few or as many bytes as it likes, and may be dropped at any byte.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from tests.certificate import client_context
from tests.eventstream import EventSource

if TYPE_CHECKING:
    import ssl
    from random import Random

READ_BYTES_MAX = 4_096
RESET_CODE = 4001
_CLOSE, _PING, _BINARY = 8, 9, 2


class Piece(NamedTuple):
    """Values of the column `price`, and the cursor behind them; or the word of a reset."""

    cursor: str
    values: list[int]
    is_reset: bool = False


class RefusedError(Exception):
    """The server does not serve this stream now."""


class Reader:
    """One connection; `alpn` is None where it is plain."""

    alpn: str | None = None

    def __init__(self, port: int, target: str, rng: Random) -> None:
        self._port = port
        self.target = target
        self._rng = rng
        self._bytes: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect and ask."""
        context: ssl.SSLContext | None = None
        if self.alpn is not None:
            context = client_context([self.alpn])
        self._bytes, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=context, limit=READ_BYTES_MAX
        )
        await self._ask()

    def drop(self) -> None:
        """Leave without a word."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def pieces(self) -> list[Piece] | None:
        """What comes next, perhaps nothing whole; None at the end."""
        raise NotImplementedError

    async def _ask(self) -> None:
        raise NotImplementedError

    def _send(self, data: bytes) -> None:
        assert self._writer is not None, "it is open"
        self._writer.write(data)

    async def _some(self) -> bytes:
        return await self._bytes.read(self._rng.randint(1, READ_BYTES_MAX))

    async def _head(self, *fields: str) -> tuple[int, bytes]:
        """Send a GET. Returns the status and the rest of what came with the head."""
        lines = [f"GET {self.target} HTTP/1.1", "Host: t", *fields, "", ""]
        self._send("\r\n".join(lines).encode())
        head = await self._bytes.readuntil(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head


def _event_pieces(source: EventSource, content: bytes) -> list[Piece]:
    found = []
    for event in source.feed(content):
        data = json.loads(event.data)
        if event.kind == "reset":
            found.append(Piece("", [], is_reset=True))
        else:
            assert event.kind == "records"
            values = [int(value) for value in data["columns"]["price"]]
            found.append(Piece(event.last_event_id, values))
    return found


class Events(Reader):
    """Server-sent events over HTTP/1.1: chunks (RFC 9112 section 7.1)."""

    async def _ask(self) -> None:
        self._source = EventSource()
        self._raw = b""
        status, head = await self._head()
        if status != 200:
            raise RefusedError(status)
        assert b"\r\ntransfer-encoding: chunked\r\n" in head.lower()

    async def pieces(self) -> list[Piece] | None:
        """The events of the chunks that are whole."""
        data = await self._some()
        if not data:
            return None
        self._raw += data
        content, is_over = b"", False
        while (end := self._raw.find(b"\r\n")) >= 0:
            nbytes = int(self._raw[:end], 16)
            if len(self._raw) < end + 2 + nbytes + 2:
                break
            is_over = not nbytes
            content += self._raw[end + 2 : end + 2 + nbytes]
            assert self._raw[end + 2 + nbytes : end + 4 + nbytes] == b"\r\n"
            self._raw = self._raw[end + 4 + nbytes :]
        found = _event_pieces(self._source, content)
        return found if found or not is_over else None


class EventsTls(Events):
    """The same over TLS."""

    alpn = "http/1.1"


class EventsHttp2(Reader):
    """Server-sent events on a stream of HTTP/2."""

    alpn = "h2"

    async def _ask(self) -> None:
        self._source = EventSource()
        self._http2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http2.initiate_connection()
        head = [(":method", "GET"), (":scheme", "https"), (":authority", "t")]
        self._http2.send_headers(1, [*head, (":path", self.target)], end_stream=True)
        self._send(self._http2.data_to_send())

    async def pieces(self) -> list[Piece] | None:
        """The events of the DATA frames that are whole."""
        data = await self._some()
        if not data:
            return None
        content = b""
        is_over = False
        for event in self._http2.receive_data(data):
            if isinstance(event, DataReceived):
                content += event.data
                if event.flow_controlled_length:
                    self._http2.acknowledge_received_data(event.flow_controlled_length, 1)
            is_over |= isinstance(event, StreamEnded | StreamReset)
        self._send(self._http2.data_to_send())
        found = _event_pieces(self._source, content)
        return found if found or not is_over else None


class Messages(Reader):
    """Binary messages of a WebSocket (RFC 6455), in the format `columns`."""

    async def _ask(self) -> None:
        self._raw = b""
        status, _ = await self._head(
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        )
        if status != 101:
            raise RefusedError(status)

    async def pieces(self) -> list[Piece] | None:
        """The messages that are whole."""
        data = await self._some()
        if not data:
            return None
        self._raw += data
        found = []
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == _CLOSE:
                code = int.from_bytes(payload[:2], "big")
                return [Piece("", [], is_reset=True)] if code == RESET_CODE else None
            if opcode == _BINARY:
                found += _message_pieces(payload)
            else:
                assert opcode == _PING
        return found

    def _frame(self) -> tuple[int, bytes] | None:
        """One whole frame, which no client of ours gets in fragments or masked."""
        raw = self._raw
        if len(raw) < 2:
            return None
        assert raw[0] & 0xF0 == 0x80
        assert raw[1] < 0x80
        at, nbytes = 2, raw[1]
        if nbytes > 125:
            at = 4 if nbytes == 126 else 10
            if len(raw) < at:
                return None
            nbytes = int.from_bytes(raw[2:at], "big")
        if len(raw) < at + nbytes:
            return None
        self._raw = raw[at + nbytes :]
        return raw[0] & 0xF, raw[at : at + nbytes]


def _message_pieces(payload: bytes) -> list[Piece]:
    line, _, records = payload.partition(b"\n")
    header = json.loads(line)
    time, price = header["columns"]
    assert (time["name"], price["name"]) == ("time", "price")
    assert len(records) == time["data_length"] + price["data_length"]
    if not price["num_records"]:
        return []
    values = np.frombuffer(records, price["dtype"], offset=time["data_length"])
    return [Piece(header["cursor"], values.astype(int).tolist())]


class MessagesTls(Messages):
    """The same over TLS."""

    alpn = "http/1.1"


READERS: tuple[type[Reader], ...] = (Events, EventsTls, EventsHttp2, Messages, MessagesTls)


async def next_pieces(reader: Reader) -> list[Piece] | None:
    """What `reader` has next; None where the connection has ended, however."""
    # h2 takes nothing after GOAWAY, where the server still ends its streams.
    with suppress(OSError, asyncio.IncompleteReadError, ProtocolError):
        return await reader.pieces()
    return None
