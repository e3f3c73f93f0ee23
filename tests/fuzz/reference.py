"""What RFC 9110 sections 13 and 14 make of a request: slow, literal, and independent of the server.

Given the fields of a request and the validators and length of what it asks for, `expected` says the
status, the Content-Range and the bytes. Where the RFC leaves a choice, the server's is named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RANGES_MAX = 16
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
OWS = " \t"

Span = tuple[int, int]
"""First and last byte, both inclusive."""


@dataclass(frozen=True, slots=True)
class Representation:
    """What is asked for: a strong entity tag, the date of its last change, and its bytes."""

    etag: str
    modified: datetime
    nbytes: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A status; `spans` are the parts of a 206, or everything of a 200."""

    status: int
    spans: tuple[Span, ...] = ()

    def content_range(self, nbytes: int) -> str | None:
        """Content-Range, where there must be one in the head of the response."""
        if self.status == 416:
            return f"bytes */{nbytes}"
        if self.status == 206 and len(self.spans) == 1:
            return f"bytes {self.spans[0][0]}-{self.spans[0][1]}/{nbytes}"
        return None


def expected(
    method: str, fields: Sequence[tuple[str, str]], representation: Representation
) -> Outcome:
    """The outcome of a GET or HEAD whose answer without these fields is 200; section 13.2.2."""
    lines: dict[str, list[str]] = {}
    for name, value in fields:
        lines.setdefault(name.lower(), []).append(value.strip(OWS))
    if "if-match" in lines:
        if not matches(lines["if-match"], representation.etag, weakly=False):
            return Outcome(412)
    elif (date := one_date(lines.get("if-unmodified-since"))) and representation.modified > date:
        return Outcome(412)
    if "if-none-match" in lines:
        if matches(lines["if-none-match"], representation.etag, weakly=True):
            return Outcome(304)
    elif (date := one_date(lines.get("if-modified-since"))) and representation.modified <= date:
        return Outcome(304)
    return ranged(method, lines, representation)


def ranged(method: str, lines: dict[str, list[str]], representation: Representation) -> Outcome:
    """Sections 14.2 and 13.1.5, once the preconditions hold."""
    whole = Outcome(200, ((0, representation.nbytes - 1),))
    ranges = lines.get("range", [])
    if method != "GET" or len(ranges) != 1:
        return whole
    if "if-range" in lines and lines["if-range"] != [representation.etag]:
        return whole  # also a date: it is never strong enough here
    specs = parse_ranges(ranges[0])
    if specs is None:
        return whole
    if len(specs) > RANGES_MAX:
        return Outcome(416)
    spans = coalesced([span for spec in specs if (span := resolve(spec, representation.nbytes))])
    return Outcome(206, tuple(spans)) if spans else Outcome(416)


def parse_ranges(value: str) -> list[tuple[int | None, int | None]] | None:
    """First and last of each range-spec, None where one is left out; None for what is ignored."""
    unit, equals, text = value.partition("=")
    if not equals or unit.lower() != "bytes":
        return None
    specs: list[tuple[int | None, int | None]] = []
    for item in (part.strip(OWS) for part in text.split(",")):
        if not item:
            continue  # section 5.6.1.2: empty elements of a list are read over
        first, dash, last = item.partition("-")
        if not dash or not (first or last):
            return None
        if any(part and not (part.isascii() and part.isdigit()) for part in (first, last)):
            return None
        if first and last and int(last) < int(first):
            return None
        specs.append((int(first) if first else None, int(last) if last else None))
    return specs or None


def resolve(spec: tuple[int | None, int | None], nbytes: int) -> Span | None:
    """The bytes that a range-spec means; None where there are none of them."""
    first, last = spec
    if first is None:
        assert last is not None
        return (max(0, nbytes - last), nbytes - 1) if last and nbytes else None
    if first >= nbytes:
        return None
    return (first, nbytes - 1 if last is None else min(last, nbytes - 1))


def coalesced(spans: list[Span]) -> list[Span]:
    """Overlapping spans become one in the place of the first of them; adjacent ones stay two."""
    while pair := next(
        (
            (first, second)
            for second in range(len(spans))
            for first in range(second)
            if spans[first][0] <= spans[second][1] and spans[second][0] <= spans[first][1]
        ),
        None,
    ):
        first, second = pair
        low, high = zip(spans[first], spans[second], strict=True)
        spans = [*spans[:first], (min(low), max(high)), *spans[first + 1 :]]
        del spans[second]
    return spans


def matches(values: list[str], etag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags, or `*`, holds this one; invalid syntax matches nothing."""
    if values == ["*"]:
        return True
    tags = parse_tags(", ".join(values))
    return tags is not None and (etag in tags or (weakly and f"W/{etag}" in tags))


def parse_tags(text: str) -> list[str] | None:
    """The entity tags of a list, section 8.8.3; None where it is none."""
    tags: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in OWS + ",":
            at += 1
            continue
        start = at
        at += 2 * text.startswith("W/", at)
        end = text.find('"', at + 1)
        if not text.startswith('"', at) or end < 0:
            return None
        if any(
            not (c == "!" or "#" <= c <= "~" or "\x80" <= c <= "\xff") for c in text[at + 1 : end]
        ):
            return None
        at = end + 1
        tags.append(text[start:at])
        rest = text[at:].lstrip(OWS)
        if rest and not rest.startswith(","):
            return None
    return tags or None


def one_date(values: list[str] | None) -> datetime | None:
    """The date of a field that is there once and is an HTTP-date; else it is ignored."""
    return parse_date(values[0]) if values and len(values) == 1 else None


def parse_date(text: str) -> datetime | None:
    """An HTTP-date in one of its three forms, section 5.6.7, letter by letter."""
    words = text.split(" ")
    if len(words) == 6 and words[5] == "GMT":  # Sun, 06 Nov 1994 08:49:37 GMT
        weekday, dd, month, year, clock, _ = words
        return _date(
            weekday[:-1] if weekday.endswith(",") else "", dd, month, year, clock, short=True
        )
    if len(words) == 4 and words[3] == "GMT":  # Sunday, 06-Nov-94 08:49:37 GMT
        weekday, day, clock, _ = words
        parts = day.split("-")
        if len(parts) != 3 or not weekday.endswith(","):
            return None
        return _date(weekday[:-1], parts[0], parts[1], parts[2], clock, short=False)
    if len(words) in {5, 6}:  # Sun Nov  6 08:49:37 1994
        if len(words) == 6:
            weekday, month, blank, dd, clock, year = words
            if blank or len(dd) != 1:
                return None
            dd = "0" + dd
        else:
            weekday, month, dd, clock, year = words
        return _date(weekday, dd, month, year, clock, short=True)
    return None


def _digits(text: str, count: int) -> int | None:
    return int(text) if len(text) == count and text.isascii() and text.isdigit() else None


def _date(
    weekday: str, dd: str, month: str, year: str, clock: str, *, short: bool
) -> datetime | None:
    names = [name[:3] for name in WEEKDAYS] if short else list(WEEKDAYS)
    times = [_digits(part, 2) for part in clock.split(":")]
    day, number = _digits(dd, 2), _digits(year, 4 if short else 2)
    if weekday not in names or month not in MONTHS or len(times) != 3:
        return None
    if day is None or number is None or None in times:
        return None
    if not short:
        # Section 5.6.7: a date more than 50 years in the future means the same year of the past.
        this = datetime.now(UTC).year
        number += this // 100 * 100
        number -= 100 * (number > this + 50)
    hour, minute, second = (time or 0 for time in times)
    try:
        return datetime(
            number, MONTHS.index(month) + 1, day, hour, minute, min(second, 59), tzinfo=UTC
        )
    except ValueError:
        return None
