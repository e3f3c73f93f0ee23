"""Which addresses are one client's: those that are counted together.

Owns that rule for connections and for requests. Addresses come in as text.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

NETWORK_BYTES = 8
"""Bytes of an IPv6 address that count: a /64, the least that a client gets (RFC 6177)."""


def network_of(host: str) -> bytes:
    """Addresses that count together: an IPv4 address (also mapped), or the /64 of an IPv6 address.

    6 to 12 us, for each connection and only where their number by address is bounded.

    Raises:
        ValueError: it is no address.
    """
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).packed[:NETWORK_BYTES]
