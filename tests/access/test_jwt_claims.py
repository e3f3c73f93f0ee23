"""What the claims of a signed token say: for whom, until when, who, and what may be seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.access.judged import KEYS, refused, taken
from tests.issuing import (
    AUDIENCE,
    ISSUER,
    token,
)
from tests.table import each
from zerocopy.access.jwt import NOTHING, Policy, verify
from zerocopy.core.access import Scope
from zerocopy.core.errors import UnauthorizedError


@each(("name", "value", "told"), [
    ("exp", None, "it lacks exp"),
    ("exp", -1, "it has expired"),
    ("exp", 1.5, "it has expired"),
    ("exp", "2999999999", "its exp"),
    ("exp", True, "its exp"),
    ("exp", [], "its exp"),
    ("nbf", 9_999_999_999, "its nbf"),
    ("nbf", "now", "its nbf"),
    ("iat", 9_999_999_999, "its iat"),
    ("iss", None, "it lacks iss"),
    ("iss", "https://issuer.example/", "its iss"),
    ("iss", ["https://issuer.example"], "its iss"),
    ("aud", None, "it lacks aud"),
    ("aud", "zerocopy2", "its aud"),
    ("aud", ["other"], "its aud"),
    ("aud", [], "its aud"),
    ("aud", {"zerocopy": 1}, "its aud"),
    ("aud", ["zerocopy", 1], "its aud"),
    ("sub", 7, "its sub"),
])  # fmt: skip
def test_a_claim_that_is_missing_or_for_another_is_refused(
    name: str,
    value: Any,
    told: str,
) -> None:
    """RFC 7519 section 4.1, for a token whose signature is right."""
    assert refused(token(**{name: value})).startswith(told)


def test_one_of_several_audiences_is_enough() -> None:
    """RFC 7519 section 4.1.3: `aud` is a string or a list."""
    assert taken(token(aud=["other", AUDIENCE])).name == "token:desk"


def test_leeway_moves_both_ends_and_no_further() -> None:
    """`exp` and `nbf` hold with so much on top: RFC 7519 section 4.1.4."""
    policy = Policy(ISSUER, AUDIENCE, leeway_s=30.0)
    word = token(exp=1_000, nbf=900, iat=900)
    assert verify(word, KEYS, policy, 870.0).until_s == 1_030.0
    assert verify(word, KEYS, policy, 1_029.9).until_s == 1_030.0
    for now_s in (869.9, 1_030.0):
        with pytest.raises(UnauthorizedError):
            verify(word, KEYS, policy, now_s)


def test_an_end_beyond_all_clocks_is_one() -> None:
    """No number of an issuer breaks the arithmetic."""
    for end in (10**300, 1e308, 2**63):
        assert taken(token(exp=end)).until_s == 2.0**53


# ---- whose it is


@each(("said", "name"), [
    ({"sub": "auth0|5f7c8ec7c33c6c004bbafe82"}, "token:auth0|5f7c8ec7c33c6c004bbafe82"),
    ({"sub": "", "common_name": "e367.access"}, "token:e367.access"),
    ({"sub": None}, "token:unnamed"),
])  # fmt: skip
def test_a_token_has_the_name_of_its_subject(said: dict[str, Any], name: str) -> None:
    """Cloudflare's tokens of services have none but a common name."""
    assert taken(token(**said)).name == name


@each("subject", ["a b", "line\nbreak", "\x1b[31m", "é", "\ud800", "x" * 129])
def test_a_subject_that_would_not_fit_a_log_is_hashed(subject: str) -> None:
    """Bounded and printable, and still another one for another subject."""
    name, other = taken(token(sub=subject)).name, taken(token(sub=subject + "!")).name
    assert name != other
    assert name.isascii()
    assert name.isprintable()
    assert len(name) == len("token:") + 32


# ---- what it may see


@each(("claim", "scope"), [
    ({"symbols": ["BTC-*"]}, Scope(symbols=("BTC-*",))),
    ({"exchanges": ["coinbase"], "symbols": ["A", "B"], "types": ["MD"]},
     Scope(("coinbase",), ("A", "B"), ("MD",))),
    ({}, Scope()),
    ({"symbols": []}, Scope(symbols=())),
    (None, NOTHING),
    ("*", NOTHING),
    (["*"], NOTHING),
    ({"symbol": ["*"]}, NOTHING),
    ({"symbols": "*"}, NOTHING),
    ({"symbols": [1]}, NOTHING),
    ({"symbols": [""]}, NOTHING),
    ({"symbols": ["x" * 65]}, NOTHING),
    ({"symbols": ["x"] * 257}, NOTHING),
])  # fmt: skip
def test_a_claim_says_what_a_token_may_see_and_a_malformed_one_says_nothing(
    claim: object, scope: Scope
) -> None:
    """Whatever is no such claim hides everything."""
    policy = Policy(ISSUER, AUDIENCE, scope_claim="zerocopy")
    assert taken(token(zerocopy=claim), policy).scope == scope
    assert not NOTHING.allows("coinbase")


def test_a_claim_may_be_inside_of_another_or_have_a_name_with_dots() -> None:
    """Cloudflare puts those of an identity provider into `custom`; Auth0 wants an URL as a name."""
    inside = Policy(ISSUER, AUDIENCE, scope_claim="custom.zerocopy")
    assert taken(token(custom={"zerocopy": {"types": ["MD"]}}), inside).scope == Scope(
        types=("MD",)
    )
    assert taken(token(custom="zerocopy"), inside).scope == NOTHING
    said: dict[str, Any] = {"https://data.example/zerocopy": {"types": ["MD"]}}
    policy = Policy(ISSUER, AUDIENCE, scope_claim="https://data.example/zerocopy")
    assert taken(token(**said), policy).scope == Scope(types=("MD",))
