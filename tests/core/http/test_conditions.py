"""Entity tags and HTTP-dates: what is one, what is none, and nothing in between."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.core.http.conditions import (
    ANY_TAG,
    TAGS_MAX,
    EntityTag,
    parse_entity_tags,
    parse_http_date,
)

NOW_S = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
MOMENT_S = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 section 5.6.7


def strong(*opaque: bytes) -> tuple[EntityTag, ...]:
    """Strong tags."""
    return tuple(EntityTag(text, is_weak=False) for text in opaque)


@each(
    ("values", "tags"),
    [
        ([b'"a"'], strong(b'"a"')),
        ([b'""'], strong(b'""')),
        ([b'W/"a"'], (EntityTag(b'"a"', is_weak=True),)),
        ([b'"a","b" ,\t"c"'], strong(b'"a"', b'"b"', b'"c"')),
        ([b'"a"', b'"b"'], strong(b'"a"', b'"b"')),
        ([b'"a, b"'], ()),  # a blank is no etagc
        ([b'"a,b"'], strong(b'"a,b"')),
        ([b',, "a",, ,"b",'], strong(b'"a"', b'"b"')),
        ([b'"a", ,'], strong(b'"a"')),
        ([b'"\x80\xff!#~"'], strong(b'"\x80\xff!#~"')),
        ([b"*"], (ANY_TAG,)),
        ([b" *\t"], (ANY_TAG,)),
        ([b'*, "a"'], ()),
        ([b"*\x0b"], ()),
        ([b"X*"], ()),
        ([b"a"], ()),
        ([b"'a'"], ()),
        ([b'"a'], ()),
        ([b'"a" "b"'], ()),
        ([b'"a"b'], ()),
        ([b'w/"a"'], ()),  # case-sensitive, section 8.8.3
        ([b'W/ "a"'], ()),
        ([b'"a\x7f"'], ()),
        ([b'"a"\n'], ()),
        ([b""], ()),
        ([], ()),
    ],
)
def test_entity_tags_of_a_field(values: list[bytes], tags: tuple[EntityTag, ...]) -> None:
    """Lists over several lines, empty elements, weakness; a malformed field has no member."""
    assert parse_entity_tags(values) == tags


def test_a_field_has_at_most_64_tags() -> None:
    """More are treated as malformed: nobody holds so many states of one answer."""
    tags = [b'"%d"' % number for number in range(TAGS_MAX)]
    assert parse_entity_tags([b",".join(tags)]) == strong(*tags)
    assert parse_entity_tags([b",".join([*tags, b'"x"'])]) == ()


@given(
    st.lists(
        max_size=TAGS_MAX,
        elements=st.tuples(
            st.from_regex(rb'"[\x21\x23-\x7e\x80-\xff]*"', fullmatch=True), st.booleans()
        ),
    )
)
def test_entity_tags_come_out_as_they_went_in(members: list[tuple[bytes, bool]]) -> None:
    """Any list of any tags."""
    value = b", ".join((b"W/" if weak else b"") + opaque for opaque, weak in members)
    assert parse_entity_tags([value]) == tuple(EntityTag(*member) for member in members)


@pytest.mark.parametrize("filler", [b" ", b"\t", b",", b" ,", b'"', b'W/"', b'"a" ', b"W"])
def test_entity_tags_take_linear_time(filler: bytes) -> None:
    """Two megabytes of what could be tried again and again: quadratic work would take hours."""
    assert parse_entity_tags([filler * (2_000_000 // len(filler)) + b"x"]) == ()


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
    ],
)
def test_http_date_has_three_forms(value: bytes) -> None:
    """The examples of RFC 9110 section 5.6.7, all the same second."""
    assert parse_http_date(value, NOW_S) == MOMENT_S


@each(
    "value",
    [
        b"",
        b"0",
        b"784111777",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 00 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:00 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sunday, 06-Nov-1994 08:49:37 GMT",
        b"Sun, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov 6 08:49:37 1994",
        b"Sun Nov  6 08:49:37 1994 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:\xef\xbc\x93\xef\xbc\x97 GMT",  # digits of another script
    ],
)
def test_what_is_no_http_date(value: bytes) -> None:
    """Case, zones, missing digits, days that are not: the field is to be ignored."""
    assert parse_http_date(value, NOW_S) is None


@pytest.mark.parametrize(
    ("year", "full"), [(b"26", 2026), (b"27", 2027), (b"76", 2076), (b"77", 1977), (b"99", 1999)]
)
def test_two_digits_of_a_year_are_never_far_in_the_future(year: bytes, full: int) -> None:
    """More than 50 years ahead means the past, RFC 9110 section 5.6.7."""
    expected_s = datetime(full, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
    assert parse_http_date(b"Sunday, 06-Nov-" + year + b" 08:49:37 GMT", NOW_S) == expected_s


def test_two_digits_of_a_year_are_counted_from_the_year_in_utc(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New Year's Eve in UTC, New Year in Tokyo: 2077 is still 51 years ahead."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        eve_s = datetime(2026, 12, 31, 20, tzinfo=UTC).timestamp()
        past_s = datetime(1977, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
        assert parse_http_date(b"Sunday, 06-Nov-77 08:49:37 GMT", eve_s) == past_s
    finally:
        monkeypatch.undo()
        time.tzset()


def test_leap_second_is_the_second_after() -> None:
    """A recipient must take second 60; unix time has no name of its own for it."""
    leap_s = parse_http_date(b"Sat, 31 Dec 2016 23:59:60 GMT", NOW_S)
    assert leap_s == datetime(2017, 1, 1, tzinfo=UTC).timestamp()


@given(st.integers(-62_135_596_800, 253_402_300_799))
def test_every_date_that_is_sent_is_understood(time_s: int) -> None:
    """What formatdate makes of any second of the years 1 to 9999."""
    assert parse_http_date(formatdate(time_s, usegmt=True).encode(), NOW_S) == time_s
