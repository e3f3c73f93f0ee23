"""What an answer is worth later: validators, freshness, preconditions, parts.

Owns ETag, Last-Modified and Cache-Control of a data answer (RFC 9110 section 8.8, RFC 9111 section
5.2), and what a request's conditional fields make of an answer (RFC 9110 sections 13 and 14). The
clock is a value that comes in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email.utils import formatdate
from itertools import islice
from typing import TYPE_CHECKING

from zerocopy.core.errors import PreconditionFailedError
from zerocopy.core.http.conditions import ANY_TAG, EntityTag, parse_entity_tags, parse_http_date
from zerocopy.core.http.messages import Response
from zerocopy.core.http.ranges import content_range, cut, cut_many, parse_ranges, satisfiable
from zerocopy.core.layout import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zerocopy.core.http.messages import Fields, Request
    from zerocopy.core.http.ranges import RangeSpec

_ETAG_BYTES = 16
_NS_PER_S = 1_000_000_000
_CONTENT_TYPE = b"Content-Type"
ACCEPT_RANGES = (b"Accept-Ranges", b"bytes")
"""The field of what may be asked for in parts, section 14.3; a response without it has none."""

_METADATA = frozenset({_CONTENT_TYPE, b"Last-Modified", ACCEPT_RANGES[0]})
"""What a client has that names the representation by its tag: sections 15.3.7 and 15.4.5."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one state of an answer from another.

    `etag` is a strong entity tag, quotes included. `modified_ns` is the newest modification of a
    file in the answer in unix nanoseconds, 0 where it holds none. Both are equal on replicas.
    """

    etag: bytes
    modified_ns: int


@dataclass(frozen=True, slots=True)
class Settling:
    """When a day is closed: the one rule for what caches may keep and what is mapped.

    `settle_s` are the seconds without a change that close a past day, `gap_days` the days that a
    calendar day without files counts as open after its end.
    """

    settle_s: float
    gap_days: int

    def closes_s(self, day: int, changed_ns: int) -> float:
        """The unix second from which a day is closed whose files changed last at `changed_ns`.

        That is the newest of their modification and change times: a copy that keeps the first
        (rsync -a, cp -p) moves the second, and files of a day are copied one after another.
        """
        return max((day + 1) * DAY_S, changed_ns / _NS_PER_S + self.settle_s)

    def gaps_close_s(self, first_day: int, last_day: int, days: Sequence[int]) -> float:
        """The unix second from which no day from `first_day` to `last_day` without files is open.

        `days` are those with files, ascending. The last gap decides, and one from before the last
        `gap_days` is closed when the last day is past, so no more of them are looked at.
        """
        gap = last_day
        for day in islice(reversed(days), self.gap_days):
            if day != gap:
                break
            gap -= 1
        return 0.0 if gap < first_day else float((gap + 1 + self.gap_days) * DAY_S)


def validators_of(header: bytes, stamps: Iterable[tuple[int, int, int, int]]) -> Validators:
    """The validators of an answer with this header line.

    `stamps` holds, for `time` and each column of each day that was read, the first byte of its
    range, the bytes in it, the file's size in bytes and its modification time in unix nanoseconds:
    what a copy that keeps times (rsync -a, cp -p) has in common with its original, and nothing else
    has. Inode, device and change time are left out, so that replicas agree.
    """
    digest = hashlib.blake2b(header, digest_size=_ETAG_BYTES)
    modified_ns = 0
    for stamp in stamps:
        digest.update(b"%d %d %d %d\n" % stamp)
        modified_ns = max(modified_ns, stamp[3])
    return Validators(etag=_etag(digest), modified_ns=modified_ns)


def document_validators(content: bytes) -> Validators:
    """The validators of a whole document: a tag of its bytes, and no date."""
    return Validators(etag=_etag(hashlib.blake2b(content, digest_size=_ETAG_BYTES)), modified_ns=0)


def _etag(digest: hashlib.blake2b) -> bytes:
    return b'"' + digest.hexdigest().encode() + b'"'


def http_date(time_s: float) -> bytes:
    """An IMF-fixdate, RFC 9110 section 5.6.7."""
    return formatdate(int(time_s), usegmt=True).encode("ascii")


def last_modified(validators: Validators, date_s: int) -> bytes | None:
    """Last-Modified, never later than Date (RFC 9110 section 8.8.2.1); None without files.

    `date_s` is a unix second that the Date of no response from now on can be earlier than.
    """
    if validators.modified_ns == 0:
        return None
    return http_date(min(validators.modified_ns // _NS_PER_S, date_s))


def cache_control(closes_s: float, now_s: float, closed_max_age_s: int) -> bytes:
    """Cache-Control: shared caches may keep what is closed; what is open is always asked again.

    `closes_s` is the unix second from which every day of the answer is closed.
    `no-transform` keeps a CDN from compressing, which would drop Content-Length.
    """
    if now_s < closes_s:
        return b"no-cache, no-transform"
    return b"public, max-age=%d, no-transform" % closed_max_age_s


# ---- preconditions, RFC 9110 section 13


def _is_unmodified_since(
    request: Request, name: bytes, whole: Response, now_s: float
) -> bool | None:
    """Whether nothing changed after the date in a field; None where there is nothing to compare."""
    values, validators = request.values(name), whole.validators
    if len(values) != 1 or validators is None or validators.modified_ns == 0:
        return None
    date_s = parse_http_date(values[0], now_s)
    return None if date_s is None else validators.modified_ns // _NS_PER_S <= date_s


def _matches(tags: Sequence[EntityTag], whole: Response, *, weakly: bool) -> bool:
    """RFC 9110 section 8.8.3.2; ours are strong, so only the client's may be weak."""
    if ANY_TAG in tags:
        return True
    etag = None if whole.validators is None else whole.validators.etag
    return any(tag.opaque == etag and (weakly or not tag.is_weak) for tag in tags)


def _is_not_modified(request: Request, whole: Response, now_s: float) -> bool:
    """Evaluate the preconditions in the order of RFC 9110 section 13.2.2; whether 304 is due.

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
    """What `request` gets of `whole`, the 200 it would get without its conditional fields.

    That is `whole`, a 304, or a 206 whose parts are kept apart by `boundary`.

    Raises:
        PreconditionFailedError: a precondition does not hold.
        RangeError: none of the ranges asked for is there.
    """
    assert whole.status == 200, "other answers are given as they are, section 13.2.1"  # noqa: PLR2004
    if _is_not_modified(request, whole, now_s):
        if whole.unchanged is None:
            fields = tuple(field for field in whole.fields if field[0] not in _METADATA)
            whole.unchanged = Response(304, fields)
        return whole.unchanged
    specs = _ranges_wanted(request, whole)
    return whole if specs is None else _part_of(request, whole, specs, boundary)


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
        content, segments = cut(whole, parts[0])
        nbytes = parts[0].stop - parts[0].first
        return Response(206, (*fields, told), content, segments, nbytes=nbytes)
    media_types = [
        b"Content-Type: " + value for name, value in whole.fields if name == _CONTENT_TYPE
    ]
    content, segments = cut_many(whole, parts, boundary, media_types)
    nbytes = len(content) + sum(segment.count for segment in segments)
    return Response(206, _with_media_type(fields, boundary), content, segments, nbytes=nbytes)


def _with_media_type(fields: Fields, boundary: bytes) -> Fields:
    others = tuple(field for field in fields if field[0] != _CONTENT_TYPE)
    return ((_CONTENT_TYPE, b"multipart/byteranges; boundary=" + boundary), *others)
