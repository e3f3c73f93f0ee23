"""What a request's conditional fields make of a response: preconditions and parts.

RFC 9110 sections 13 and 14. The clock is a value that comes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.core.errors import PreconditionFailedError
from zerocopy.core.http.conditions import ANY_TAG, EntityTag, parse_entity_tags, parse_http_date
from zerocopy.core.http.messages import Response
from zerocopy.core.http.ranges import content_range, cut_many, cut_part, parse_ranges, satisfiable
from zerocopy.core.http.validators import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.http.messages import Fields, Request
    from zerocopy.core.http.ranges import RangeSpec

_CONTENT_TYPE, _CONTENT_ENCODING = b"Content-Type", b"Content-Encoding"
ACCEPT_RANGES = (b"Accept-Ranges", b"bytes")
"""The field of what may be asked for in parts, section 14.3; a response without it has none."""

_METADATA = frozenset(
    {
        _CONTENT_TYPE,
        _CONTENT_ENCODING,
        b"Content-Disposition",
        b"Last-Modified",
        ACCEPT_RANGES[0],
    }
)
"""What a client has that names the representation by its tag: sections 15.3.7 and 15.4.5."""

_OF_PARTS = frozenset({_CONTENT_TYPE, _CONTENT_ENCODING})
"""What each of several parts says of itself, for they are parts of the representation; the content
around them, multipart/byteranges, is in no coding."""


# ---- preconditions, RFC 9110 section 13


def _is_unmodified_since(
    request: Request, name: bytes, whole: Response, now_s: float
) -> bool | None:
    """Whether nothing changed after the date in a field; None where there is nothing to compare."""
    values, validators = request.values(name), whole.validators
    if len(values) != 1 or validators is None or validators.modified_ns == 0:
        return None
    date_s = parse_http_date(values[0], now_s)
    return None if date_s is None else validators.modified_ns // NS_PER_S <= date_s


def _matches(tags: Sequence[EntityTag], whole: Response, *, weakly: bool) -> bool:
    """RFC 9110 section 8.8.3.2; ours are strong, so only the client's may be weak."""
    if ANY_TAG in tags:
        return True
    etag = None if whole.validators is None else whole.validators.etag
    return any(tag.opaque == etag and (weakly or not tag.is_weak) for tag in tags)


def _is_not_modified(request: Request, whole: Response, now_s: float) -> bool:
    """Evaluate preconditions in the order of RFC 9110 section 13.2.2. Returns whether 304 is due.

    Raises:
        PreconditionFailedError: 412 is.
    """
    if values := request.values(b"if-match"):
        if not _matches(parse_entity_tags(values), whole, weakly=False):
            raise PreconditionFailedError("the entity tag is not among those of If-Match")
    elif _is_unmodified_since(request, b"if-unmodified-since", whole, now_s) is False:
        raise PreconditionFailedError("the data changed after the date of If-Unmodified-Since")
    if values := request.values(b"if-none-match"):
        return _matches(parse_entity_tags(values), whole, weakly=True)
    return _is_unmodified_since(request, b"if-modified-since", whole, now_s) is True


def select(request: Request, whole: Response, *, now_s: float, boundary: bytes) -> Response:
    """Apply the preconditions and ranges of `request` to `whole`, the 200 it gets without them.

    Returns `whole`, a 304, or a 206 whose parts are kept apart by `boundary`.

    Raises:
        PreconditionFailedError: a precondition does not hold.
        RangeError: none of the ranges asked for is there.
    """
    found = unchanged(request, whole, now_s)
    if found is not None:
        return found
    specs = _ranges_wanted(request, whole)
    return whole if specs is None else _part_of(request, whole, specs, boundary)


def unchanged(request: Request, whole: Response, now_s: float) -> Response | None:
    """The 304, where it is due; of `whole`, the fields and validators of the 200 are enough.

    Raises:
        PreconditionFailedError: a precondition does not hold.
    """
    assert whole.status == 200, "other answers are given as they are, section 13.2.1"  # noqa: PLR2004
    if not _is_not_modified(request, whole, now_s):
        return None
    if whole.unchanged is None:
        fields = tuple(field for field in whole.fields if field[0] not in _METADATA)
        whole.unchanged = Response(304, fields)
    return whole.unchanged


# ---- ranges, RFC 9110 section 14


def _ranges_wanted(request: Request, whole: Response) -> list[RangeSpec] | None:
    """The ranges to answer with, or None: sections 13.1.5 and 14.2."""
    values = request.values(b"range")
    if request.method != b"GET" or whole.validators is None or len(values) != 1:
        return None
    if ACCEPT_RANGES not in whole.fields:
        return None
    conditions = request.values(b"if-range")
    # A date is never strong here: files may be replaced by older ones, and days removed.
    if conditions and conditions != [whole.validators.etag]:
        return None
    return parse_ranges(values[0])


def _part_of(
    request: Request, whole: Response, specs: list[RangeSpec], boundary: bytes
) -> Response:
    """The 206: RFC 9110 section 15.3.7."""
    parts = satisfiable(specs, whole.nbytes)
    fields = whole.fields
    if request.values(b"if-range"):  # the client has them already, section 15.3.7
        fields = tuple(field for field in fields if field[0] not in _METADATA)
    if len(parts) == 1:
        told = (b"Content-Range", content_range(parts[0], whole.nbytes))
        content, segments = cut_part(whole, parts[0])
        nbytes = parts[0].stop - parts[0].first
        return Response(206, (*fields, told), content, segments, nbytes=nbytes)
    lines = [b"%b: %b" % each for each in whole.fields if each[0] in _OF_PARTS]
    content, segments = cut_many(whole, parts, boundary, lines)
    nbytes = len(content) + sum(segment.count for segment in segments)
    return Response(206, _with_media_type(fields, boundary), content, segments, nbytes=nbytes)


def _with_media_type(fields: Fields, boundary: bytes) -> Fields:
    others = tuple(field for field in fields if field[0] not in _OF_PARTS)
    return ((_CONTENT_TYPE, b"multipart/byteranges; boundary=" + boundary), *others)
