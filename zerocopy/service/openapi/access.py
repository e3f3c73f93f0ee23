"""What /openapi.json says of `[auth]`: how to say who asks, and what is answered to others.

Owns the security scheme, and the statuses and fields that only a server with `[auth]` uses. The
document is the same everywhere, but that with `[auth]` on a key is not optional.
"""

from __future__ import annotations

ACCESS_PROBLEMS: dict[int, tuple[str, tuple[str, ...]]] = {
    401: ("Nobody knows who asks: no key or token, or none that holds.", ("WWW-Authenticate",)),
    429: (
        "As much was asked for as is allowed for now.",
        ("Retry-After", "RateLimit", "RateLimit-Policy"),
    ),
}
"""Descriptions and fields by status; of every path but those that need no key."""


def _field(description: str, example: str) -> dict[str, object]:
    return {"description": description, "schema": {"type": "string", "examples": [example]}}


ACCESS_HEADERS: dict[str, object] = {
    "WWW-Authenticate": _field("How to say who asks, RFC 6750.", 'Bearer realm="zerocopy"'),
    "RateLimit": _field("The limit that was reached, and when it ends.", '"requests";r=0;t=1'),
    "RateLimit-Policy": _field("What the limit allows, in which time.", '"requests";q=100;w=1'),
}

SECURITY_SCHEMES: dict[str, object] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key or a signed token (JWT), where the server asks for one.",
    }
}

SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]
"""What a server with `[auth]` asks for."""

OPTIONAL_SECURITY: list[dict[str, list[str]]] = [{}, *SECURITY]
"""The same where it may be off."""
