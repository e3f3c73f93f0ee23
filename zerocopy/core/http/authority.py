"""The authority of a URI: a host and an optional port, RFC 3986 section 3.2.

Owns the one grammar for what Host, `:authority` and the authority of a request target may hold.
User information is no part of it: RFC 9110 section 4.2.4 has it treated as an error.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address

PORT_MAX = 65_535

_AUTHORITY = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]++|%[0-9A-Fa-f]{2})++|\[([^\[\]]++)\])(?::([0-9]*+))?"
)
_FUTURE = re.compile(rb"[vV][0-9A-Fa-f]++\.[A-Za-z0-9._~!$&'()*+,;=:-]++")


def is_authority(value: bytes) -> bool:
    """Whether `value` is a host that is not empty, and a port that can exist if there is one."""
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return False
    literal, port = match[1], (match[2] or b"").lstrip(b"0")
    if literal is not None and not (_is_ipv6(literal) or _FUTURE.fullmatch(literal)):
        return False
    return len(port) <= len(b"%d" % PORT_MAX) and int(port or b"0") <= PORT_MAX


def has_port(authority: bytes) -> bool:
    """Whether an authority names a port, and one that a connection can be made to."""
    _, colon, port = authority.rpartition(b":")
    return colon != b"" and port.isdigit() and port.strip(b"0") != b""


def _is_ipv6(literal: bytes) -> bool:
    # A zone is for links, which a URI does not name: RFC 3986 section 3.2.2 has none.
    try:
        IPv6Address(literal.decode("ascii"))
    except ValueError:
        return False
    return b"%" not in literal
