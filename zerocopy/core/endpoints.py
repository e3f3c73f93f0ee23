"""The endpoints: which paths there are, and the short name of each in metrics and logs.

Owns a small fixed set of names, so that no client can make a new one. It knows nothing of what an
endpoint answers.
"""

from __future__ import annotations

DATA = 0
SYMBOLS = 1
HEALTHZ = 2
READYZ = 3
OPENAPI = 4
BARS = 5
CATALOG = 6
LIVE = 7
TICKET = 8
PAGE = 9
OTHER = 10
"""The index of each endpoint; `PAGE` is `/` and all below /ui/, `OTHER` is whatever has no path of
ours, `*` and the unreadable."""

NAMES = (
    "data", "symbols", "healthz", "readyz", "openapi", "bars", "catalog", "live", "ticket",
    "page", "other",
)  # fmt: skip
"""By index."""

PATHS = {
    b"/api/data": DATA,
    b"/api/symbols": SYMBOLS,
    b"/healthz": HEALTHZ,
    b"/readyz": READYZ,
    b"/openapi.json": OPENAPI,
    b"/api/bars": BARS,
    b"/api/catalog": CATALOG,
    b"/api/live": LIVE,
    b"/api/ticket": TICKET,
}


OPEN = frozenset({HEALTHZ, READYZ, PAGE})
"""Endpoints that anybody may ask, whatever `[auth]` says: they tell nothing of the data."""


def endpoint_of(target: bytes) -> int:
    """The endpoint of a request target in origin-form."""
    path = target.partition(b"?")[0]
    endpoint = PATHS.get(path)
    if endpoint is not None:
        return endpoint
    return PAGE if path == b"/" or path.startswith(b"/ui/") else OTHER
