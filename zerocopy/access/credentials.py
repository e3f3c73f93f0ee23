"""What a request brings to prove who asks: RFC 6750, from fields to one word.

Owns where it may stand and which of several counts. Nothing is proved here, and nothing of it ever
reaches a log.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from zerocopy.core.errors import UnauthorizedError
from zerocopy.core.http.messages import Request

CREDENTIAL_BYTES_MAX = 8_192
"""Bytes of one; a token of an identity provider that names many groups takes some thousand."""

CLOUDFLARE_FIELD = b"cf-access-jwt-assertion"
"""Set by Cloudflare Access on requests that it lets through."""

_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)

_TICKET = b"ticket="
"""Of a ticket in the query, written as it is: no other spelling of the parameter is one."""

_PORTS = {b"https": b":443", b"http": b":80"}

Kind = Literal["bearer", "assertion"]


class Credential(NamedTuple):
    """A word that is to be proved, and where it stood."""

    kind: Kind
    word: bytes


def without_ticket(request: Request) -> tuple[Request, bytes | None]:
    """`request` as if its target had no ticket, and the ticket.

    Whoever answers sees the target that all have who ask for the same, and never a ticket.

    Raises:
        UnauthorizedError: it has several.
    """
    path, mark, query = request.target.partition(b"?")
    if not mark or _TICKET not in query:
        return request, None
    pairs = query.split(b"&")
    others = [pair for pair in pairs if not pair.startswith(_TICKET)]
    if len(others) == len(pairs):
        return request, None
    if len(pairs) - len(others) > 1:
        raise UnauthorizedError("the query must have one ticket", is_invalid=True)
    ticket = next(pair for pair in pairs if pair.startswith(_TICKET)).removeprefix(_TICKET)
    target = path + (mark + b"&".join(others) if others else b"")
    fields, is_websocket = request.fields, request.is_websocket
    return Request(request.method, target, fields, is_websocket, request.network), ticket


def _is_same_origin(request: Request) -> bool:
    """Whether the page that opens a WebSocket is of this host; a program that is no page says none.

    Cloudflare adds its field to whatever a browser sends with its cookie, and no CORS guards a
    WebSocket: RFC 6455 section 10.2. Behind a proxy that changes Host, X-Forwarded-Host has it, and
    either may name the port that an origin leaves out (RFC 6454 section 6.2).
    """
    hosts = {*request.values(b"host"), *request.values(b"x-forwarded-host")}
    known = {host.lower() for host in hosts}
    for origin in request.values(b"origin"):
        scheme, _, authority = origin.lower().partition(b"://")
        names = {authority, authority + _PORTS.get(scheme, b"")}
        if not authority or known.isdisjoint(names):
            return False
    return True


def credential_of(request: Request, *, reads_assertion: bool = True) -> Credential | None:
    """What the fields of `request` bring, or None. Authorization goes before Cloudflare's field.

    Cloudflare adds its field to every request. So it is left unread where no key set could prove
    it, and where the client has said by a ticket who asks.

    Raises:
        UnauthorizedError: it came twice, with another scheme, is longer than any can be, or a page
            of another origin opens a WebSocket by the login of its reader.
    """
    for kind, name in (("bearer", b"authorization"), ("assertion", CLOUDFLARE_FIELD)):
        values = request.values(name)
        if not values or (kind == "assertion" and not reads_assertion):
            continue
        if len(values) > 1 or len(values[0]) > CREDENTIAL_BYTES_MAX:
            raise UnauthorizedError(
                f"the {name.decode()} field must be one credential", is_invalid=True
            )
        if kind == "assertion":
            if request.is_websocket and not _is_same_origin(request):
                raise UnauthorizedError("a page of another origin needs a ticket", is_invalid=True)
            return Credential("assertion", values[0])
        match = _BEARER.fullmatch(values[0])
        if match is None:
            raise UnauthorizedError("the scheme of Authorization must be Bearer", is_invalid=True)
        return Credential("bearer", match[1])
    return None
