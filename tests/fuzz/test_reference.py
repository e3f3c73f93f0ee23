"""The reference of sections 13 and 14: the examples of the RFC, and that its judge can fail."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.fuzz.reference import Outcome, Representation, expected, parse_date
from tests.table import each

CHANGED = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
DATE, BEFORE = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT"
WHOLE = Outcome(200, ((0, 9_999),))
OF_10_000 = Representation('"xyzzy"', CHANGED, 10_000)


def part(*spans: tuple[int, int]) -> Outcome:
    """A 206 with these spans."""
    return Outcome(206, spans)


@each(
    ("fields", "outcome"),
    [
        # Section 14.1.2.
        ([("Range", "bytes=0-499")], part((0, 499))),
        ([("Range", "bytes=500-999")], part((500, 999))),
        ([("Range", "bytes=-500")], part((9_500, 9_999))),
        ([("Range", "bytes=9500-")], part((9_500, 9_999))),
        ([("Range", "bytes=0-0,-1")], part((0, 0), (9_999, 9_999))),
        (
            [("Range", "bytes= 0-999, 4500-5499, -1000")],
            part((0, 999), (4_500, 5_499), (9_000, 9_999)),
        ),
        ([("Range", "bytes=500-600,601-999")], part((500, 600), (601, 999))),
        ([("Range", "bytes=500-700,601-999")], part((500, 999))),
        ([("Range", "bytes=10000-")], Outcome(416)),
        ([("Range", "bytes=-0")], Outcome(416)),
        ([("Range", "bytes=-0,5-5")], part((5, 5))),
        ([("Range", "bytes=5-4")], WHOLE),
        ([("Range", "lines=0-1")], WHOLE),
        ([("Range", "bytes=0-1"), ("Range", "bytes=2-3")], WHOLE),
        # The union stands where the first of its members stood.
        ([("Range", "bytes=20-21,50-51,0-1,1-20")], part((0, 21), (50, 51))),
        ([("Range", "bytes=" + ",".join(["0-0"] * 16))], part((0, 0))),
        ([("Range", "bytes=" + ",".join(["0-0"] * 17))], Outcome(416)),
        # Section 13.1.5: If-Range.
        ([("Range", "bytes=0-0"), ("If-Range", '"xyzzy"')], part((0, 0))),
        ([("Range", "bytes=0-0"), ("If-Range", 'W/"xyzzy"')], WHOLE),
        ([("Range", "bytes=0-0"), ("If-Range", DATE)], WHOLE),
        # Sections 13.1.1 to 13.1.4, and their order (13.2.2).
        ([("If-Match", '"a", "xyzzy"')], WHOLE),
        ([("If-Match", 'W/"xyzzy"')], Outcome(412)),
        ([("If-Match", "*"), ("If-Unmodified-Since", BEFORE)], WHOLE),
        ([("If-Match", '"xyzzy')], Outcome(412)),
        ([("If-Unmodified-Since", BEFORE)], Outcome(412)),
        ([("If-Unmodified-Since", DATE)], WHOLE),
        ([("If-None-Match", 'W/"xyzzy"')], Outcome(304)),
        ([("If-None-Match", "*"), ("Range", "bytes=0-0")], Outcome(304)),
        ([("If-None-Match", '"a"'), ("If-Modified-Since", DATE)], WHOLE),
        ([("If-Modified-Since", DATE), ("Range", "bytes=0-0")], Outcome(304)),
        ([("If-Modified-Since", BEFORE), ("Range", "bytes=99999-")], Outcome(416)),
        ([("If-Modified-Since", DATE), ("If-Modified-Since", DATE)], WHOLE),
        ([("If-Match", '"a"'), ("If-None-Match", "*")], Outcome(412)),
    ],
)
def test_reference_agrees_with_the_text(fields: list[tuple[str, str]], outcome: Outcome) -> None:
    """Examples of RFC 9110, and the choices that it leaves to a server."""
    assert expected("GET", fields, OF_10_000) == outcome
    if outcome.status in {206, 416}:
        assert expected("HEAD", fields, OF_10_000) == WHOLE


@pytest.mark.parametrize(
    "text", [DATE, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_each_form_of_a_date_is_read(text: str) -> None:
    """The three examples of section 5.6.7 are the same moment; one letter less is no date."""
    assert parse_date(text) == CHANGED
    assert parse_date(text[:-1]) is None
    assert parse_date(text.lower()) is None


def test_content_range_is_told_where_it_must_be() -> None:
    """With one part and with none; never in the head of several, nor of everything."""
    assert part((0, 1)).content_range(9) == "bytes 0-1/9"
    assert Outcome(416).content_range(9) == "bytes */9"
    assert part((0, 1), (3, 4)).content_range(9) is None
    assert WHOLE.content_range(10_000) is None
