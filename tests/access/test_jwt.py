"""Signed tokens: what proves who asks, and each way of a token that proves nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.access.judged import HEADER, KEYS, refused, taken
from tests.access.rfc_vectors import JOE_EXPIRES_S, SIGNED_FOR_NO_SERVER, VECTORS, Vector
from tests.issuing import (
    AUDIENCE,
    ISSUER,
    claims,
    encoded,
    jwk,
    key_set,
    private_key,
    sign,
    token,
)
from tests.table import each
from zerocopy.access.jwt import Policy, UnknownKeyError, verify
from zerocopy.access.keyset import KeySet, read_key_set
from zerocopy.core.access import Scope
from zerocopy.core.errors import ConfigError, UnauthorizedError

# ---- judges


@each("vector", VECTORS)
def test_the_examples_of_the_standards_are_judged_as_they_should_be(vector: Vector) -> None:
    """Right signatures of our algorithms are found right, and everything else is refused before."""
    try:
        keys = read_key_set(key_set(vector.key))
    except ConfigError:  # a key that no token of ours is signed with
        keys = KEYS
    assert refused_at(vector.token, keys) == vector.told
    if vector.told == SIGNED_FOR_NO_SERVER:
        changed = vector.token[:-9] + ("A" if vector.token[-9] != "A" else "B") + vector.token[-8:]
        assert refused_at(changed, keys) == "its signature is wrong"


def refused_at(word: str, keys: KeySet) -> str:
    """Why it is refused a second before the examples of RFC 7515 expire."""
    with pytest.raises(UnauthorizedError) as caught:
        verify(word.encode(), keys, Policy("joe", "server"), JOE_EXPIRES_S - 1.0)
    return caught.value.detail.removeprefix("the token is not valid: ")


@each(("kind", "kid"), [("RS256", "rsa"), ("ES256", "one"), ("EdDSA", "ed")])
def test_a_token_of_each_algorithm_proves_who_asks_and_until_when(kind: str, kid: str) -> None:
    """Signed by another program than the one that verifies it."""
    end_s = int(time.time()) + 600
    word = token(kind, kid, exp=end_s)
    found = taken(word, Policy(ISSUER, AUDIENCE, leeway_s=30.0))
    assert found == ("token:desk", Scope(), end_s + 30.0, found.mark)
    assert found.mark in KEYS.marks


def test_ed448_is_eddsa_too() -> None:
    """RFC 8037 section 3.1: EdDSA is both curves."""
    keys = read_key_set(key_set(jwk("Ed448", "big")))
    assert taken(token("Ed448", "big"), keys=keys).name == "token:desk"


# ---- the algorithm is the key's


def with_header(**header: Any) -> bytes:
    """A token signed by the key `one`, whose header says something else."""
    return token("ES256", header=header)


@each("algorithm", ["none", "None", "HS256", "HS512", "RS512", "PS256", "ES384", "Ed25519", "", 1])
def test_no_other_algorithm_is_taken(algorithm: object) -> None:
    """The list is ours: RFC 8725 section 3.1."""
    assert refused(with_header(alg=algorithm)).startswith("it must be signed by")


@each("algorithm", ["RS256", "EdDSA"])
def test_a_token_cannot_choose_how_its_key_verifies(algorithm: str) -> None:
    """The key is for ES256, whatever the token says of it."""
    assert refused(with_header(alg=algorithm)) == "its key is for another algorithm"


def test_a_token_signed_by_the_public_key_as_a_secret_is_refused() -> None:
    """The confusion of RFC 8725 section 2.1, with the key in each form that is to be had."""
    key = private_key("RS256").public_key()
    forms = [
        key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk("RS256", "rsa")).encode(),
    ]
    for secret in forms:
        for algorithm in ("HS256", "RS256"):
            header = json.dumps({"alg": algorithm, "kid": "rsa"}).encode()
            signed = f"{encoded(header)}.{encoded(json.dumps(claims()).encode())}".encode()
            mac = hmac.digest(secret, signed, hashlib.sha256)
            assert refused(signed + b"." + encoded(mac).encode())


def test_a_token_without_a_signature_is_refused() -> None:
    """With and without the last dot, and with an empty or a short signature."""
    head, payload, _ = token().split(b".")
    for word in (
        head + b"." + payload,
        head + b"." + payload + b".",
        head + b"." + payload + b".AAAA",
        head + b".." + payload,
    ):
        assert refused(word)


def test_a_token_that_was_changed_is_refused() -> None:
    """One character of each part; the last of a signature may hold bits that say nothing."""
    word = token(aud=AUDIENCE)
    for at in (3, len(word.split(b".")[0]) + 5, len(word) - 9):
        changed = word[:at] + (b"A" if word[at : at + 1] != b"A" else b"B") + word[at + 1 :]
        assert refused(changed)


def test_the_signature_of_another_key_is_refused() -> None:
    """A key of the same kind that claims the same name."""
    assert refused(token("ES256", "one", name="stranger")) == "its signature is wrong"


# ---- kid


def test_an_unknown_key_is_told_from_a_wrong_token() -> None:
    """Only that is worth another look at the issuer's keys."""
    with pytest.raises(UnknownKeyError):
        taken(token(kid="two"))


@each("kid", ["../../../../dev/null", "one' OR 1=1", "ONE", "one ", "https://evil.example/key"])
def test_a_kid_is_a_name_and_nothing_else(kid: str) -> None:
    """No file, no query, no address: it is unknown."""
    with pytest.raises(UnknownKeyError):
        taken(token(kid=kid))


@each("kid", ["", 1, ["one"], {"one": 1}, True, "x" * 257])
def test_a_kid_that_is_no_name_is_refused(kid: object) -> None:
    """Whatever JSON may hold there."""
    assert refused(with_header(kid=kid)) == "its kid must be the name of a key"


def test_a_token_without_kid_needs_a_key_without() -> None:
    """Of a set that names its keys, it names none."""
    with pytest.raises(UnknownKeyError):
        taken(token(kid=None))
    nameless = read_key_set(key_set(jwk("ES256")))
    assert taken(token(kid=None), keys=nameless).name == "token:desk"


# ---- the header


@each(
    ("name", "value"),
    [
        ("crit", ["exp"]),
        ("b64", False),
        ("jku", "https://evil.example/jwks"),
        ("jwk", jwk("ES256", "one", name="stranger")),
        ("x5u", "https://evil.example/x5u"),
        ("x5c", ["MIIB"]),
        ("enc", "A128GCM"),
        ("zip", "DEF"),
        ("cty", "JWT"),
    ],
)
def test_a_header_that_brings_a_key_or_wants_something_understood_is_refused(
    name: str, value: object
) -> None:
    """Before its signature is looked at, right or wrong."""
    for signer in ("", "stranger"):
        word = token("ES256", "one", name=signer, header={name: value})
        assert refused(word) == f"its header has {name}"


def test_a_header_may_say_what_nobody_has_to_know() -> None:
    """RFC 7515 section 4: unknown members are ignored; issuers write some."""
    assert taken(with_header(x5t="abc", pi={"atm": "1"})).name == "token:desk"


@each(("type_", "is_taken"), [
    (None, True), ("JWT", True), ("jwt", True), ("at+jwt", True), ("application/at+jwt", True),
    ("dpop+jwt", False), ("logout+jwt", False), ("JWE", False), (1, False), ("", False),
])  # fmt: skip
def test_a_token_for_another_purpose_is_refused(type_: object, is_taken: bool) -> None:  # noqa: FBT001
    """RFC 8725 section 3.11, RFC 9068 section 4."""
    word = with_header(typ=type_)
    if is_taken:
        assert taken(word).name == "token:desk"
    else:
        assert refused(word) == "its typ must be JWT or at+jwt"


def raw(header: bytes, payload: bytes) -> bytes:
    """A token of these bytes, signed by the key `one`."""
    return sign(header, payload, private_key("ES256"))


@each("header", [
    b'{"alg":"none","alg":"ES256","kid":"one"}', b'{"alg":"ES256","kid":"two","kid":"one"}',
    b"[]", b'"ES256"', b"{", b"\xff", b"", b"[" * 1_500, b'{"alg":"ES256","kid":"one","a":NaN}',
])  # fmt: skip
def test_a_header_that_two_readers_could_read_in_two_ways_is_refused(header: bytes) -> None:
    """RFC 7515 section 4: no name twice; and nothing but JSON."""
    assert refused(raw(header, json.dumps(claims()).encode()))


def test_a_payload_that_two_readers_could_read_in_two_ways_is_refused() -> None:
    """A name twice, also deep inside; numbers that are none; no object; nested too deep."""
    right = json.dumps(claims()).encode()
    head = json.dumps(HEADER).encode()
    assert taken(raw(head, right)).name == "token:desk"
    for payload in (
        right[:-1] + b', "aud": "other"}',
        right[:-1] + b', "more": {"a": 1, "a": 2}}',
        right[:-1] + b', "more": Infinity}',
        right[:-1] + b', "more": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
        b"[" + right + b"]",
        b"\xff" + right,
        raw(head, right),  # a token in a token
        b"",
    ):
        assert refused(raw(head, payload)), payload[:60]


def test_base64url_has_one_spelling() -> None:
    """RFC 7515 appendix C: no padding, no other alphabet, no bits that say nothing."""
    head, payload, signature = token().split(b".")
    for word in (
        b".".join((head + b"=", payload, signature)),
        b".".join((head, payload, signature + b"==")),
        b".".join((head, payload + b"\n", signature)),
        b".".join((head, payload.replace(payload[4:5], b"+"), signature)),
        b".".join((head, payload, signature[:-1] + bytes([signature[-1] + 1]))),
    ):
        assert refused(word), word


def test_a_long_header_is_refused_unread() -> None:
    """2,048 bytes hold every header that we take."""
    assert "short header" in refused(with_header(more="x" * 2_048))


@given(st.binary(max_size=300))
def test_no_bytes_make_anything_but_a_refusal(word: bytes) -> None:
    """Nothing that is no token raises anything else."""
    assert refused(word)


@given(st.binary(max_size=120), st.binary(max_size=120))
def test_no_signed_bytes_make_anything_but_a_refusal(header: bytes, payload: bytes) -> None:
    """Not even with a right signature."""
    assert refused(raw(header, payload))
    assert refused(raw(json.dumps(HEADER).encode(), payload))
