"""Byte ranges: their grammar, which can be had, and the bytes that are cut out of a body."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.core.errors import RangeError
from zerocopy.core.http.messages import Response
from zerocopy.core.http.ranges import (
    RANGES_MAX,
    ByteRange,
    RangeSpec,
    content_range,
    cut_many,
    cut_part,
    parse_ranges,
    satisfiable,
)
from zerocopy.core.plan import Segment, in_memory

BODY = bytes(range(100))
MANY = 10**18


@each(
    ("value", "specs"),
    [
        (b"bytes=0-0", [(0, 0)]),
        (b"bytes=5-", [(5, None)]),
        (b"bytes=-5", [(None, 5)]),
        (b"bytes=-0", [(None, 0)]),
        (b"BYTES=1-2", [(1, 2)]),
        (b"bytes=0-1,5-6", [(0, 1), (5, 6)]),
        (b"bytes= 0-1 ,\t5-6 ", [(0, 1), (5, 6)]),
        (b"bytes=,,0-1,,", [(0, 1)]),
        (b"bytes=007-0000008", [(7, 8)]),
        (b"bytes=0-" + b"9" * 18, [(0, MANY - 1)]),
        (b"bytes=0-" + b"9" * 5_000, [(0, MANY)]),
        (b"bytes=" + b"9" * 5_000 + b"-", [(MANY, None)]),
        (b"bytes=-" + b"9" * 5_000, [(None, MANY)]),
        (b"bytes=" + b"0" * 5_000 + b"-1", [(0, 1)]),
    ],
)
def test_ranges_of_a_field(value: bytes, specs: list[tuple[int | None, int | None]]) -> None:
    """Every form of RFC 9110 section 14.1.2, lists with blanks and empty elements, huge numbers."""
    assert parse_ranges(value) == specs


@each(
    "value",
    [
        b"", b"bytes", b"bytes=", b"bytes=,", b"bytes=-", b"bytes=a-b", b"bytes=1", b"bytes=2-1",
        b"bytes=1-2-3", b"bytes=+1-2", b"bytes=1 - 2", b"bytes =1-2", b"bytes:1-2", b" bytes=1-2",
        b"bytes=0-1;2-3", b"bytes=0-1,x", b"bytes=X0-1", b"bytes=0-1X", b"bytes=0x0-0x1",
        b"bytes=1_0-2_0", b"bytes=--1",
        b"records=0-1", b"none", b"bytes=0-1\n", b"bytes=0-\xef\xbc\x91", b"bytes=*",
        b"bytes=1" + b"0" * 5_000 + b"-9" + b"0" * 4_999,
    ],
)  # fmt: skip
def test_what_is_no_set_of_byte_ranges(value: bytes) -> None:
    """Another unit must be ignored, and one invalid member invalidates the set."""
    assert parse_ranges(value) is None


@each(
    ("specs", "parts"),
    [
        ([(0, 0)], [(0, 1)]),
        ([(0, None)], [(0, 100)]),
        ([(99, 99)], [(99, 100)]),
        ([(99, MANY)], [(99, 100)]),
        ([(None, 1)], [(99, 100)]),
        ([(None, 100)], [(0, 100)]),
        ([(None, MANY)], [(0, 100)]),
        ([(100, 200), (1, 2)], [(1, 3)]),
        ([(None, 0), (1, 2)], [(1, 3)]),
        ([(5, 9), (0, 4)], [(5, 10), (0, 5)]),  # adjacent, each in its place
        ([(5, 9), (0, 5)], [(0, 10)]),
        ([(50, 60), (0, 9), (5, 20), (70, 80)], [(50, 61), (0, 21), (70, 81)]),
        ([(0, 99), (3, 4), (90, 95)], [(0, 100)]),
        ([(7, 7)] * 16, [(7, 8)]),
        ([(0, 10), (20, 30), (5, 25)], [(0, 31)]),
    ],
)
def test_parts_that_a_body_has(
    specs: list[tuple[int | None, int | None]], parts: list[tuple[int, int]]
) -> None:
    """Clamped to 100 bytes, in the order asked for, joined where they overlap."""
    assert satisfiable([RangeSpec(*spec) for spec in specs], len(BODY)) == parts


@pytest.mark.parametrize(
    "specs", [[(100, None)], [(100, 100)], [(MANY, None)], [(None, 0)], [(200, 300), (None, 0)]]
)
def test_parts_that_a_body_has_not(specs: list[tuple[int | None, int | None]]) -> None:
    """416, which tells how many bytes there are."""
    with pytest.raises(RangeError) as caught:
        satisfiable([RangeSpec(*spec) for spec in specs], len(BODY))
    assert caught.value.nbytes == len(BODY)
    assert caught.value.detail == "the Range field must ask for some of 100 bytes"


def test_ranges_are_counted_before_they_are_joined() -> None:
    """Sixteen are answered; the seventeenth is refused even where all are the same."""
    assert satisfiable([RangeSpec(0, 0)] * RANGES_MAX, 1) == [(0, 1)]
    with pytest.raises(RangeError, match="at most 16") as caught:
        satisfiable([RangeSpec(0, 0)] * (RANGES_MAX + 1), 1)
    assert caught.value.nbytes == 1


def test_what_follows_one_range_too_many_is_not_read() -> None:
    """Seventeen of thousands are enough to refuse them all, whatever comes behind."""
    specs = parse_ranges(b"bytes=" + b"0-0," * 2_000 + b"x")
    assert specs is not None
    assert len(specs) == RANGES_MAX + 1


@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 30)), min_size=1, max_size=RANGES_MAX)
)
def test_parts_hold_what_was_asked_for_once(pairs: list[tuple[int, int]]) -> None:
    """The same bytes as all ranges together, none twice; parts may touch and do not overlap."""
    wanted = [b for first, more in pairs for b in range(first, first + more + 1) if b < 100]
    if not wanted:
        return
    parts = satisfiable([RangeSpec(first, first + more) for first, more in pairs], len(BODY))
    given_bytes = [b for part in parts for b in range(*part)]
    assert len(given_bytes) == len(set(given_bytes))
    assert set(given_bytes) == set(wanted)
    assert len(parts) <= len(pairs)


@pytest.mark.parametrize(
    ("element", "is_set"),
    [(b" ", False), (b",", False), (b"0", False), (b"0-", False), (b"-1,", True), (b"0-0,", True)],
)
def test_ranges_take_linear_time(element: bytes, is_set: bool) -> None:  # noqa: FBT001
    """Two megabytes of one field: quadratic work would take hours."""
    specs = parse_ranges(b"bytes=" + element * (2_000_000 // len(element)))
    assert (specs is not None) == is_set
    with pytest.raises(RangeError):
        satisfiable(specs or [RangeSpec(9, 9)], 1)


def body_of(content: int, sizes: list[int]) -> Response:
    """A response whose body is the beginning of `BODY`: content, then segments of these sizes.

    Each segment begins behind a margin in its source.
    """
    segments, position = [], content
    for size in sizes:
        whole = in_memory(b"margin" + BODY[position : position + size] + b"tail")
        segments.append(Segment(whole.source, 6, size))
        position += size
    return Response(200, (), BODY[:content], tuple(segments))


def bytes_of(content: bytes, segments: tuple[Segment, ...]) -> bytes:
    """What would be sent."""
    assert all(segment.count > 0 for segment in segments)
    views = [segment.source.view(segment.offset, segment.count) for segment in segments]
    return content + b"".join(views)


@given(st.integers(0, 30), st.lists(st.integers(1, 20), max_size=3), st.integers(0), st.integers(0))
def test_cut_is_the_slice_of_the_body(content: int, sizes: list[int], a: int, b: int) -> None:
    """Any part of any body, whatever ends fall together."""
    whole = body_of(content, sizes)
    if whole.nbytes == 0:
        return
    first = a % whole.nbytes
    stop = first + 1 + b % (whole.nbytes - first)
    assert bytes_of(*cut_part(whole, ByteRange(first, stop))) == BODY[first:stop]


def test_cut_at_every_place_of_a_small_body() -> None:
    """All parts of content and three segments, one of a single byte."""
    whole = body_of(3, [2, 1, 4])
    for first in range(10):
        for stop in range(first + 1, 11):
            content, segments = cut_part(whole, ByteRange(first, stop))
            assert bytes_of(content, segments) == BODY[first:stop]
            assert content == BODY[first : min(stop, 3)]


@pytest.mark.parametrize("part", [(5, 5), (6, 5), (-1, 3), (0, 11)])
def test_cut_of_no_part_is_a_programmers_error(part: tuple[int, int]) -> None:
    """Empty, reversed, or beyond a body of ten bytes."""
    with pytest.raises(AssertionError, match="part of this body"):
        cut_part(body_of(3, [2, 1, 4]), ByteRange(*part))


@given(
    st.integers(0, 30),
    st.lists(st.integers(1, 20), max_size=3),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), min_size=1, max_size=RANGES_MAX),
)
def test_multipart_is_what_a_mail_parser_reads(
    content: int, sizes: list[int], pairs: list[tuple[int, int]]
) -> None:
    """Each part with its Content-Type and Content-Range, its bytes exact; RFC 2046 section 5.1."""
    whole = body_of(content, sizes)
    parts = [ByteRange(a, a + 1 + b) for a, b in pairs if a + 1 + b <= whole.nbytes]
    if not parts:
        return
    body = bytes_of(*cut_many(whole, parts, b"b0undary", [b"Content-Type: a/b"]))
    head = b"Content-Type: multipart/byteranges; boundary=b0undary\r\n\r\n"
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    assert message.is_multipart()
    assert not message.defects
    found = list(message.iter_parts())
    assert len(found) == len(parts)
    sections = body.split(b"--b0undary")
    for part, section, expected in zip(found, sections[1:], parts, strict=False):
        assert part["Content-Type"] == "a/b"
        assert part["Content-Range"].encode() == content_range(expected, whole.nbytes)
        exact = section.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        assert exact == BODY[expected.first : expected.stop]
    assert body.endswith(b"\r\n--b0undary--\r\n")


def test_multipart_of_files_copies_only_what_is_between_them() -> None:
    """Parts of segments stay segments of their sources, so the kernel can send them."""
    whole = body_of(10, [20, 20])
    content, segments = cut_many(whole, [ByteRange(15, 45), ByteRange(0, 5)], b"b", [])
    assert content == b"--b\r\nContent-Range: bytes 15-44/50\r\n\r\n"
    assert [segment.source for segment in segments[:2]] == [s.source for s in whole.segments]
    assert [(s.offset, s.count) for s in segments[:2]] == [(11, 15), (6, 15)]
    assert len(segments) == 3


def test_content_range_counts_from_zero_and_includes_the_last_byte() -> None:
    """RFC 9110 section 14.4."""
    assert content_range(ByteRange(0, 500), 1234) == b"bytes 0-499/1234"
