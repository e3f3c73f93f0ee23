"""Which addresses count together."""

from __future__ import annotations

import pytest

from zerocopy.core.network import network_of


@pytest.mark.parametrize(
    ("host", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::", "0.0.0.0", False),
    ],
)
def test_network_is_an_ipv4_address_or_a_64_of_ipv6(host: str, other: str, same: bool) -> None:  # noqa: FBT001
    """Mapped addresses are those of IPv4, whichever listener they came to; zones do not matter."""
    assert (network_of(host) == network_of(other)) is same


@pytest.mark.parametrize("host", ["", "localhost", "192.0.2", "::1::", "192.0.2.1 "])
def test_what_is_no_address_is_an_error(host: str) -> None:
    """A proxy's field may hold anything."""
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        network_of(host)
