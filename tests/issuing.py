"""An issuer of tokens: keys of each kind, the JWK set of them, and what they sign.

What it signs is put together here and not by the library that verifies, so that it can be wrong.
"""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from joserfc.jwk import ECKey, OKPKey, RSAKey

ISSUER = "https://issuer.example"
AUDIENCE = "zerocopy"

Private = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)


def private_key(kind: str, name: str = "") -> Private:
    """A key of the kind `RS256`, `ES256`, `EdDSA` or `Ed448`; of another name another one."""
    return _made(kind, name)


@cache
def _made(kind: str, _name: str) -> Private:
    if kind == "RS256":
        return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    if kind == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return (
        ed25519.Ed25519PrivateKey.generate()
        if kind == "EdDSA"
        else ed448.Ed448PrivateKey.generate()
    )


def jwk(kind: str, kid: str | None = None, name: str = "", **members: Any) -> dict[str, Any]:
    """The public part of a key as a JWK; `members` are further ones."""
    of = {"RS256": RSAKey, "ES256": ECKey}.get(kind, OKPKey)
    key = of.import_key(private_key(kind, name).public_key())  # type: ignore[attr-defined]
    named = {} if kid is None else {"kid": kid}
    return {**key.as_dict(), **named, **members}


def key_set(*keys: dict[str, Any]) -> bytes:
    """The document of a JWK set."""
    return json.dumps({"keys": keys}).encode()


def encoded(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**others: Any) -> dict[str, Any]:
    """Claims of a token that holds for ten minutes; None leaves one out."""
    said = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "desk",
        "exp": int(time.time()) + 600,
        **others,
    }
    return {name: value for name, value in said.items() if value is not None}


def sign(header: bytes, payload: bytes, key: Private) -> bytes:
    """A token of these bytes, signed as `key` signs."""
    signed = f"{encoded(header)}.{encoded(payload)}".encode()
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(signed, padding.PKCS1v15(), SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        numbers = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
        signature = b"".join(number.to_bytes(32, "big") for number in numbers)
    else:
        signature = key.sign(signed)
    return signed + b"." + encoded(signature).encode()


def token(
    kind: str = "ES256",
    kid: str | None = "one",
    name: str = "",
    header: dict[str, Any] | None = None,
    **others: Any,
) -> bytes:
    """A token by the key of that kind and name; `header` and `others` change what it says."""
    algorithm = "EdDSA" if kind == "Ed448" else kind
    first = {"alg": algorithm, "typ": "JWT", "kid": kid, **(header or {})}
    said = {member: value for member, value in first.items() if value is not None}
    return sign(
        json.dumps(said).encode(), json.dumps(claims(**others)).encode(), private_key(kind, name)
    )
