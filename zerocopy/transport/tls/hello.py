"""The first bytes of a TLS connection, looked at before OpenSSL reads them.

Owns the little of a ClientHello that Python's ssl does not tell: which protocols the client offers
by ALPN (RFC 7301 section 3.1, in the handshake message of RFC 8446 section 4.1.2). Whatever is cut
off or malformed offers nothing: OpenSSL reads the same bytes, and judges them.
"""

from __future__ import annotations

LOOK_BYTES = 16_389
"""One record, RFC 8446 section 5.1: a ClientHello is hardly ever longer."""

_RECORD_HEADER_BYTES = 5
_HANDSHAKE, _CLIENT_HELLO = 0x16, 1
_FIXED_BYTES = 4 + 2 + 32
"""Type and length of the message, legacy_version, random."""
_ALPN = 16


def is_plain_http(data: bytes) -> bool:
    """Whether a client speaks HTTP without TLS: a request line begins with a letter."""
    return data[:1].isalpha()


def record_bytes(data: bytes) -> int:
    r"""How many of a connection's first bytes tell what the client offers; 1 for what is not TLS.

    Example:
        >>> record_bytes(b"\x16\x03"), record_bytes(b"\x16\x03\x01\x01\x00\x01")
        (5, 261)
    """
    if data[:1] != bytes([_HANDSHAKE]):
        return 1
    if len(data) < _RECORD_HEADER_BYTES:
        return _RECORD_HEADER_BYTES
    return min(_RECORD_HEADER_BYTES + int.from_bytes(data[3:5], "big"), LOOK_BYTES)


def offered_protocols(data: bytes) -> tuple[bytes, ...]:
    """The protocols offered in the ClientHello that `data` begins with; () where there are none.

    Example:
        >>> offered_protocols(b"GET / HTTP/1.1")
        ()
    """
    if data[:1] != bytes([_HANDSHAKE]) or len(data) < _RECORD_HEADER_BYTES + _FIXED_BYTES:
        return ()
    message = data[_RECORD_HEADER_BYTES:]
    if message[0] != _CLIENT_HELLO:
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


def _names(listed: bytes) -> tuple[bytes, ...]:
    """ProtocolName<1..2^8-1>, one after the other."""
    names: list[bytes] = []
    at = 0
    while at < len(listed):
        end = at + 1 + listed[at]
        names.append(listed[at + 1 : end])
        at = end
    return tuple(names)
