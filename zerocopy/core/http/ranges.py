"""Parts of a body: the Range field in, the bytes of a response out. RFC 9110 section 14.

Owns the grammar of byte ranges, which of them a body can satisfy, and how a part is cut out of
content and segments. Nothing is read and nothing copied but the header line: a part of a segment is
the same source at other offsets, so the kernel sends it as it sends the whole.

Several ranges become multipart/byteranges. Overlapping ones are joined, so a response never holds a
byte twice, and besides them only the heads of at most 16 parts; the work is linear in the field and
in the parts, with one bisection for each end of a range.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, NamedTuple

from zerocopy.core.errors import RangeError
from zerocopy.core.plan import Segment, in_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.http.messages import Response

RANGES_MAX = 16
"""Ranges of one request; more are refused with 416."""

_UNIT = b"bytes="
# Possessive, and with all separators before it: a field is read once, element by element.
_ELEMENT = re.compile(rb"[ \t,]*+(?:([0-9]++)-([0-9]*+)|-([0-9]++))[ \t]*+(?:,|\Z)")
_SEPARATORS = b" \t,"
_DIGITS_MAX = 18
_UNBOUNDED = 10**_DIGITS_MAX
"""Stands for every number of more digits; no body is as long."""


class ByteRange(NamedTuple):
    """The bytes [first, stop) of a body; `first` < `stop`."""

    first: int
    stop: int


class RangeSpec(NamedTuple):
    """One range as it was asked for: `first` to `last`, both inclusive.

    `last` None: to the end. `first` None: the last `last` bytes.
    """

    first: int | None
    last: int | None


def parse_ranges(value: bytes) -> list[RangeSpec] | None:
    """The ranges of a Range field, or None where it must or may be ignored.

    That is another unit than bytes, or a set that holds anything but ranges (section 14.2). Empty
    elements of the list are skipped (section 5.6.1.2). What follows one range too many is not read.
    """
    if value[: len(_UNIT)].lower() != _UNIT:
        return None
    specs: list[RangeSpec] = []
    text, position = value[len(_UNIT) :].rstrip(_SEPARATORS), 0
    while position < len(text) and len(specs) <= RANGES_MAX:
        match = _ELEMENT.match(text, position)
        if match is None:
            return None
        position = match.end()
        first, last, suffix = (digits and digits.lstrip(b"0") for digits in match.groups())
        if suffix is not None:
            specs.append(RangeSpec(None, _number(suffix)))
        elif not match[2]:
            specs.append(RangeSpec(_number(first), None))
        elif (len(last), last) < (len(first), first):
            return None
        else:
            specs.append(RangeSpec(_number(first), _number(last)))
    return specs or None


def _number(digits: bytes) -> int:
    """Digits without leading zeros as a number; int() refuses thousands of them."""
    return int(digits or b"0") if len(digits) <= _DIGITS_MAX else _UNBOUNDED


def satisfiable(specs: Sequence[RangeSpec], nbytes: int) -> list[ByteRange]:
    """Cut `specs` to a body of `nbytes`, in the order asked for. Drops those beyond its end.

    Ranges that overlap are joined in the place of the first of them (section 15.3.7.2).

    Raises:
        RangeError: there are too many, or the body has no byte of any.
    """
    if len(specs) > RANGES_MAX:
        raise RangeError(f"the Range field may hold at most {RANGES_MAX} ranges", nbytes)
    found: list[tuple[ByteRange, int]] = []
    for place, spec in enumerate(specs):
        part = _clamp(spec, nbytes)
        if part.first < part.stop:
            found.append((part, place))
    if not found:
        raise RangeError(f"the Range field must ask for some of {nbytes} bytes", nbytes)
    found.sort()
    joined = found[:1]
    for (first, stop), place in found[1:]:
        (begun, end), earlier = joined[-1]
        if first < end:
            joined[-1] = (ByteRange(begun, max(end, stop)), min(place, earlier))
        else:
            joined.append((ByteRange(first, stop), place))
    joined.sort(key=lambda item: item[1])
    return [part for part, _ in joined]


def _clamp(spec: RangeSpec, nbytes: int) -> ByteRange:
    """Cut one range to a body of `nbytes`; it is empty if `first` is not below `stop`."""
    first, last = spec
    if first is not None:
        return ByteRange(first, nbytes if last is None else min(nbytes, last + 1))
    assert last is not None, "a suffix has a length"
    return ByteRange(max(0, nbytes - last), nbytes)


def content_range(part: ByteRange, nbytes: int) -> bytes:
    """The Content-Range of a part of a body of `nbytes`, section 14.4."""
    return b"bytes %d-%d/%d" % (part.first, part.stop - 1, nbytes)


def cut_part(whole: Response, part: ByteRange) -> tuple[bytes, tuple[Segment, ...]]:
    """The bytes of `part` as content and the segments after it."""
    assert 0 <= part.first < part.stop <= whole.nbytes, "a part of this body"
    content, ends = whole.content[part.first : part.stop], whole.ends
    assert ends is not None, "a whole body, not a part of one"
    first, stop = (max(0, position - len(whole.content)) for position in part)
    if first == stop:
        return content, ()
    index, last = bisect_right(ends, first), bisect_left(ends, stop)
    begun = ends[index] - whole.segments[index].count
    if index == last:
        return content, (_shorten(whole.segments[index], first - begun, ends[last] - stop),)
    head = _shorten(whole.segments[index], first - begun, 0)
    tail = _shorten(whole.segments[last], 0, ends[last] - stop)
    return content, (head, *whole.segments[index + 1 : last], tail)


def _shorten(segment: Segment, before: int, behind: int) -> Segment:
    """A segment without its first and last bytes."""
    count = segment.count - before - behind
    return Segment(segment.source, segment.offset + before, count)


def cut_many(
    whole: Response, parts: Sequence[ByteRange], boundary: bytes, fields: Sequence[bytes]
) -> tuple[bytes, tuple[Segment, ...]]:
    """The body of a multipart/byteranges response, section 14.6: content and the segments after it.

    `fields` are the lines that each part carries besides Content-Range. What is in memory before
    the first segment is content, what is between and after segments are segments in memory.
    """
    segments: list[Segment] = []
    content = None
    pending = b""
    for part in parts:
        lines = (b"--" + boundary, *fields, b"Content-Range: " + content_range(part, whole.nbytes))
        own_content, own_segments = cut_part(whole, part)
        pending += b"\r\n".join((*lines, b"", own_content))
        if own_segments:
            if content is None:
                content = pending
            else:
                segments.append(in_memory(pending))
            segments += own_segments
            pending = b""
        pending += b"\r\n"
    pending += b"--" + boundary + b"--\r\n"
    if content is None:
        return pending, ()
    return content, (*segments, in_memory(pending))
