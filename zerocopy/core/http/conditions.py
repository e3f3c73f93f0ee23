"""The values of conditional fields: entity tags and dates, as RFC 9110 spells them.

Owns their grammar (sections 8.8.3, 13.1 and 5.6.7), strictly: what is not spelled so is nothing,
and its field is treated as the RFC says. What becomes of a response is the affair of `semantics`.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class EntityTag(NamedTuple):
    """An entity tag as a client sent it; `opaque` keeps its quotes."""

    opaque: bytes
    is_weak: bool


TAGS_MAX = 64
"""Members of one field; one that has more is treated as malformed."""

ANY_TAG = EntityTag(b"*", is_weak=False)

# Possessive: a field of nothing but blanks is read once, not once for each of them.
_TAG_ELEMENT = re.compile(
    rb'[ \t,]*+(?:(W/)?("[\x21\x23-\x7e\x80-\xff]*+"))?[ \t]*+(?:,|\Z)', re.DOTALL
)
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_MONTH = rb"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_HTTP_DATES = (
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (?P<day>[0-9]{2}) "
        + _MONTH
        + rb" (?P<year>[0-9]{4}) "
        + _CLOCK
        + rb" GMT"
    ),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>[0-9]{2})-"
        + _MONTH
        + rb"-(?P<year>[0-9]{2}) "
        + _CLOCK
        + rb" GMT"
    ),
    re.compile(
        rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) "
        + _MONTH
        + rb" (?P<day>[0-9]{2}| [0-9]) "
        + _CLOCK
        + rb" (?P<year>[0-9]{4})"
    ),
)
"""IMF-fixdate, rfc850-date and asctime-date: a recipient must accept all three, section 5.6.7."""
_LEAP_SECOND = 60
_CENTURY_YEARS = 100
_FUTURE_YEARS_MAX = 50


def parse_entity_tags(values: Sequence[bytes]) -> tuple[EntityTag, ...]:
    """The members of If-Match or If-None-Match; none where the field is malformed.

    `values` are those of all lines of the field. A lone `*` is `ANY_TAG`.
    """
    value = b", ".join(values)
    if value.strip(b" \t") == b"*":
        return (ANY_TAG,)
    tags: list[EntityTag] = []
    position = 0
    while position < len(value):
        element = _TAG_ELEMENT.match(value, position)
        if element is None:
            return ()
        if element[2] is not None:
            if len(tags) == TAGS_MAX:
                return ()
            tags.append(EntityTag(element[2], element[1] is not None))
        position = element.end()
    return tuple(tags)


def parse_http_date(value: bytes, now_s: float) -> int | None:
    """The unix second of an HTTP-date, or None where it is none: RFC 9110 section 5.6.7.

    A year of two digits is the one that is at most 50 years in the future.
    """
    match = next((found for form in _HTTP_DATES if (found := form.fullmatch(value))), None)
    if match is None:
        return None
    year, second = int(match["year"]), int(match["second"])
    if len(match["year"]) == 2:  # noqa: PLR2004 - the two digits of an rfc850-date
        this_year = datetime.fromtimestamp(now_s, UTC).year
        year += this_year - this_year % _CENTURY_YEARS
        if year > this_year + _FUTURE_YEARS_MAX:
            year -= _CENTURY_YEARS
    month, day = _MONTHS.index(match["month"]) + 1, int(match["day"])
    hour, minute = int(match["hour"]), int(match["minute"])
    try:
        moment = datetime(year, month, day, hour, minute, min(second, _LEAP_SECOND - 1), tzinfo=UTC)
    except ValueError:
        return None
    if second > _LEAP_SECOND:
        return None
    return timegm(moment.timetuple()) + (second == _LEAP_SECOND)
