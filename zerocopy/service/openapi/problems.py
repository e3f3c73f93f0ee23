"""What /openapi.json says of each status that is an error: a sentence, and its own fields."""

from __future__ import annotations

from zerocopy.service.openapi.access import ACCESS_PROBLEMS

PROBLEMS: dict[int, tuple[str, tuple[str, ...]]] = {
    **ACCESS_PROBLEMS,
    400: ("The request is malformed: a parameter, the Host field, or its framing.", ()),
    404: ("Exchange, symbol or type does not exist, or no day of the symbol has a column.", ()),
    405: ("The method is none of those in Allow.", ("Allow",)),
    412: ("If-Match or If-Unmodified-Since does not hold.", ()),
    414: ("The request target is too long.", ()),
    416: ("No byte of the Range field can be had, or it has too many.", ("Content-Range",)),
    417: ("The Expect field asks for something other than 100-continue.", ()),
    426: ("The WebSocket's version is not 13.", ("Upgrade", "Sec-WebSocket-Version")),
    431: ("One field of the request, or all of them together, are too long.", ()),
    500: ("The data directory or a day file cannot be read.", ()),
    501: ("A format whose extra is not installed, or a transfer coding other than chunked.", ()),
    503: (
        "Too many connections, requests in flight or computed answers, or not ready.",
        ("Retry-After",),
    ),
    505: ("The major version of HTTP is not 1.", ()),
}
"""Descriptions and fields by status."""
