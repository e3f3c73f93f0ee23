"""JWK sets: which keys are of use, and what is no set."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import RSAKey
from joserfc.util import int_to_base64

from tests.issuing import jwk, key_set, private_key
from tests.table import each
from zerocopy.access.keyset import KeySet, read_key_set
from zerocopy.core.errors import ConfigError


def found(*keys: dict[str, Any]) -> KeySet:
    """The keys of a set that has one more, which is always of use."""
    return read_key_set(key_set(*keys, jwk("EdDSA", "other")))


def test_each_kind_is_for_one_algorithm() -> None:
    """The key says which, also where it does not say so."""
    keys = found(jwk("RS256", "a"), jwk("ES256", "b", alg="ES256"), jwk("EdDSA", "c", use="sig"))
    assert len(keys) == 4
    for kid, algorithm in (("a", "RS256"), ("b", "ES256"), ("c", "EdDSA")):
        assert keys.knows(kid)
        assert keys.find(kid, algorithm) is not None
        for other in {"RS256", "ES256", "EdDSA", "HS256", "none"} - {algorithm}:
            assert keys.find(kid, other) is None


@each("members", [
    {"use": "enc"}, {"alg": "RSA-OAEP"}, {"alg": "RS512"}, {"alg": 1}, {"key_ops": ["sign"]},
    {"key_ops": "verify"}, {"kid": ""}, {"kid": 7}, {"kid": "x" * 257}, {"n": 5}, {"n": "A" * 342},
    {"e": "!"}, {"e": None}, {"kty": "oct"}, {"kty": "EC"}, {"kty": "EC", "crv": "P-256"},
])  # fmt: skip
def test_a_key_for_something_else_or_none_is_left_out(members: dict[str, Any]) -> None:
    """RFC 7517 section 5: the others of the set stay."""
    assert len(found({**jwk("RS256", "one"), **members})) == 1


@each("listed", [
    {"kty": "oct", "k": "AAAA", "kid": "one", "alg": "HS256"},
    {"kty": "EC", "crv": "P-256", "kid": "one", "x": "AA", "y": "AA"},
    {"kty": "OKP", "crv": "X25519", "kid": "one", "x": "A" * 43},
    {"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": "AAAA"},
    {}, None, "key", 1, [],
])  # fmt: skip
def test_what_is_no_key_of_ours_is_left_out(listed: object) -> None:
    """A secret, a point that is not on its curve, a curve to agree by, and what is nothing."""
    assert len(read_key_set(json.dumps({"keys": [listed, jwk("EdDSA", "other")]}).encode())) == 1


def test_an_rsa_key_below_2048_bits_is_left_out() -> None:
    """RFC 7518 section 3.3."""
    small = rsa.generate_private_key(public_exponent=65_537, key_size=1_024).public_key()
    numbers = small.public_numbers()
    assert len(found({"kty": "RSA", "n": int_to_base64(numbers.n), "e": "AQAB", "kid": "s"})) == 1


def test_a_private_part_is_not_looked_at() -> None:
    """Who publishes one has lost the key; nothing of it is kept."""
    private = RSAKey.import_key(private_key("RS256")).as_dict(private=True)  # type: ignore[arg-type]
    key = found({**private, "kid": "one", "d": "no number"}).find("one", "RS256")
    assert key is not None
    assert not key.jwk.is_private


def test_the_first_of_two_keys_of_a_name_counts() -> None:
    """For one algorithm; a name may stand for keys of two."""
    keys = found(jwk("ES256", "a"), jwk("ES256", "a", name="second"), jwk("RS256", "a"))
    assert len(keys) == 3
    first = found(jwk("ES256", "a")).find("a", "ES256")
    assert first is not None
    assert first.mark in keys.marks


def test_a_mark_stays_while_name_and_key_do() -> None:
    """Another key of that name has another, and so has that key by another name."""
    of = [found(each).marks - found().marks for each in (
        jwk("ES256", "a"), {**jwk("ES256", "a"), "x5t": "more"}, jwk("ES256", "a", name="second"),
        jwk("ES256", "b"),
    )]  # fmt: skip
    assert of[0] == of[1]
    assert len({frozenset(marks) for marks in of}) == 3


@each(("text", "told"), [
    (b"", "no JSON"), (b"<html>", "no JSON"), (b"\xff", "no JSON"), (b"[" * 5_000, "no JSON"),
    (b"[]", "no list of keys"), (b"{}", "no list of keys"), (b'{"keys": {}}', "no list of keys"),
    (b'{"keys": []}', "none of its 0 keys"), (b'{"keys": [{}]}', "none of its 1 keys"),
    (b'{"keys": [' + b",".join([b"{}"] * 257) + b"]}", "257 keys"),
])  # fmt: skip
def test_what_is_no_set_is_refused(text: bytes, told: str) -> None:
    """In a sentence; the set before it is for its reader to keep."""
    with pytest.raises(ConfigError, match=told):
        read_key_set(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@given(
    st.sampled_from(["RS256", "ES256", "EdDSA"]),
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]),
    json_values,
)
def test_no_member_of_a_key_breaks_the_set(kind: str, member: str, value: object) -> None:
    """Whatever stands there, the other key is found."""
    keys = found({**jwk(kind, "one"), member: value})
    assert keys.find("other", "EdDSA") is not None
