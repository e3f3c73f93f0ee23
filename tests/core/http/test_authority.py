"""Hosts and ports by RFC 3986, and the targets that hold them."""

from __future__ import annotations

import socket

from hypothesis import example, given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.core.http.authority import has_port, is_authority
from zerocopy.core.http.messages import origin_form


@each(
    ("authority", "is_valid", "names_port"),
    [
        (b"t", True, False),
        (b"t:80", True, True),
        (b"t:", True, False),
        (b"t:0", True, False),
        (b"80", True, False),
        (b"t:65535", True, True),
        (b"t:65536", False, True),
        (b"t:" + b"0" * 5_000 + b"1", True, True),
        (b"t:" + b"1" * 5_000, False, True),
        (b"[::1]:443", True, True),
        (b"[1:2:3:4:5:6:1.2.3.4]", True, False),
        (b"[1:2:3:4:5:1.2.3.4]", False, False),
        (b"[::1]", True, False),
        (b"", False, False),
        (b":80", False, True),
        (b"u@t", False, False),
        (b"t%41", True, False),
        (b"t%4", False, False),
        (b"[v1.x:y]", True, False),
        (b"[fe80::1%eth0]", False, False),
        (b"[fe80::1%25eth0]", False, False),
        (b"[::1/64]", False, False),
        (b"[::\xd9\xa1]", False, False),
        (b"[" + b"1:" * 4_000 + b":]", False, False),
        (b"[vx.y]", False, False),
    ],
)
def test_authority_is_a_host_and_a_port(
    authority: bytes, *, is_valid: bool, names_port: bool
) -> None:
    """The host is not empty, the port is one that exists; user information is refused."""
    assert is_authority(authority) == is_valid
    assert has_port(authority) == names_port


groups = st.sampled_from(["", "0", "1", "ffff", "12345", "g", "1.2.3.4", "1.2.3.256", "01.2.3.4"])


@given(st.lists(groups, max_size=10).map(":".join))
@example("::")
@example("1::")
@example("::1.2.3.4")
@example("1:2:3:4:5:6:7::")
@example("::1:2:3:4:5:6:7:8")
def test_literal_is_what_the_system_takes(text: str) -> None:
    """Without a zone, which no URI of this scheme may have."""
    try:
        socket.inet_pton(socket.AF_INET6, text)
        is_valid = True
    except OSError:
        is_valid = False
    assert is_authority(b"[%s]" % text.encode()) == is_valid


@each(
    ("target", "method", "expected"),
    [
        (b"/a?b", b"GET", b"/a?b"),
        (b"http://t/a?b", b"GET", b"/a?b"),
        (b"http://t", b"GET", b"/"),
        (b"http://t?b", b"GET", b"/?b"),
        (b"http://t", b"OPTIONS", b"*"),
        (b"http://t/", b"OPTIONS", b"/"),
        (b"http://t?b", b"OPTIONS", b"/?b"),
        (b"HTTPS://[::1]:1/a", b"GET", b"/a"),
        (b"http:///a", b"GET", b"http:///a"),
        (b"http://u@t/a", b"GET", b"http://u@t/a"),
        (b"http://t:x/a", b"GET", b"http://t:x/a"),
        (b"ftp://t/a", b"GET", b"ftp://t/a"),
        (b"*", b"OPTIONS", b"*"),
    ],
)
def test_origin_form_of_a_target(target: bytes, method: bytes, expected: bytes) -> None:
    """What has no valid authority stays, and begins with no slash, so that nobody answers it."""
    assert origin_form(target, method) == expected
