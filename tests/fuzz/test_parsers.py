"""Parsers of what clients and file systems name: any input has one of the documented outcomes."""

from __future__ import annotations

import re
import string
from datetime import date, timedelta
from urllib.parse import quote_plus, urlencode

from hypothesis import example, given, settings
from hypothesis import strategies as st

from zerocopy.core.errors import BadRequestError
from zerocopy.core.http.authority import is_authority
from zerocopy.core.http.messages import origin_form
from zerocopy.core.layout import U32_MAX, file_name, is_name, parse_file_name
from zerocopy.core.query import Query, parse_parameters, parse_query

FIRST = string.ascii_letters + string.digits + "_^"
REST = string.ascii_letters + string.digits + "._:+@^=&#~-"
COLUMNS_MAX = 4

NAMES = st.builds(
    lambda first, rest: first + rest, st.sampled_from(FIRST), st.text(REST, max_size=63)
)
SECONDS = st.integers(0, U32_MAX)
QUERIES = st.builds(
    lambda exchange, symbol, kind, ends, columns: Query(
        exchange, symbol, kind, min(ends), max(ends), tuple(columns)
    ),
    *(NAMES, NAMES, NAMES),
    st.tuples(SECONDS, SECONDS),
    st.lists(NAMES, min_size=1, max_size=COLUMNS_MAX, unique=True),
)
KNOWN = ("exchange", "symbol", "type", "start", "end", "columns")
PIECES = st.one_of(
    st.sampled_from([name.encode() + b"=" for name in KNOWN]),
    st.sampled_from([b"&", b";", b"=", b"+", b"%", b"%2C", b",", b"%00", b"%e2%82", b"BTC-USD"]),
    st.sampled_from([b"0", b"4294967295", b"4294967296", b"-1", b"1_0", b"%d9%a1", b" 1", b"1e3"]),
    st.binary(max_size=8),
)
QUERY_STRINGS = st.one_of(
    st.binary(max_size=200),
    st.lists(PIECES, max_size=40).map(b"".join),
    # Nearly right: one parameter of a right query is something else, missing or there twice.
    st.builds(
        lambda at, piece, count: b"&".join(
            [
                name.encode() + b"=" + (piece if index == at else b"1")
                for index, name in enumerate(KNOWN)
                for _ in range(count if index == at else 1)
            ]
        ),
        *(st.integers(0, len(KNOWN)), PIECES, st.integers(0, 2)),
    ),
)


def spelled(query: Query, start_zeros: int) -> bytes:
    """A query as a form spells it."""
    return urlencode(
        {
            "exchange": query.exchange,
            "symbol": query.symbol,
            "type": query.type,
            "start": "0" * start_zeros + str(query.start_s),
            "end": str(query.end_s),
            "columns": ",".join(query.columns),
        }
    ).encode()


@settings(deadline=None)
@given(QUERIES, st.integers(0, 500))
def test_every_valid_query_is_read_as_it_was_meant(query: Query, start_zeros: int) -> None:
    """Spelled as a form, with any names and any number of leading zeros."""
    assert parse_query(spelled(query, start_zeros), columns_max=COLUMNS_MAX) == query


@settings(deadline=None)
@given(QUERY_STRINGS)
@example(b"&" * 101)
@example(b"symbol=%ff&type=a&start=0&end=1&columns=a")
def test_any_query_string_is_a_checked_query_or_a_bad_request(query_string: bytes) -> None:
    """Never another exception; and what is let through keeps every rule of the contract."""
    try:
        query = parse_query(query_string, columns_max=COLUMNS_MAX)
    except BadRequestError as error:
        detail = error.detail
    else:
        check_query(query)
        return
    assert detail.isascii()  # it says the rule, never what the client sent


def check_query(query: Query) -> None:
    """Fail unless every rule of the contract holds."""
    assert 0 <= query.start_s <= query.end_s <= U32_MAX
    assert 1 <= len(query.columns) == len(set(query.columns)) <= COLUMNS_MAX
    names = (query.exchange, query.symbol, query.type, *query.columns)
    assert all(0 < len(name) <= 64 and name[0] in FIRST and set(name) <= {*REST} for name in names)
    assert parse_query(spelled(query, 0), columns_max=COLUMNS_MAX) == query


@settings(deadline=None)
@given(QUERY_STRINGS, st.frozensets(st.sampled_from(KNOWN)))
def test_any_query_string_gives_known_parameters_or_a_bad_request(
    query_string: bytes, known: frozenset[str]
) -> None:
    """Unknown names never come out, and nothing that is told of one makes a difference."""
    try:
        values = parse_parameters(query_string, known)
    except BadRequestError:
        return
    assert values.keys() <= known
    again = "&".join(f"{name}={quote_plus(value)}" for name, value in values.items()).encode()
    assert parse_parameters(again, known) == values


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.lists(
            st.sampled_from([b"http://", b"HTTPS://", b"/", b"?", b"#", b"h:1", b"%", b"\n", b"a"])
        ).map(b"".join),
    )
)
def test_any_target_has_one_origin_form(target: bytes) -> None:
    """With an authority it begins with a slash, else it stays as it is; twice is as once."""
    form = origin_form(target)
    assert origin_form(form) == form
    absolute = re.fullmatch(rb"(?is)https?://([^/?#]*)(.*)", target)
    if absolute is not None and is_authority(absolute[1]):
        assert form.startswith(b"/")
        assert target.endswith((form, form[1:]))
    else:
        assert form == target


@settings(deadline=None)
@given(st.one_of(NAMES, st.text(max_size=70), st.text(REST + "/\0\n ", max_size=66)))
def test_a_name_is_what_the_contract_says_letter_by_letter(text: str) -> None:
    """`is_name` against the sentence of the contract, written as a loop."""
    expected = 1 <= len(text) <= 64 and text[0] in FIRST and all(c in REST for c in text)
    assert is_name(text) == expected


@settings(deadline=None)
@given(NAMES, st.dates(date(1970, 1, 1), date(2069, 12, 31)))
def test_every_day_file_is_found_under_its_column_and_day(column: str, day: date) -> None:
    """From 1970 to 2069, with dots and dates within the column's name."""
    name = f"{column}.{day:%d.%m.%y}.bin"
    number = (day - date(1970, 1, 1)) // timedelta(1)
    assert parse_file_name(name) == (column, number)
    assert file_name(column, number) == name


@settings(deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.text("0123456789.bin٣", max_size=30).map(lambda text: text + ".bin"),
        st.builds("{}.{:02}.{:02}.{:02}.bin".format, NAMES, *[st.integers(0, 110)] * 3),
        st.binary(max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    )
)
def test_any_file_name_is_a_day_file_in_one_spelling_or_none(name: str) -> None:
    """What is found under a day is spelled as the server would spell it: no file under two days."""
    found = parse_file_name(name)
    if found is not None:
        column, day = found
        assert is_name(column)
        assert file_name(column, day) == name
