"""Content codings: which of them a request takes, RFC 9110 section 12.5.3.

Owns the grammar of Accept-Encoding and the choice among `zstd` (RFC 8878), `gzip` and no coding. It
knows nothing of what is sent: a target that can have but one form takes nothing here, so that
requests for it share their answer, whatever their clients take.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from zerocopy.core import endpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

IDENTITY: Final = b""
"""No coding at all; it has no name in Content-Encoding, section 8.4.1."""
ZSTD: Final = b"zstd"
GZIP: Final = b"gzip"

CODINGS: Final = (ZSTD, GZIP)
"""What content may be coded in; the first is preferred where a client likes both as much."""

VARY: Final = (b"Vary", b"Accept-Encoding")
"""The field of every response whose content has another form for other clients, section 12.5.5."""

DOCUMENTS: Final = frozenset(
    {endpoints.SYMBOLS, endpoints.CATALOG, endpoints.OPENAPI, endpoints.PAGE}
)
"""Endpoints whose responses are whole documents of text."""

VALUE_BYTES_MAX = 1_024
"""Bytes of Accept-Encoding that are read: browsers send 23, and 16 KiB would take milliseconds."""

_DATA = frozenset({endpoints.DATA, endpoints.BARS})

# A superset of the queries that can be coded; what is percent-encoded is not read here. One search
# takes 0.7 µs, four of `in` take 1 µs.
_MAY_BE_CODED = re.compile(rb"json|csv|compress|%")

_MEMBER = re.compile(
    rb"[ \t]*+([!#$%&'*+.^_`|~0-9A-Za-z-]++)[ \t]*+"
    rb"(?:;[ \t]*+[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*+)?"
)
_ANY = b"*"
_NAMED_IDENTITY = b"identity"


class Accepted:
    """What a request takes: `coding` is the best of all, `takes_zstd` whether it takes that.

    Without the field any coding may be sent (section 12.5.3), but most clients that leave it out
    read none: so `coding` is `IDENTITY`, and who asks for zstd in the query gets it.

    There is one object for each combination. They are compared by identity, for they are part of
    what chooses a kept answer.
    """

    __slots__ = ("coding", "takes_zstd")

    def __init__(self, coding: bytes, *, takes_zstd: bool) -> None:
        self.coding = coding
        self.takes_zstd = takes_zstd


NOTHING: Final = Accepted(IDENTITY, takes_zstd=False)
_ANYTHING = Accepted(IDENTITY, takes_zstd=True)
_ACCEPTED = {
    (each.coding, each.takes_zstd): each
    for each in (
        NOTHING,
        _ANYTHING,
        Accepted(ZSTD, takes_zstd=True),
        Accepted(GZIP, takes_zstd=False),
        Accepted(GZIP, takes_zstd=True),
    )
}


def accepted_by(target: bytes, endpoint: int, fields: Sequence[tuple[bytes, bytes]]) -> Accepted:
    """What a request for `target` takes; `NOTHING` where its response has one form alone.

    A field that is longer than any client's is taken for one that names no coding.
    """
    if endpoint not in DOCUMENTS and (
        endpoint not in _DATA or _MAY_BE_CODED.search(target) is None
    ):
        return NOTHING
    values = [value for name, value in fields if name == b"accept-encoding"]
    if not values:
        return _ANYTHING
    value = b",".join(values)
    return accepted(value) if len(value) <= VALUE_BYTES_MAX else NOTHING


@lru_cache(maxsize=64)
def accepted(value: bytes) -> Accepted:
    """What Accept-Encoding says, all lines of it joined by commas.

    A member that is not spelled as section 12.5.3 has it is as if it were not there. Where nothing
    is left that could be sent, `IDENTITY` is (section 12.4.1 lets a server disregard the field).

    Example:
        >>> accepted(b"gzip, deflate, br, zstd;q=0.5").coding
        b'gzip'
        >>> accepted(b"*;q=0.1, gzip;q=0").coding
        b'zstd'
        >>> accepted(b"identity, zstd;q=0.9").coding
        b''
    """
    weights: dict[bytes, float] = {}
    for member in value.split(b","):
        spelled = _MEMBER.fullmatch(member)
        if spelled is not None:
            name = spelled[1].lower().removeprefix(b"x-")  # x-gzip is gzip, section 8.4.1.3
            weights[name] = 1.0 if spelled[2] is None else float(spelled[2])
    others = weights.get(_ANY, 0.0)
    best = max(CODINGS, key=lambda coding: weights.get(coding, others))  # the first of equals
    weight = weights.get(best, others)
    is_better = weight > 0 and weight >= weights.get(_NAMED_IDENTITY, 0.0)
    takes_zstd = weights.get(ZSTD, others) > 0
    return _ACCEPTED[best if is_better else IDENTITY, takes_zstd]
