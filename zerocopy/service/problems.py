"""Errors as responses: the one function that turns an exception into a status.

Owns `application/problem+json` (RFC 9457) and the fields that every response carries. What is said
to the client is the error's own `detail`; causes go to the log.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from zerocopy.core.codings import VARY
from zerocopy.core.errors import (
    LimitedError,
    MethodNotAllowedError,
    OverloadError,
    RangeError,
    UnauthorizedError,
    UpgradeRequiredError,
    ZerocopyError,
)
from zerocopy.core.http.messages import REASONS, Fields, Response
from zerocopy.core.http.validators import document_validators

if TYPE_CHECKING:
    from zerocopy.core.http.messages import Request

RETRY_AFTER_S = 1
"""What an overloaded server asks a client to wait: long enough for a turn, short for a person."""

PREFLIGHT_MAX_AGE_S = 86_400
"""Seconds a browser may keep a preflight's response; browsers cap it themselves."""

ALLOWED_METHODS = b"GET, HEAD, OPTIONS"

_FIELD_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,1024}")

UPGRADE_FIELDS: Fields = (
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
)
"""What 426 (Upgrade Required) offers: RFC 9110 section 15.5.22, RFC 6455 section 4.4. Only HTTP/1.1
has that status, for HTTP/2 has no Upgrade."""

CHALLENGE = b'Bearer realm="zerocopy"'
INVALID = CHALLENGE + b', error="invalid_token"'
"""WWW-Authenticate of a 401: RFC 6750 section 3."""

_EXPOSED = (
    b"ETag", b"Content-Range", b"Content-Length", b"Retry-After", b"Last-Modified",
    b"Accept-Ranges", b"RateLimit", b"RateLimit-Policy",
)  # fmt: skip

CORS_FIELDS: Fields = (
    (b"Access-Control-Allow-Origin", b"*"),
    (
        b"Access-Control-Expose-Headers",
        b", ".join(_EXPOSED),
    ),
)
"""Fetch standard, CORS protocol: any origin may read, these fields included."""

EVENT_FIELDS: Fields = (
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-store, no-transform"),
    (b"X-Accel-Buffering", b"no"),
    *CORS_FIELDS,
)
"""Of a stream of events: no cache keeps it, and no proxy holds it back (nginx's own field)."""


def private_fields(fields: Fields) -> Fields:
    """`fields` of a response to one who may ask, where `[auth]` is on.

    Only its client may keep it (RFC 9111 section 5.2.2.7), and not for another key (RFC 9110
    section 12.5.5).
    """
    vary = [value for name, value in fields if name == b"Vary"]
    return (
        *(
            (name, b"private, " + value.removeprefix(b"public, "))
            if name == b"Cache-Control"
            else (name, value)
            for name, value in fields
            if name != b"Vary"
        ),
        (b"Vary", b", ".join([*vary, b"Authorization"])),
    )


def json_response(document: object) -> Response:
    """A 200 that holds `document` as compact JSON and must be asked for anew each time."""
    return _json(orjson.dumps(document), ())


def document_response(document: object) -> Response:
    """The same, but each client may have it in the content coding that it likes."""
    return written_response(orjson.dumps(document))


def written_response(content: bytes) -> Response:
    """That of a document that is JSON already; reads all of it for its tag."""
    return _json(content, (VARY,))


def _json(content: bytes, more: Fields) -> Response:
    validators = document_validators(content)
    fields = (
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-cache, no-transform"),
        (b"ETag", validators.etag),
        *more,
        *CORS_FIELDS,
    )
    return Response(200, fields, content, validators=validators)


def problem_response(error: Exception) -> Response:
    """The response to a failed request. An error of no class of ours is a 500 without detail."""
    status, detail = 500, "the server failed to answer; its log says why"
    if isinstance(error, ZerocopyError):
        status, detail = error.status, error.detail
    fields: Fields = ()
    if isinstance(error, OverloadError):
        fields = ((b"Retry-After", b"%d" % RETRY_AFTER_S),)
    elif isinstance(error, UnauthorizedError):
        fields = ((b"WWW-Authenticate", INVALID if error.is_invalid else CHALLENGE),)
    elif isinstance(error, LimitedError):
        fields = _limit_fields(error)
    elif isinstance(error, MethodNotAllowedError):
        fields = ((b"Allow", error.allowed),)
    elif isinstance(error, RangeError):
        fields = ((b"Content-Range", b"bytes */%d" % error.nbytes),)
    elif isinstance(error, UpgradeRequiredError):
        fields = UPGRADE_FIELDS
    problem = {
        "type": "about:blank",  # RFC 9457 section 4.2.1: the title is the status phrase
        "title": REASONS[status],
        "status": status,
        "detail": detail,
    }
    return Response(
        status,
        (
            (b"Content-Type", b"application/problem+json"),
            (b"Cache-Control", b"no-store"),
            *CORS_FIELDS,
            *fields,
        ),
        orjson.dumps(problem),
    )


def _limit_fields(error: LimitedError) -> Fields:
    """Retry-After, and the fields of draft-ietf-httpapi-ratelimit-headers-10."""
    policy = b'"%b"' % error.policy.encode("ascii")
    stated, left = policy + b";q=%d" % error.quota, policy + b";r=%d" % error.left
    if error.unit != "requests":  # the default
        stated += b';qu="%b"' % error.unit.encode("ascii")
    if error.window_s is not None:
        stated += b";w=%d" % error.window_s
        left += b";t=%d" % error.retry_s
    return (
        (b"Retry-After", b"%d" % error.retry_s),
        (b"RateLimit", left),
        (b"RateLimit-Policy", stated),
    )


def preflight_response(request: Request, methods: bytes = ALLOWED_METHODS) -> Response:
    """204 to a CORS preflight (Fetch standard): any field a browser wants to send is allowed."""
    wanted = b", ".join(request.values(b"access-control-request-headers"))
    fields = [
        (b"Allow", methods),
        (b"Access-Control-Allow-Methods", methods),
        (b"Access-Control-Max-Age", b"%d" % PREFLIGHT_MAX_AGE_S),
        (b"Vary", b"Access-Control-Request-Headers"),
        *CORS_FIELDS,
    ]
    if wanted and _FIELD_NAMES.fullmatch(wanted):
        fields.append((b"Access-Control-Allow-Headers", wanted))
    return Response(204, tuple(fields))
