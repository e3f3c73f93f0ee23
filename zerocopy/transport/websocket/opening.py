"""The opening handshake of a WebSocket over HTTP/1.1, RFC 6455 section 4.2: what asks for one.

Owns whether a request asks, whether it asks rightly, and what accepts it. A request that asks is
still a GET: it is accepted where its response has a feed, and answered like any other elsewhere
(RFC 9110 section 7.8). So a fault is kept, and told only to who would have been accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING

from zerocopy.core.errors import BadRequestError, RequestError, UpgradeRequiredError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zerocopy.core.http.messages import Fields

VERSION = b"13"
"""Of the protocol, section 4.1; there is no other."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES = 16
_NAMES = frozenset({b"upgrade", b"connection", b"sec-websocket-version", b"sec-websocket-key"})


class Handshake:
    """A request that asks for a WebSocket; `fault` tells what it lacks, or is None."""

    __slots__ = ("_key", "fault")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]], *, has_content: bool = False) -> None:
        values: dict[bytes, list[bytes]] = {}
        for name, value in fields:
            if name in _NAMES:
                values.setdefault(name, []).append(value)
        keys = values.get(b"sec-websocket-key", [])
        self._key = keys[0] if keys else b""
        self.fault: RequestError | None = None
        if b"upgrade" not in _tokens(values.get(b"connection", [])):
            self.fault = BadRequestError("a WebSocket needs the field Connection: Upgrade")
        elif values.get(b"sec-websocket-version") != [VERSION]:
            self.fault = UpgradeRequiredError("the server knows Sec-WebSocket-Version: 13 only")
        elif len(keys) != 1 or not _is_key(self._key):
            self.fault = BadRequestError("Sec-WebSocket-Key must be 16 bytes in base64, once")
        elif has_content:
            self.fault = BadRequestError("a request that opens a WebSocket has no content")

    def accepting_fields(self) -> Fields:
        """The fields of the 101 (Switching Protocols), section 4.2.2."""
        digest = hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest()
        return (
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", base64.b64encode(digest)),
        )


def asks_for_websocket(method: bytes, upgrades: list[bytes]) -> bool:
    """Whether a request of HTTP/1.1 with these Upgrade lines offers to go on in this protocol."""
    return method == b"GET" and b"websocket" in _tokens(upgrades)


def _tokens(values: list[bytes]) -> set[bytes]:
    """The members of a list field, in lower case: both fields ignore it, section 4.2.1."""
    return {token.strip(b" \t") for token in b",".join(values).lower().split(b",")}


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False
