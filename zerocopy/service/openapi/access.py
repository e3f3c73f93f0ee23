"""What /openapi.json says of `[auth]`: how to say who asks, and what is answered to others.

Owns the security schemes, and the statuses, fields and path that only a server with `[auth]` uses.
The document is the same everywhere, but that with `[auth]` on a key is not optional, and there are
tickets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.access.tickets import LIFE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

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


TICKET_SCHEMES: dict[str, object] = {
    **SECURITY_SCHEMES,
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "What POST /api/ticket gave less than a minute ago, for a GET.",
    },
}


TICKET_PATH: dict[str, object] = {
    "post": {
        "operationId": "postTicket",
        "summary": "A word for the URL of a client that can set no field.",
        "description": "It opens any GET for `expires_s` seconds, as `ticket=` in the query. A "
        "stream that it opened lives as long as the key or token that it was made with.",
        "security": SECURITY,
        "responses": {
            "200": {
                "description": "A ticket, which no cache keeps.",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["ticket", "expires_s"],
                            "properties": {
                                "ticket": {"type": "string"},
                                "expires_s": {"type": "integer", "minimum": 0, "maximum": LIFE_S},
                            },
                        }
                    }
                },
            },
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in (400, 401, 405, 429, 503)
            },
        },
    },
    "options": {
        "operationId": "optionsTicket",
        "summary": "The CORS preflight, which allows POST.",
        "security": [],
        "responses": {"204": {"$ref": "#/components/responses/Preflight"}},
    },
}


def with_access(document: Mapping[str, object]) -> dict[str, object]:
    """The description of a server with `[auth]` on: a key is needed, and there are tickets."""
    paths, components = document["paths"], document["components"]
    assert isinstance(paths, dict), "a document of OpenAPI"
    assert isinstance(components, dict), "a document of OpenAPI"
    return {
        **document,
        "security": [*SECURITY, {"ticket": []}],
        "paths": {**paths, "/api/ticket": TICKET_PATH},
        "components": {**components, "securitySchemes": TICKET_SCHEMES},
    }
