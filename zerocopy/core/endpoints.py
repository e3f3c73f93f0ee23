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
OTHER = 8
"""The index of each endpoint; `OTHER` is whatever has no path of ours, `*` and the unreadable."""

NAMES = ("data", "symbols", "healthz", "readyz", "openapi", "bars", "catalog", "live", "other")
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
}


def endpoint_of(target: bytes) -> int:
    """The endpoint of a request target in origin-form."""
    return PATHS.get(target.partition(b"?")[0], OTHER)
