"""What a client sends in a WebSocket: frames out of bytes, RFC 6455 sections 5 to 8.

Owns the grammar, and the answers that it asks for: a pong, a close frame. Messages are of no use
here. They are checked as the RFC asks and dropped as they come, so an inbox keeps at most
`KEPT_BYTES_MAX` bytes, whatever a client sends.

After the first fault, or the client's close frame, everything is ignored.
"""

from __future__ import annotations

import codecs

from zerocopy.transport.timers import Wheel
from zerocopy.transport.websocket import frames

MESSAGE_BYTES_MAX = 65_536
"""A message of a client, with all its fragments; a longer one ends the WebSocket with 1009."""

KEPT_BYTES_MAX = 6 + frames.CONTROL_BYTES_MAX
"""A control frame; the longest header has 14 bytes."""

WINDOW_TICKS = Wheel.ticks(1.0)
WINDOW_COST_MAX = 1_048_576
FRAME_COST = 256
"""What a client may send in a second or so: 1 MiB, or 4,096 frames, for a frame of few bytes takes
some 4 µs. More is a flood, and ends the WebSocket with 1008."""

PROTOCOL_ERROR, INVALID_DATA, FLOOD, TOO_BIG = 1002, 1007, 1008, 1009
"""Close codes, section 7.4.1."""

_RSV = 0x70
_MASKED = 0x80
_MASK_BYTES = 4
_EXTENDED_BYTES = {frames.LENGTH_16: 2, frames.LENGTH_64: 8}
_KNOWN = frozenset(
    {frames.CONTINUATION, frames.TEXT, frames.BINARY, frames.CLOSE, frames.PING, frames.PONG}
)
_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")


class _FaultError(Exception):
    """What the client did wrong, as the close frame that tells it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.frame = frames.close(code, reason)


class Inbox:
    """The receiving half of one WebSocket.

    `is_over` is set by the client's close frame, and by its first fault. The replies then end with
    the close frame that answers it, or names the fault. A server that has sent a close frame of its
    own sends no other (section 5.5.1); then `is_over` tells that the client has answered.
    """

    __slots__ = (
        "_closing", "_decoder", "_is_last", "_is_within", "_kept", "_left_bytes", "_mask",
        "_message_bytes", "_pong", "_spent", "_wheel", "_window_tick", "is_over",
    )  # fmt: skip

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self.is_over = False
        self._pong = b""  # the answer to the last ping
        self._closing = b""  # the last frame
        self._kept = b""  # the beginning of a header, or of a control frame
        self._is_within = False  # amid a message: a fragment of it has begun, the last has not
        self._message_bytes = 0  # of the message so far
        self._decoder: codecs.IncrementalDecoder | None = None  # of a text message
        self._is_last = False  # the data frame that is being read ends its message
        self._left_bytes = 0  # of its payload, to come
        self._mask = b""  # its masking key, from the next byte on
        self._window_tick = wheel.now  # when counting began
        self._spent = 0  # since then

    def on_data(self, data: bytes) -> None:
        """Take what came, cut anywhere."""
        if self.is_over:
            return
        now = self._wheel.now
        if now - self._window_tick >= WINDOW_TICKS:
            self._window_tick, self._spent = now, 0
        self._spent += len(data)
        if self._kept:
            data, self._kept = self._kept + data, b""
        at = 0
        try:
            while at < len(data) and not self.is_over:
                if self._spent > WINDOW_COST_MAX:
                    raise _FaultError(FLOOD, "too many frames or bytes in a second")
                taken = self._take_frame(data, at)
                if not taken:
                    self._kept = data[at:]
                    break
                at += taken
        except _FaultError as fault:
            self._end(fault.frame)

    def replies(self) -> bytes:
        """A pong and a close frame, as far as there is something to answer; each only once.

        A ping takes the place of one that was not answered yet (section 5.5.3), so a client that
        pings and does not read makes nothing wait.
        """
        replies, self._pong, self._closing = self._pong + self._closing, b"", b""
        return replies

    def _end(self, closing: bytes) -> None:
        self.is_over = True
        self._closing = closing

    # ---- frames

    def _take_frame(self, data: bytes, at: int) -> int:
        """Take a control frame, or a piece of a data frame. Returns its bytes; 0: not all came."""
        if self._left_bytes:
            return self._take_payload(data, at)
        if len(data) - at < 2:  # noqa: PLR2004 - the part of a header that every frame has
            return 0
        first, length = data[at], data[at + 1] & 0x7F
        opcode = first & 0x0F
        _check_header(first, data[at + 1])
        is_control = opcode >= frames.CLOSE
        if not is_control and (opcode == frames.CONTINUATION) is not self._is_within:
            raise _FaultError(PROTOCOL_ERROR, "a message must end before the next begins")
        payload_at = at + 2 + _EXTENDED_BYTES.get(length, 0) + _MASK_BYTES
        if len(data) < payload_at + (length if is_control else 0):
            return 0
        self._spent += FRAME_COST
        self._mask = data[payload_at - _MASK_BYTES : payload_at]
        if is_control:
            self._on_control(opcode, _unmask(data[payload_at : payload_at + length], self._mask))
            return payload_at + length - at
        if length in _EXTENDED_BYTES:
            length = _extended_length(data[at + 2 : payload_at - _MASK_BYTES])
        self._on_data(opcode, length, is_last=bool(first & frames.FIN))
        return payload_at - at

    def _on_control(self, opcode: int, payload: bytes) -> None:
        if opcode == frames.PING:
            self._pong = frames.pong(payload)
        elif opcode == frames.CLOSE:
            self._end(_close_answer(payload))

    def _on_data(self, opcode: int, nbytes: int, *, is_last: bool) -> None:
        """The header of a data frame came."""
        if opcode != frames.CONTINUATION:
            self._message_bytes = 0
            self._decoder = _new_utf8_decoder() if opcode == frames.TEXT else None
        self._message_bytes += nbytes
        if self._message_bytes > MESSAGE_BYTES_MAX:
            raise _FaultError(TOO_BIG, f"a message may have {MESSAGE_BYTES_MAX} bytes")
        self._is_within = not is_last
        self._is_last = is_last
        self._left_bytes = nbytes
        if not nbytes:
            self._check_text(b"")

    def _take_payload(self, data: bytes, at: int) -> int:
        piece = data[at : at + self._left_bytes]
        count = len(piece)
        self._left_bytes -= count
        if self._decoder is not None:
            mask, turned = self._mask, count % _MASK_BYTES
            self._mask = mask[turned:] + mask[:turned]
            self._check_text(_unmask(piece, mask))
        return count

    def _check_text(self, piece: bytes) -> None:
        """Section 8.1: text is UTF-8. A character may be cut by a fragment, not by the end."""
        decoder = self._decoder
        if decoder is None:
            return
        try:
            decoder.decode(piece, final=self._is_last and not self._left_bytes)
        except UnicodeDecodeError:
            raise _FaultError(INVALID_DATA, "text must be UTF-8") from None


def _check_header(first: int, second: int) -> None:
    """What the first two bytes of a frame tell: section 5.2."""
    opcode = first & 0x0F
    if first & _RSV:
        raise _FaultError(PROTOCOL_ERROR, "no extension was agreed on that uses a reserved bit")
    if opcode not in _KNOWN:
        raise _FaultError(PROTOCOL_ERROR, "the opcode is none of RFC 6455")
    if not second & _MASKED:
        raise _FaultError(PROTOCOL_ERROR, "a client must mask its frames")
    if opcode >= frames.CLOSE and (
        not first & frames.FIN or second & 0x7F > frames.CONTROL_BYTES_MAX
    ):
        raise _FaultError(PROTOCOL_ERROR, "a control frame has one fragment of at most 125 bytes")


def _extended_length(field: bytes) -> int:
    """Section 5.2: the shortest field that holds the length, and no sign bit."""
    length = int.from_bytes(field, "big")
    least = frames.LENGTH_16 if len(field) == _EXTENDED_BYTES[frames.LENGTH_16] else 1 << 16
    if not least <= length < 1 << 63:
        raise _FaultError(PROTOCOL_ERROR, "a length must be as short as it can be written")
    return length


def _close_answer(payload: bytes) -> bytes:
    """The close frame that answers one of this payload, with its code: section 5.5.1."""
    if not payload:
        return frames.CLOSE_WITHOUT_CODE
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not _is_close_code(code):
        raise _FaultError(PROTOCOL_ERROR, "the close code is none that a client may send")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise _FaultError(INVALID_DATA, "the reason of a close must be UTF-8") from None
    return frames.close(code)


def _is_close_code(code: int) -> bool:
    """Section 7.4, and what IANA has registered since: 1012 to 1014."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999  # noqa: PLR2004


def _unmask(data: bytes, mask: bytes) -> bytes:
    """Section 5.3. As integers, all bytes at once: a loop over them takes 40 times as long."""
    count = len(data)
    key = (mask * (count // _MASK_BYTES + 1))[:count]
    return (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(count, "big")
