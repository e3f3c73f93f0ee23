"""Signed tokens: RFC 7519 in the compact form of RFC 7515, by joserfc.

Owns what a token must be to say who asks; RFC 8725 is the list of what goes wrong. It is refused
whole by its form, before anything in it is believed; the key decides the algorithm; its claims
count once its signature does. Values in, values out: nothing is remembered or fetched here.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from joserfc import jws
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, MissingClaimError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry
from joserfc.util import urlsafe_b64decode
from msgspec import Meta, Struct

from zerocopy.access.keyset import KID_CHARS_MAX
from zerocopy.core.access import EVERYTHING, PATTERNS_MAX, Scope
from zerocopy.core.errors import UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joserfc._rfc7515.model import JWSAlgModel

    from zerocopy.access.keyset import KeySet

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""What a token may be signed by: RFC 7518 section 3.1, RFC 8037."""

HEADER_BYTES_MAX = 2_048
"""Of the first part of a token; one has an algorithm, a type and the name of a key."""

NOTHING = Scope((), (), ())
"""What a token may see whose claim is missing or says something else than it should."""

UNTIL_MAX_S = 2**53
"""The latest end that counts, unix seconds; a later one is that."""

_FORM = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")

_FOREIGN = ("crit", "b64", "jku", "jwk", "x5u", "x5c", "enc", "zip", "cty")
"""Header members of tokens that bring their own key, want something understood that is not, or hold
another token: RFC 7515 section 4.1, RFC 7797, RFC 7519 section 5.2."""

_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
"""`typ` in lower case: a token that says it is something else is not for asking, RFC 8725 3.11."""

_NAME = re.compile(r"[!-~]{1,58}")
"""A subject that is part of a name of 64 characters; another one is hashed."""

_Patterns = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...], Meta(max_length=PATTERNS_MAX)
]


class Policy(NamedTuple):
    """What tokens must say: `[auth]`."""

    issuer: str
    audience: str
    leeway_s: float = 0.0
    scope_claim: str | None = None


class Verified(NamedTuple):
    """What a token says, proved.

    `until_s` is its end, leeway included, unix seconds; `mark` that of the key that signed it.
    """

    name: str
    scope: Scope
    until_s: float
    mark: str


class UnknownKeyError(UnauthorizedError):
    """The token names a key that is not in the set; a newer set may have it."""


class _Claim(Struct, frozen=True, forbid_unknown_fields=True):
    """The scope in a token: a member that is misspelt must not mean everything."""

    exchanges: _Patterns = EVERYTHING
    symbols: _Patterns = EVERYTHING
    types: _Patterns = EVERYTHING


class _Registry(JWSRegistry):
    """The library's, for our algorithms: without its warning at EdDSA's older name (RFC 9864)."""

    max_header_length = HEADER_BYTES_MAX

    def get_alg(self, name: str) -> JWSAlgModel:
        """See there; the name is ours already."""
        assert name in ALGORITHMS, "the key set knows no other"
        return self.algorithms[name]


_REGISTRY = _Registry(algorithms=ALGORITHMS, strict_check_header=False)


def verify(word: bytes, keys: KeySet, policy: Policy, now_s: float) -> Verified:
    """What the token `word` proves at `now_s`; some hundred microseconds, for a thread.

    Raises:
        UnknownKeyError: it names a key that is not in `keys`.
        UnauthorizedError: it proves nothing.
    """
    form = _FORM.fullmatch(word)
    if form is None or len(form[1]) > HEADER_BYTES_MAX:
        raise _refusal("it is not three parts of base64url with a short header")
    algorithm, kid = _check_header(_read(form[1], "header"))
    key = keys.find(kid, algorithm)
    if key is None:
        if keys.knows(kid):
            raise _refusal("its key is for another algorithm")
        raise UnknownKeyError("the token is not valid: its key is unknown", is_invalid=True)
    try:
        jws.deserialize_compact(word, key.jwk, registry=_REGISTRY)
    except (JoseError, ValueError) as error:
        raise _refusal("its signature is wrong") from error
    claims = _read(form[2], "payload")
    _check_claims(claims, policy, now_s)
    until_s = min(claims["exp"], UNTIL_MAX_S) + policy.leeway_s
    return Verified(_name(claims), _scope(claims, policy.scope_claim), until_s, key.mark)


def _refusal(why: str) -> UnauthorizedError:
    return UnauthorizedError(f"the token is not valid: {why}", is_invalid=True)


def _read(part: bytes, what: str) -> dict[str, Any]:
    """A part of a token: one JSON object, in which no name comes twice."""
    try:
        document = json.loads(
            urlsafe_b64decode(part), object_pairs_hook=_object, parse_constant=_not_json
        )
    except (ValueError, RecursionError) as error:
        raise _refusal(f"its {what} is no JSON object of distinct names") from error
    if not isinstance(document, dict):
        raise _refusal(f"its {what} is no JSON object of distinct names")
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7515 section 4: of two readers of a name that comes twice each may take another."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name twice")
    return members


def _not_json(name: str) -> None:
    """NaN and infinities, which Python reads."""
    raise ValueError(name)


def _check_header(header: Mapping[str, Any]) -> tuple[str, str | None]:
    """The algorithm and the key that a header names."""
    foreign = next((name for name in _FOREIGN if name in header), None)
    if foreign is not None:
        raise _refusal(f"its header has {foreign}")
    algorithm, kid, type_ = header.get("alg"), header.get("kid"), header.get("typ")
    if algorithm not in ALGORITHMS:
        raise _refusal(f"it must be signed by {', '.join(ALGORITHMS)}")
    if (type_.lower() if isinstance(type_, str) else type_) not in _TYPES:
        raise _refusal("its typ must be JWT or at+jwt")
    if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= KID_CHARS_MAX)):
        raise _refusal("its kid must be the name of a key")
    return str(algorithm), kid


def _check_claims(claims: dict[str, Any], policy: Policy, now_s: float) -> None:
    """Whether a token holds now, and here: RFC 7519 section 4.1."""
    registry = JWTClaimsRegistry(
        now=lambda: now_s,  # type: ignore[arg-type,return-value] # a fraction of a second is one
        leeway=policy.leeway_s,  # type: ignore[arg-type]
        exp={"essential": True},
        iss={"essential": True, "value": policy.issuer},
        aud={"essential": True, "value": policy.audience},
        sub={"allow_blank": True},
    )
    try:
        registry.validate(claims)
    except ExpiredTokenError as error:
        raise _refusal("it has expired") from error
    except MissingClaimError as error:
        raise _refusal(f"it lacks {error.claim}") from error
    except ClaimError as error:
        raise _refusal(
            f"its {error.claim} is for another server, another time or no claim"
        ) from error


def _name(claims: Mapping[str, Any]) -> str:
    """Whose it is, for logs and metrics; no key has such a name.

    Tokens that Cloudflare Access makes for services have an empty `sub`, and a `common_name`.
    """
    subject = claims.get("sub") or claims.get("common_name") or "unnamed"
    if isinstance(subject, str) and _NAME.fullmatch(subject):
        return f"token:{subject}"
    text = json.dumps(subject)  # ASCII, whatever it is: half a surrogate pair is no UTF-8
    return f"token:{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _scope(claims: Mapping[str, Any], name: str | None) -> Scope:
    """What it may see. `name` is that of a claim, else a path by dots to one inside of others."""
    if name is None:
        return Scope()
    found: Any = claims
    for step in (name,) if name in claims else name.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    try:
        claim = msgspec.convert(found, _Claim)
    except msgspec.ValidationError:
        return NOTHING
    return Scope(claim.exchanges, claim.symbols, claim.types)
