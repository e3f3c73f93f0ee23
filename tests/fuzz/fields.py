"""Range and precondition fields: valid, nearly valid and hostile, around one representation.

What the RFC leaves open is left out: a tag of the representation within an invalid If-None-Match,
a range set that begins with a space, and invalid syntax behind more ranges than the server takes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.fuzz.reference import MONTHS, RANGES_MAX, WEEKDAYS, Representation

if TYPE_CHECKING:
    from datetime import datetime

Fields = list[tuple[str, str]]
Texts = st.SearchStrategy[str]

_COMMAS = st.sampled_from([",", ", ", " ,", ",,", " , ,\t"])
_BAD_RANGES = st.sampled_from(
    [
        *("", "-", "a-b", "1-0", "0--1", "0-1-2", "--1", "+0-1", "0-+1", "0x0-1", "0 -1", "0- 1"),
        *("1", "0-1;", "0.0-1", "*", "٣-٤", "0-1 2-3", "1e3-", "0_0-1", "0\t-"),
    ]
)
_BAD_SETS = ["bytes", "bytes:0-1", "bytes 0-1", "bytes=", "bytes=,", "=0-1", "bytes =0-1", "", "b"]
_UNKNOWN_UNITS = ["items=0-1", "byte=0-1", "bytess=0-1", "none=0-0", "x-bytes=-1", "b\xe9tes=0-1"]


def imf_fixdate(when: datetime) -> str:
    """`Sun, 06 Nov 1994 08:49:37 GMT`."""
    day = WEEKDAYS[when.weekday()][:3]
    return f"{day}, {when:%d} {MONTHS[when.month - 1]} {when.year:04} {when:%H:%M:%S} GMT"


def rfc850_date(when: datetime) -> str:
    """`Sunday, 06-Nov-94 08:49:37 GMT`."""
    day = WEEKDAYS[when.weekday()]
    return f"{day}, {when:%d}-{MONTHS[when.month - 1]}-{when:%y} {when:%H:%M:%S} GMT"


def asctime_date(when: datetime) -> str:
    """`Sun Nov  6 08:49:37 1994`."""
    day, month = WEEKDAYS[when.weekday()][:3], MONTHS[when.month - 1]
    return f"{day} {month} {when.day:2} {when:%H:%M:%S} {when.year:04}"


def dates(modified: datetime) -> Texts:
    """An HTTP-date around the last change, in each form, or something that is none."""
    seconds = st.sampled_from([-(10**8), -86_400, -1, 0, 1, 86_400])
    moments = seconds.map(lambda offset: modified + timedelta(seconds=offset))
    forms = st.sampled_from([imf_fixdate, imf_fixdate, rfc850_date, asctime_date])
    good = st.builds(lambda form, moment: form(moment), forms, moments)
    damage = st.sampled_from(
        [
            lambda text: text.replace(" GMT", " UTC"),
            lambda text: text.replace(" GMT", ""),
            lambda text: text.replace(" GMT", " +0000"),
            lambda text: text.replace(" GMT", " gmt"),
            lambda text: text.replace(":", "."),
            lambda text: text.replace(",", ""),
            lambda text: text.replace(",", ", "),
            lambda text: text.lower(),
            lambda text: text[:-1],
            lambda text: text + ", " + text,
            lambda text: '"' + text + '"',
            lambda text: text.partition(" ")[2],
        ]
    )
    # asctime has neither a comma nor a zone: most of the damage would leave it as it was.
    bad = st.builds(lambda change, moment: change(imf_fixdate(moment)), damage, moments)
    others = st.sampled_from(["", "0", "yesterday", "1738308123", "Mon, 32 Jan 2025 00:00:00 GMT"])
    return st.one_of(good, good, bad, others)


def tags(etag: str) -> Texts:
    """One valid entity tag: this one, it as a weak one, or another."""
    others = st.sampled_from(['""', '"x"', 'W/"x"', '"a,b"', '"W/"', etag[:-2] + '"'])
    return st.one_of(st.just(etag), st.just(f"W/{etag}"), others)


def tag_lists(etag: str, *, may_mix: bool) -> Texts:
    """Lists of entity tags, `*`, or invalid syntax; with `may_mix` this tag stands amid it."""
    good = st.lists(tags(etag), min_size=1, max_size=4).flatmap(
        lambda parts: _COMMAS.map(lambda comma: comma.join(parts))
    )
    bad = st.sampled_from(
        ["", "x", '"', 'w/"x"', 'W/ "x"', '"a" "b"', "*, *", '*, "x"', '"a', "**"]
    )
    if may_mix:
        mixed = st.sampled_from(['{}, "', "{}x", "{} {}", "x, {}", '{}, w/"x"', "*, {}"])
        bad = st.one_of(bad, mixed.map(lambda text: text.replace("{}", etag)))
    return st.one_of(good, good, st.just("*"), bad)


def range_specs(nbytes: int) -> Texts:
    """One valid range-spec, most often near an edge of the representation."""
    edges = [0, 1, 2, nbytes // 2, nbytes - 2, nbytes - 1, nbytes, nbytes + 1, 10**30]
    numbers = st.one_of(st.sampled_from(edges), st.integers(0, nbytes))
    spelled = st.builds(lambda zeros, number: "0" * zeros + str(number), st.integers(0, 2), numbers)
    closed = st.tuples(numbers, numbers).map(lambda pair: f"{min(pair)}-{max(pair)}")
    return st.one_of(closed, closed, spelled.map("{}-".format), spelled.map("-{}".format))


def range_sets(nbytes: int) -> Texts:
    """Values of Range: one, some or too many ranges, another unit, and invalid syntax."""
    units = st.sampled_from(["bytes", "bytes", "bytes", "Bytes", "BYTES"])
    specs, whole = range_specs(nbytes), st.integers(0, nbytes - 1)
    some = st.lists(specs, min_size=1, max_size=RANGES_MAX)
    few = st.lists(st.one_of(specs, specs, specs, _BAD_RANGES), min_size=1, max_size=4)
    many = st.lists(whole.map(lambda n: f"{n}-{n}"), min_size=RANGES_MAX - 1, max_size=40)
    sets = st.builds(
        lambda unit, parts, comma: f"{unit}={comma.join(parts)}",
        units,
        st.one_of(some, few, some.map(lambda parts: parts[:2]), many),
        _COMMAS,
    )
    return st.one_of(sets, sets, sets, st.sampled_from([*_BAD_SETS, *_UNKNOWN_UNITS]))


def field_lists(representation: Representation) -> st.SearchStrategy[Fields]:
    """Any of the six fields, sometimes twice, in any order and in any case of letters."""
    etag, modified = representation.etag, representation.modified
    values: dict[str, Texts] = {
        "Range": range_sets(representation.nbytes),
        "If-Range": st.one_of(
            tags(etag), st.just(etag), dates(modified), st.sampled_from(["*", ""])
        ),
        "If-Match": tag_lists(etag, may_mix=True),
        "If-None-Match": tag_lists(etag, may_mix=False),
        "If-Modified-Since": dates(modified),
        "If-Unmodified-Since": dates(modified),
    }
    cases = st.sampled_from([str, str, str.lower, str.upper])
    lines = {
        name: st.builds(lambda case, value, name=name: (case(name), value), cases, texts)
        for name, texts in values.items()
    }
    ranges, any_line = lines["Range"], st.one_of(*lines.values())
    return st.one_of(
        ranges.map(lambda line: [line]),
        st.tuples(ranges, lines["If-Range"]).map(list),
        st.tuples(any_line, ranges).map(list),
        st.lists(any_line, max_size=4),
    )


def methods() -> st.SearchStrategy[str]:
    """The methods that preconditions are for."""
    return st.sampled_from(["GET", "GET", "GET", "HEAD"])
