"""The request that h2 has read, as every protocol has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.http.messages import Request

if TYPE_CHECKING:
    from h2.events import RequestReceived


def request_of(event: RequestReceived, network: bytes = b"") -> Request:
    """The request of a field section that h2 has found valid, RFC 9113 section 8.3.1.

    A CONNECT has no path, so its target is empty, and so is that of one for a protocol that is not
    spoken. One for a WebSocket (RFC 8441) becomes the GET of HTTP/1.1 that it stands for.
    `:authority` becomes Host, as it would be in HTTP/1.1. `network` is as in `Request`.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    for name, value in event.headers:
        if name.startswith(b":"):
            pseudo[name] = value
        else:
            fields.append((name, value))
    if b":authority" in pseudo:
        fields.append((b"host", pseudo[b":authority"]))
    protocol = pseudo.get(b":protocol")
    if protocol is not None:
        is_websocket = protocol == b"websocket"
        method = b"GET" if is_websocket else b"CONNECT"
        target = pseudo[b":path"] if is_websocket else b""
        return Request(method, target, tuple(fields), is_websocket, network)
    method, target = pseudo[b":method"], pseudo.get(b":path", b"")
    return Request(method, target, tuple(fields), network=network)
