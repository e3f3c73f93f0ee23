"""The first bytes of a TLS connection, looked at before OpenSSL reads them.

Owns the little of a ClientHello that Python's ssl does not tell: which protocols the client offers
by ALPN (RFC 7301 section 3.1, in the handshake message of RFC 8446 section 4.1.2). Whatever is cut
off or malformed offers nothing: OpenSSL reads the same bytes, and judges them.
"""

from __future__ import annotations

LOOK_BYTES = 16_389
"""As long as one record may be, RFC 8446 section 5.1: a ClientHello is hardly ever longer, in
however many records a client sends it (section 5.1 allows that)."""

_RECORD_HEADER_BYTES = 5
_HANDSHAKE, _CLIENT_HELLO = 0x16, 1
_MESSAGE_HEADER_BYTES = 4
_FIXED_BYTES = _MESSAGE_HEADER_BYTES + 2 + 32
"""Type and length of the message, legacy_version, random."""
_ALPN = 16


def is_plain_http(data: bytes) -> bool:
    """Whether a client speaks HTTP without TLS: a request line begins with a letter."""
    return data[:1].isalpha()


def hello_bytes(data: bytes) -> int:
    r"""How many of a connection's first bytes tell what the client offers; 1 for what is not TLS.

    As far as one can see: never more than will come.

    Example:
        >>> hello_bytes(b"\x16\x03"), hello_bytes(b"\x16\x03\x01\x01\x00\x01")
        (9, 261)
    """
    if data[:1] != bytes([_HANDSHAKE]):
        return 1
    return _read(data)[1]


def offered_protocols(data: bytes) -> tuple[bytes, ...]:
    """The protocols offered in the ClientHello that `data` begins with; () where there are none.

    Example:
        >>> offered_protocols(b"GET / HTTP/1.1")
        ()
    """
    message, _ = _read(data)
    if len(message) < _FIXED_BYTES or message[0] != _CLIENT_HELLO:
        return ()
    at = _FIXED_BYTES
    for length_bytes in (1, 2, 1):  # session, cipher suites, compression methods
        at += length_bytes + int.from_bytes(message[at : at + length_bytes], "big")
    at += 2  # the length of all extensions
    while at + 4 <= len(message):
        kind = int.from_bytes(message[at : at + 2], "big")
        end = at + 4 + int.from_bytes(message[at + 2 : at + 4], "big")
        if kind == _ALPN:
            return _names(message[at + 6 : end])
        at = end
    return ()


def _read(data: bytes) -> tuple[bytes, int]:
    """What has come of the first message, out of its records, and how many bytes there have to be.

    That is where it ends if one more record holds the rest of it. So a client that sends a byte a
    record is looked at some fifty times, not thousands of times.
    """
    message, at, told, wanted = bytearray(), 0, 0, _MESSAGE_HEADER_BYTES
    while at < min(len(data), LOOK_BYTES):
        header = data[at : at + _RECORD_HEADER_BYTES]
        if len(header) < _RECORD_HEADER_BYTES:
            break
        length = int.from_bytes(header[3:5], "big")
        if header[0] != _HANDSHAKE or not length:
            return bytes(message), at + 1  # OpenSSL says what it thinks of that
        begin = at + _RECORD_HEADER_BYTES
        message += data[begin : begin + length]
        at, told = begin + length, told + length
        if message and message[0] != _CLIENT_HELLO:
            return bytes(message), min(at, LOOK_BYTES)
        if len(message) >= _MESSAGE_HEADER_BYTES:
            wanted = _MESSAGE_HEADER_BYTES + int.from_bytes(message[1:4], "big")
            if told >= wanted:
                return bytes(message), min(at, LOOK_BYTES)
    rest = wanted - told
    return bytes(message), min(at + (_RECORD_HEADER_BYTES + rest if rest > 0 else 0), LOOK_BYTES)


def _names(listed: bytes) -> tuple[bytes, ...]:
    """ProtocolName<1..2^8-1>, one after the other."""
    names: list[bytes] = []
    at = 0
    while at < len(listed):
        end = at + 1 + listed[at]
        names.append(listed[at + 1 : end])
        at = end
    return tuple(names)
