"""Handmade HTTP/2 frames, and what a server may answer to bad ones."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.h2client import FRAME_HEAD_BYTES, SETTINGS

if TYPE_CHECKING:
    from tests.h2client import H2Client

END_STREAM, END_HEADERS, PADDED, WITH_PRIORITY, ACK = 0x1, 0x4, 0x8, 0x20, 0x1
WHOLE = END_STREAM | END_HEADERS
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED = 0, 1, 3, 5
FRAME_SIZE_ERROR, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 6, 9, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
ALIVE = b'{"status":"alive"}'
"""The content of /healthz."""


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """The bytes of any frame."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big")
    return head + payload


def settings(code: int, value: int) -> bytes:
    """A SETTINGS frame of one setting."""
    return frame(SETTINGS, 0, 0, struct.pack(">HI", code, value))


def block_of(client: H2Client, target: str) -> tuple[int, bytes]:
    """The stream and the HPACK block of a GET, to be framed by the caller."""
    stream_id, raw = client.request_bytes(target)
    assert len(raw) == FRAME_HEAD_BYTES + int.from_bytes(raw[:3], "big")
    return stream_id, raw[FRAME_HEAD_BYTES:]


def assert_connection_error(client: H2Client, *codes: int) -> None:
    """GOAWAY with one of `codes`, then the end."""
    client.pump_to_end()
    assert client.goaways, "the connection was closed without GOAWAY"
    assert client.goaways[-1][0] in codes


def assert_refused(client: H2Client, stream_id: int, *codes: int) -> None:
    """A stream error, a connection error (5.4.2 allows it) or, where it can be, 400 (8.1.1)."""
    stream = client.streams[stream_id]
    client.pump(lambda: stream.is_over or client.is_closed, "a refusal")
    if stream.is_ended:
        assert stream.status == 400
    elif stream.reset_code is not None:
        assert stream.reset_code in codes
    else:
        assert_connection_error(client, *codes)
