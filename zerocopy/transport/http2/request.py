"""The request that h2 has read, as every protocol has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.http.messages import Request

if TYPE_CHECKING:
    from h2.events import RequestReceived


def request_of(event: RequestReceived) -> Request:
    """The request of a field section that h2 has found valid, RFC 9113 section 8.3.1.

    A CONNECT has no path, so its target is empty. `:authority` becomes Host, as it would be in
    HTTP/1.1.
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
    return Request(pseudo[b":method"], pseudo.get(b":path", b""), tuple(fields))
