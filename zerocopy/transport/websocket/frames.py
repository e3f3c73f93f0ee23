"""The frames that a server sends, RFC 6455 section 5.2: never masked, never fragmented.

A header goes before the content, which a file may have: so a message of any length leaves as it is.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zerocopy.core.http.stream import End

CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING, PONG = 0x8, 0x9, 0xA
"""Opcodes, section 11.8."""

FIN = 0x80
"""The bit of the first byte that says that a message ends with this frame."""

CONTROL_BYTES_MAX = 125
"""The payload of a control frame, section 5.5."""

LENGTH_16, LENGTH_64 = 126, 127
"""Lengths that stand for a longer field behind them, section 5.2."""

HEARTBEAT = bytes((FIN | PING, 0))
"""A ping without payload, so that proxies see life. Its pong tells nothing that TCP does not."""

_REASON_BYTES_MAX = CONTROL_BYTES_MAX - 2


def message_header(nbytes: int) -> bytes:
    """The header of a whole binary message of `nbytes` bytes, which follow it.

    >>> message_header(5).hex(), message_header(126).hex()
    ('8205', '827e007e')
    """
    if nbytes < LENGTH_16:
        return bytes((FIN | BINARY, nbytes))
    if nbytes < 1 << 16:
        return struct.pack("!BBH", FIN | BINARY, LENGTH_16, nbytes)
    return struct.pack("!BBQ", FIN | BINARY, LENGTH_64, nbytes)


def pong(payload: bytes) -> bytes:
    """The answer to a ping of this payload, section 5.5.3."""
    return bytes((FIN | PONG, len(payload))) + payload


def close(code: int, reason: str = "") -> bytes:
    """A close frame, section 5.5.1. A reason that is too long is cut between two characters."""
    text = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore").encode()
    return struct.pack("!BBH", FIN | CLOSE, 2 + len(text), code) + text


CLOSE_WITHOUT_CODE = bytes((FIN | CLOSE, 0))
"""What answers a close frame that has no code: section 7.1.5 calls that 1005, never sent."""


class Messages:
    """How a stream becomes frames: see `streaming.Framing`."""

    def message(self, nbytes: int) -> tuple[bytes, bytes]:
        """A header before, nothing behind."""
        return message_header(nbytes), b""

    def heartbeat(self) -> bytes:
        """A ping."""
        return HEARTBEAT

    def end(self, end: End) -> bytes:
        """A close frame, with the reason that the service gives."""
        return close(end.code, end.reason)


MESSAGES = Messages()
