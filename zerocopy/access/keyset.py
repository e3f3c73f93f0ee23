"""A JWK set (RFC 7517 section 5): the public keys that tokens may be signed with.

Owns which keys are of use: RSA from 2,048 bits on for RS256, P-256 for ES256, Ed25519 and Ed448 for
EdDSA, for signatures and for that algorithm. What is of none is left out, as section 5 has it; a
private part is not looked at. The algorithm follows from the key and never from a token.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

KEYS_MAX = 256
"""Keys in a set; issuers have two or three, large directories some dozens."""

KID_CHARS_MAX = 256
"""Characters of a key's name."""

_RSA_CHARS_MIN = 342
"""Characters of the modulus of an RSA key of 2,048 bits, in base64url."""

Jwk = RSAKey | ECKey | OKPKey


class SigningKey(NamedTuple):
    """A key of a set, and what finds it.

    `mark` is the same wherever the same key has the same name, and tells nothing else of it.
    """

    kid: str | None
    algorithm: str
    jwk: Jwk
    mark: str


class KeySet:
    """The keys of one reading.

    Example:
        >>> KeySet(()).find("2026-11", "ES256") is None
        True
    """

    def __init__(self, keys: Iterable[SigningKey]) -> None:
        self._keys: dict[tuple[str | None, str], SigningKey] = {}
        for key in keys:
            self._keys.setdefault((key.kid, key.algorithm), key)
        self._kids = {kid for kid, _ in self._keys}
        self.marks = frozenset(key.mark for key in self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, kid: str | None, algorithm: str) -> SigningKey | None:
        """The key of that name, if it is for that algorithm; of a token without `kid`, a nameless.

        Where several keys have both, the first.
        """
        return self._keys.get((kid, algorithm))

    def knows(self, kid: str | None) -> bool:
        """Whether any key has that name."""
        return kid in self._kids


def read_key_set(text: bytes) -> KeySet:
    """The keys in `text` that tokens may be signed with.

    Raises:
        ConfigError: it is no JWK set, or has no such key.
    """
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError("it is no JSON") from error
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ConfigError("it is no JWK set: it has no list of keys")
    if len(listed) > KEYS_MAX:
        raise ConfigError(f"it has {len(listed)} keys, and {KEYS_MAX} are the most")
    keys = KeySet(key for key in map(_signing_key, listed) if key is not None)
    if not len(keys):
        raise ConfigError(f"none of its {len(listed)} keys is for RS256, ES256 or EdDSA")
    return keys


def _signing_key(jwk: object) -> SigningKey | None:
    """`jwk` as a key that signs tokens, or None."""
    if not isinstance(jwk, dict):
        return None
    found = _algorithm(jwk)
    kid, use, operations = jwk.get("kid"), jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
    if (
        found is None
        or jwk.get("alg", found[0]) != found[0]
        or use != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
        or not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= KID_CHARS_MAX))
    ):
        return None
    algorithm, kind, members = found
    try:
        key = kind.import_key({"kty": jwk["kty"], **{name: jwk[name] for name in members}})
        thumbprint = key.thumbprint()  # RFC 7638
    except (JoseError, KeyError, TypeError, ValueError):  # not a point of its curve, no base64 …
        return None
    name = msgspec.json.encode([kid, algorithm, thumbprint])
    return SigningKey(kid, algorithm, key, hashlib.sha256(name).hexdigest()[:32])


def _algorithm(jwk: dict[str, Any]) -> tuple[str, type[Jwk], tuple[str, ...]] | None:
    """What a key is good for by its kind: the algorithm, the class, and its public members."""
    kty, curve, modulus = jwk.get("kty"), jwk.get("crv"), jwk.get("n")
    if kty == "RSA" and isinstance(modulus, str) and len(modulus) >= _RSA_CHARS_MIN:
        return "RS256", RSAKey, ("n", "e")
    if kty == "EC" and curve == "P-256":
        return "ES256", ECKey, ("crv", "x", "y")
    if kty == "OKP" and curve in ("Ed25519", "Ed448"):
        return "EdDSA", OKPKey, ("crv", "x")
    return None
