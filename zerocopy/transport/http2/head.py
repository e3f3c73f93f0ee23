"""The head of an HTTP/2 response: a header block rendered once, valid on every connection.

Owns HPACK representations that leave no trace (RFC 7541 section 6.2.2, literals without indexing),
so that a block is a constant: it neither reads nor changes the dynamic table of any connection, and
may be mixed with blocks that h2 encodes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from hpack.hpack import encode_integer
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Request, Response

FRAME_HEADER_BYTES = 9
STREAM_ID_BYTES = 4
_STREAM_ID_AT = FRAME_HEADER_BYTES - STREAM_ID_BYTES
FRAME_BYTES_MIN = 16_384
"""What every client takes in one frame, RFC 9113 section 4.2."""

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 4, 6, 7, 8, 9
"""Frame types, RFC 9113 section 6."""
FRAMES_THAT_WORK = frozenset({DATA, HEADERS, WINDOW_UPDATE, CONTINUATION})
"""Frames that a request or its response needs; too many of the others are a flood."""
GOAWAY_BYTES_MIN = 8
END_STREAM, END_HEADERS = 0x1, 0x4

DRAIN_PING = b"draining"
"""Of the PING that goes with a first GOAWAY: its ACK comes after all that was sent before it."""

STREAM_ID_MAX = 2**31 - 1
"""RFC 9113 section 4.1: the highest bit is reserved and means nothing."""

_WITHOUT_CONTENT = frozenset({204, 304})
_FRAME_HEADER = struct.Struct(">HBBBL")
unpack_frame_header = struct.Struct(">BHHL").unpack_from
"""The length in two parts, kind and flags in one, and the stream, whose highest bit is reserved."""

_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
_STATIC = HeaderTable()  # an empty dynamic table: only the static one is searched


def frame_header(nbytes: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a frame's payload of `nbytes`, RFC 9113 section 4.1."""
    return _FRAME_HEADER.pack(nbytes >> 8, nbytes & 0xFF, kind, flags, stream_id)


def stream_id_of(frame: bytes) -> int:
    """Whose frame it is; the highest bit is reserved and means nothing."""
    return int.from_bytes(frame[5:9], "big") & STREAM_ID_MAX


def write_data_header(buffer: memoryview, at: int, nbytes: int, stream_id: int) -> None:
    """The same of a DATA frame without flags, written into a buffer."""
    _FRAME_HEADER.pack_into(buffer, at, nbytes >> 8, nbytes & 0xFF, DATA, 0, stream_id)


def drain_frames() -> bytes:
    """A GOAWAY that refuses nothing yet, and a PING to learn when it has arrived.

    RFC 9113 section 6.8: requests that are on their way meanwhile are still answered.
    """
    ping = frame_header(len(DRAIN_PING), PING, 0, 0) + DRAIN_PING
    return goaway_frame(STREAM_ID_MAX, ErrorCodes.NO_ERROR) + ping


def goaway_frame(last_stream_id: int, error_code: int) -> bytes:
    """A GOAWAY frame, RFC 9113 section 6.8."""
    return frame_header(8, GOAWAY, 0, 0) + struct.pack(">LL", last_stream_id, error_code)


def literal(name: bytes, value: bytes) -> bytes:
    """One field as a literal without indexing, its name from the static table where it is there."""
    match = _STATIC.search(name, value)
    if match is not None and match[2] is not None:
        indexed = encode_integer(match[0], 7)
        indexed[0] |= 0x80  # the whole field is in the static table: RFC 7541 section 6.1
        return bytes(indexed)
    if match is not None:
        return bytes(encode_integer(match[0], 4)) + _string(value)
    return b"\x00" + _string(name) + _string(value)


def render_head(response: Response) -> bytes:
    """The header block of `response`, all but Date; kept in the response."""
    block = literal(b":status", b"%d" % response.status) + literal(b"server", b"zerocopy")
    block += b"".join(literal(name.lower(), value) for name, value in response.fields)
    if response.status not in _WITHOUT_CONTENT and response.feed is None:
        block += literal(b"content-length", b"%d" % response.nbytes)
    response.head_h2 = block
    return block


def _string(value: bytes) -> bytes:
    """A string literal, RFC 7541 section 5.2, in the shorter of both forms."""
    coded = _HUFFMAN.encode(value)
    if len(coded) >= len(value):
        return bytes(encode_integer(len(value), 7)) + value
    length = encode_integer(len(coded), 7)
    length[0] |= 0x80
    return bytes(length) + coded


class Answer:
    """One response to `request` as frames, alike on every connection but for the stream's number.

    `nbytes` is its content's, which is cut into frames that every client takes. `grant` is who has
    asked. `is_counted`: the handler is asked before it is given again, and its bytes count at once.
    """

    __slots__ = (
        "_frames", "_places", "_view", "date", "grant", "is_counted", "nbytes", "request",
        "response", "times",
    )  # fmt: skip

    def __init__(self, request: Request, response: Response, date: bytes) -> None:
        self.request = request
        self.response = response
        self.grant = request.grant
        self.date = date
        self.times = 0  # it was sent, and not counted yet
        self.is_counted = False
        content = memoryview(b"" if request.is_head else response.content)
        self.nbytes = len(content)
        block = (response.head_h2 or render_head(response)) + date
        flags = END_HEADERS if content else END_HEADERS | END_STREAM
        self._frames = bytearray(frame_header(len(block), HEADERS, flags, 0) + block)
        self._places = [slice(_STREAM_ID_AT, FRAME_HEADER_BYTES)]  # where the number stands
        while content:
            part, content = content[:FRAME_BYTES_MIN], content[FRAME_BYTES_MIN:]
            at = len(self._frames)
            self._places.append(slice(at + _STREAM_ID_AT, at + FRAME_HEADER_BYTES))
            self._frames += frame_header(len(part), DATA, 0 if content else END_STREAM, 0)
            self._frames += part
        self._view = memoryview(self._frames)

    def frames(self, stream_id: int) -> memoryview:
        """The frames of one stream; valid until they are asked for another."""
        number = stream_id.to_bytes(STREAM_ID_BYTES, "big")
        for place in self._places:
            self._frames[place] = number
        return self._view
