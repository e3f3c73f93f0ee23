"""Tokens as tests judge them: by one policy and one key set, now."""

from __future__ import annotations

import time

import pytest

from tests.issuing import (
    AUDIENCE,
    ISSUER,
    jwk,
    key_set,
)
from zerocopy.access.jwt import Policy, Verified, verify
from zerocopy.access.keyset import KeySet, read_key_set
from zerocopy.core.errors import UnauthorizedError

POLICY = Policy(ISSUER, AUDIENCE)
KEYS = read_key_set(key_set(jwk("RS256", "rsa"), jwk("ES256", "one"), jwk("EdDSA", "ed")))
HEADER = {"alg": "ES256", "typ": "JWT", "kid": "one"}


def refused(word: bytes, keys: KeySet = KEYS, policy: Policy = POLICY) -> str:
    """Why `word` is refused; that it is, and as a token that came and is none."""
    with pytest.raises(UnauthorizedError) as caught:
        verify(word, keys, policy, time.time())
    assert caught.value.status == 401
    assert caught.value.is_invalid
    return caught.value.detail.removeprefix("the token is not valid: ")


def taken(word: bytes, policy: Policy = POLICY, keys: KeySet = KEYS) -> Verified:
    """What `word` proves now."""
    return verify(word, keys, policy, time.time())
