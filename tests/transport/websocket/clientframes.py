"""Frames as a client sends them, right or wrong: RFC 6455 section 5.2."""

from __future__ import annotations

MASK = bytes.fromhex("37fa213d")
"""Of the examples in section 5.7."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    extended: int | None = None,
    length: int | None = None,
) -> bytes:
    """One frame. `extended` is the size of the length field, else the least; `length` may lie."""
    count = len(payload) if length is None else length
    if extended is None:
        extended = 0 if count < 126 else 2 if count < 65_536 else 8
    short = {0: count, 2: 126, 8: 127}[extended]
    head = bytes((fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short))
    head += count.to_bytes(extended, "big") if extended else b""
    if mask is None:
        return head + payload
    key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)])
    return head + mask + (int.from_bytes(payload) ^ key).to_bytes(len(payload))


def text(payload: str | bytes, *, fin: bool = True) -> bytes:
    """A text frame."""
    return frame(1, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def binary(payload: bytes, *, fin: bool = True) -> bytes:
    """A binary frame."""
    return frame(2, payload, fin=fin)


def more(payload: str | bytes, *, fin: bool = False) -> bytes:
    """A continuation frame."""
    return frame(0, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def close(code: int | None = None, reason: str | bytes = b"") -> bytes:
    """A close frame."""
    said = reason.encode() if isinstance(reason, str) else reason
    return frame(8, (b"" if code is None else code.to_bytes(2, "big")) + said)


def ping(payload: bytes = b"") -> bytes:
    """A ping."""
    return frame(9, payload)


def pong(payload: bytes = b"") -> bytes:
    """A pong."""
    return frame(10, payload)
