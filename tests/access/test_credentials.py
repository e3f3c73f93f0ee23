"""What a request may bring to say who asks: one word, or a 401 that says what would be right."""

from __future__ import annotations

import pytest

from tests.table import each
from zerocopy.access.credentials import CREDENTIAL_BYTES_MAX, Credential, credential_of
from zerocopy.core.errors import UnauthorizedError
from zerocopy.core.http.messages import Request

CLOUDFLARE = b"cf-access-jwt-assertion"


def asked(*fields: tuple[bytes, bytes]) -> Request:
    """A request with these fields."""
    return Request(b"GET", b"/api/symbols", fields)


@each(
    ("value", "word"),
    [
        (b"Bearer zc_a-b", b"zc_a-b"),
        (b"bearer x", b"x"),
        (b"BEARER  x", b"x"),
        (b"Bearer a.b.c", b"a.b.c"),
        (b"Bearer a~b+c/d==", b"a~b+c/d=="),
    ],
)
def test_bearer_is_one_word_of_rfc_6750(value: bytes, word: bytes) -> None:
    """Section 2.1; the scheme's case does not count (RFC 9110 section 11.1)."""
    assert credential_of(asked((b"authorization", value))) == Credential("bearer", word)


@each(
    "fields",
    [
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer a b")],
        [(b"authorization", b"Bearer a,b")],
        [(b"authorization", b"Bearer =a")],
        [(b"authorization", b"Bearer\ta")],
        [(b"authorization", b"Basic dXNlcjpwYXNz")],
        [(b"authorization", b"zc_key")],
        [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer a")],
        [(b"authorization", b"Bearer " + b"a" * CREDENTIAL_BYTES_MAX)],
        [(CLOUDFLARE, b"a"), (CLOUDFLARE, b"a")],
    ],
)
def test_anything_else_is_refused_and_none_of_it_is_repeated(
    fields: list[tuple[bytes, bytes]],
) -> None:
    """Twice, another scheme, no word, too long: a proxy might have read another one."""
    with pytest.raises(UnauthorizedError) as caught:
        credential_of(asked(*fields))
    assert caught.value.is_invalid
    assert "dXNlcjpwYXNz" not in caught.value.detail
    assert "zc_key" not in caught.value.detail


def test_nothing_is_nothing_and_authorization_goes_first() -> None:
    """Cloudflare's field is for who brings none of their own."""
    assert credential_of(asked()) is None
    assert credential_of(asked((CLOUDFLARE, b"a.b.c"))) == Credential("assertion", b"a.b.c")
    both = asked((CLOUDFLARE, b"a.b.c"), (b"authorization", b"Bearer x"))
    assert credential_of(both) == Credential("bearer", b"x")


def test_cloudflares_field_is_nothing_where_it_is_not_read() -> None:
    """It comes with every request through Cloudflare Access: also twice, or on another's page."""
    field = (CLOUDFLARE, b"a.b.c")
    assert credential_of(asked(field), reads_assertion=False) is None
    assert credential_of(asked(field, field), reads_assertion=False) is None
    both = asked(field, (b"authorization", b"Bearer x"))
    assert credential_of(both, reads_assertion=False) == Credential("bearer", b"x")


@each(
    ("origin", "host", "is_ours"),
    [
        (b"https://a.example", b"a.example", True),
        (b"https://A.example", b"a.example:443", True),
        (b"http://a.example", b"a.example:80", True),
        (b"https://a.example:8443", b"a.example:8443", True),
        (b"http://a.example", b"a.example:443", False),
        (b"https://a.example", b"a.example:8443", False),
        (b"https://a.example.evil", b"a.example", False),
        (b"https://", b":443", False),
        (b"null", b"a.example", False),
    ],
)
def test_a_page_of_the_same_origin_may_use_the_login_of_its_reader(
    origin: bytes, host: bytes, *, is_ours: bool
) -> None:
    """A proxy may name the port that a browser leaves out, in Host or in X-Forwarded-Host."""
    for name in (b"host", b"x-forwarded-host"):
        fields = ((name, host), (b"origin", origin), (CLOUDFLARE, b"a.b.c"))
        request = Request(b"GET", b"/api/live", fields, is_websocket=True)
        if is_ours:
            assert credential_of(request) == Credential("assertion", b"a.b.c")
        else:
            with pytest.raises(UnauthorizedError, match="another origin"):
                credential_of(request)
