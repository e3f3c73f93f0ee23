"""The query of /api/data: every way a parameter can be wrong, and the sentence that says so."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.table import case, each
from zerocopy.core.codings import accepted
from zerocopy.core.errors import BadRequestError
from zerocopy.core.layout import U32_MAX, is_name
from zerocopy.core.query import (
    DEFAULT_EXCHANGE,
    FORMATS,
    PARAMETERS_MAX,
    Query,
    check_name,
    parse_parameters,
    parse_query,
)

GOOD = {"symbol": "BTC-USD", "type": "MD", "start": "10", "end": "20", "columns": "time,price"}
PARSED = Query("coinbase", "BTC-USD", "MD", 10, 20, ("time", "price"))
COLUMNS_MAX = 32
NAMES = ("exchange", "symbol", "type")
SECONDS_REFUSED = (
    *("4294967296", "9999999999", "10000000000", "9" * 20, "-1", "%2B1", "+1"),
    "9" * 5_000,
    *("1_0", "1.0", "1e3", "0x10", "%2010", "10%20", "10%0A", "%0A10", "1,0", "%00", "1%00"),
    *("%D9%A1%D9%A0", "%C2%B2", "%EF%BC%91", "abc", "NaN", "inf", "true", "''"),
)
NAMES_REFUSED = (
    *("..", "%2e%2e", "a/b", "a%2Fb", "%2Fetc%2Fpasswd", "a%5Cb", "a%252Fb", "a%", "a%zz", "*"),
    *("a%00", "a%0A", "%0Aa", "a+b", "a%20b", "a" * 65, "%C3%A9t%C3%A9", "a%D9%A1", "-a"),
)
NAME_RULE = "must be a name of 1 to 64 characters, the first a letter, digit, _ or ^, "


def spelled(**changes: str | None) -> bytes:
    """Return the good query string with some values, already encoded, replaced or left out."""
    values = {**GOOD, **changes}
    return "&".join(f"{k}={v}" for k, v in values.items() if v is not None).encode()


def parsed(query_string: bytes) -> Query:
    """Return the query with the default bound on columns."""
    return parse_query(query_string, columns_max=COLUMNS_MAX)


def refused(query_string: bytes) -> str:
    """Return the detail of the refusal, which is one line and never quotes what was sent."""
    with pytest.raises(BadRequestError) as raised:
        parsed(query_string)
    assert raised.value.detail.isprintable()
    assert raised.value.__cause__ is None
    return raised.value.detail


# ---- right


def test_query_with_every_required_parameter_is_parsed() -> None:
    """The example of the contract; the exchange defaults to coinbase."""
    assert parsed(spelled()) == PARSED
    assert DEFAULT_EXCHANGE == "coinbase"
    assert parsed(spelled(exchange="kraken")).exchange == "kraken"


def test_query_takes_every_format_and_columns_without_one() -> None:
    """Names are exact; the default is the format that costs least."""
    assert parsed(spelled()).format == FORMATS[0] == "columns"
    for name in FORMATS:
        assert parsed(spelled(format=name)) == replace(PARSED, format=name)


def test_query_takes_the_last_records_and_all_without_it() -> None:
    """Any number that a column of u32 seconds can be long, in digits."""
    assert parsed(spelled()).last is None
    for text, last in (("1", 1), ("0001", 1), ("4294967295", U32_MAX)):
        assert parsed(spelled(last=text)) == replace(PARSED, last=last)


@each("text", ["", "0", "000", *SECONDS_REFUSED])
def test_query_refuses_any_other_number_of_last_records(text: str) -> None:
    """None at all is no tail; the detail gives the bounds."""
    assert refused(spelled(last=text)) == (
        f"parameter last: must be a number of records in digits, 1 to {U32_MAX}"
    )


@pytest.mark.parametrize("text", ["", "Columns", "xml", "columns,columns", "columns%20", "%FF"])
def test_query_refuses_an_unknown_format(text: str) -> None:
    """The detail names what there is."""
    assert refused(spelled(format=text)) == (
        f"parameter format: must be one of {', '.join(FORMATS)}"
    )
    assert "given more than once" in refused(spelled() + b"&format=columns&format=columns")


def test_query_in_any_order_is_the_same() -> None:
    """Only the order of columns counts."""
    assert parsed(b"&".join(spelled().split(b"&")[::-1])) == PARSED
    assert parsed(spelled(columns="price,time")).columns == ("price", "time")


def test_query_ignores_unknown_parameters_even_repeated_or_empty() -> None:
    """Names are exact: another case or spelling is another, unknown parameter."""
    unknown = b"&_=1&_=2&x&=&=y&Symbol=a/b&START=-1&columns[]=z&&symbol%00=q"
    assert parsed(spelled() + unknown) == PARSED


def test_query_is_a_value() -> None:
    """Usable as a key: equal queries have equal answers."""
    assert len({parsed(spelled()), PARSED}) == 1


# ---- missing, empty, repeated


@pytest.mark.parametrize("name", GOOD)
def test_query_without_a_required_parameter_is_refused(name: str) -> None:
    """Missing and empty are told apart."""
    assert refused(spelled(**{name: None})) == f"parameter {name}: is missing, must be given once"
    assert refused(spelled(**{name: ""})) == f"parameter {name}: is empty, must be given once"
    bare = spelled(**{name: None}) + b"&" + name.encode()
    assert refused(bare) == f"parameter {name}: is empty, must be given once"


@each("name", [*GOOD, "exchange"])
@each("again", ["", "1", "MD", "%20"])
def test_query_with_a_parameter_twice_is_refused(name: str, again: str) -> None:
    """Even with the same value: two readers of one query must not read it differently."""
    query_string = spelled(exchange="coinbase") + f"&{name}={again}".encode()
    assert refused(query_string) == f"parameter {name}: given more than once, must be given once"


def test_query_with_a_parameter_twice_by_another_spelling_is_refused() -> None:
    """Names are decoded before they are compared."""
    assert refused(spelled() + b"&%73ymbol=a").startswith("parameter symbol: given more than once")


def test_query_that_is_empty_is_refused() -> None:
    """`/api/data` and `/api/data?`."""
    assert refused(b"") == "parameter symbol: is missing, must be given once"


def test_query_with_an_empty_exchange_is_refused() -> None:
    """Optional means left out, not empty."""
    assert refused(spelled(exchange="")).startswith(f"parameter exchange: {NAME_RULE}")


# ---- start and end


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("20", 20),
        ("4294967295", U32_MAX),
        ("0000000000000000000004294967295", U32_MAX),
        ("00", 0),
        ("%31%30", 10),
    ],
)
def test_seconds_take_every_u32_in_digits(text: str, value: int) -> None:
    """The edges, leading zeros, and digits that are percent-encoded."""
    assert parsed(spelled(start=text, end=str(U32_MAX))).start_s == value
    assert parsed(spelled(start="0", end=text)).end_s == value


@pytest.mark.parametrize("name", ["start", "end"])
def test_seconds_refuse_everything_else(name: str) -> None:
    """Signs, spaces, underscores, fractions, newlines and other scripts' digits."""
    for text in SECONDS_REFUSED:
        with case(repr(text)[:80]):
            detail = refused(spelled(**{name: text}))
            assert detail == f"parameter {name}: must be unix seconds in digits, 0 to 4294967295"


@pytest.mark.parametrize("zeros", [4_299, 4_300, 8_000])
def test_seconds_with_more_zeros_than_int_takes_never_fail(zeros: int) -> None:
    """CPython's int() refuses more than 4300 digits, zeros included: 200 or 400, never 500."""
    with contextlib.suppress(BadRequestError):
        assert parsed(spelled(start="0" * zeros + "7")).start_s == 7


def test_start_after_end_is_refused_and_equal_is_not() -> None:
    """Both ends are inclusive, so one second is a range."""
    assert parsed(spelled(start="20", end="20")).start_s == 20
    detail = refused(spelled(start="21", end="20"))
    assert detail == "parameters start and end: start must not be after end"


# ---- names


@each("name", NAMES)
@each("text", ["tAAVE:USD", "BRK.B", "^GSPC", "a" * 64, "a+b", "a&b=c#d~e@f"])
def test_names_are_decoded_from_any_legal_encoding(name: str, text: str) -> None:
    """Clients encode as little or as much as they like."""
    for encoded in (quote_plus(text), "".join(f"%{ord(c):02x}" for c in text)):
        assert getattr(parsed(spelled(**{name: encoded})), name) == text


@pytest.mark.parametrize("name", [*NAMES, "columns"])
def test_names_refuse_what_no_path_may_hold(name: str) -> None:
    """A plus is a space, decoding happens once, and broken escapes stay as they are."""
    for encoded in NAMES_REFUSED:
        with case(encoded):
            detail = refused(spelled(**{name: encoded}))
            assert detail.startswith(f"parameter {name}: {NAME_RULE}")


def test_check_name_returns_the_name_or_names_the_parameter() -> None:
    """Also used by /api/symbols."""
    assert check_name("exchange", "kraken") == "kraken"
    with pytest.raises(BadRequestError, match="parameter exchange: must be a name"):
        check_name("exchange", "a\n")


# ---- columns


@pytest.mark.parametrize("count", [1, COLUMNS_MAX])
def test_columns_from_one_to_the_bound_are_taken_in_order(count: int) -> None:
    """The response keeps their order."""
    columns = tuple(f"c{n}" for n in range(count, 0, -1))
    assert parsed(spelled(columns=",".join(columns))).columns == columns


def test_columns_may_have_encoded_commas_between_them() -> None:
    """Forms encode the comma; names cannot hold one."""
    assert parsed(spelled(columns="time%2Cprice")).columns == ("time", "price")


@pytest.mark.parametrize("bound", [1, 3, COLUMNS_MAX])
def test_columns_above_the_bound_are_refused(bound: int) -> None:
    """The bound is the configuration's; one more is too many."""
    columns = ",".join(f"c{n}" for n in range(bound + 1))
    with pytest.raises(BadRequestError) as raised:
        parse_query(spelled(columns=columns), columns_max=bound)
    assert raised.value.detail == f"parameter columns: must be at most {bound} names"


@pytest.mark.parametrize("text", ["time,", ",time", "time,,price", ",", "time,%2C"])
def test_columns_with_a_comma_too_many_are_refused(text: str) -> None:
    """A trailing comma is an empty name."""
    detail = "parameter columns: must be names separated by single commas"
    assert refused(spelled(columns=text)) == detail


@pytest.mark.parametrize("text", ["time,time", "a,b,a", "a,%61"])
def test_columns_named_twice_are_refused(text: str) -> None:
    """A column twice is a client's mistake, not a wish."""
    assert refused(spelled(columns=text)) == "parameter columns: each name must be given once"


def test_columns_are_distinct_by_case() -> None:
    """Names are as on disk."""
    assert parsed(spelled(columns="a,A")).columns == ("a", "A")


# ---- the query string


@pytest.mark.parametrize("value", [b"%ff", b"%c3%28", b"%ed%a0%80", b"\xc3\xa9", b"\xff"])
def test_bytes_that_are_not_percent_encoded_utf8_are_no_name_and_no_number(value: bytes) -> None:
    """Broken sequences, surrogates and raw bytes are refused where they stand."""
    assert refused(spelled(symbol=None) + b"&symbol=" + value).startswith("parameter symbol: ")
    assert refused(spelled(start=None) + b"&start=" + value).startswith("parameter start: ")


@pytest.mark.parametrize("pair", [b"%ff=1", b"x=%ff", b"\xff", b"x=\xc3\xa9"])
def test_unknown_parameter_is_ignored_whatever_it_holds(pair: bytes) -> None:
    """What nobody reads cannot be malformed."""
    assert parsed(spelled() + b"&" + pair) == PARSED


def test_query_string_may_hold_a_hundred_parameters_and_no_more() -> None:
    """Unknown ones are ignored, but not without end."""
    room = PARAMETERS_MAX - len(GOOD)
    assert parsed(spelled() + b"&x=1" * room) == PARSED
    detail = "the query string may hold at most 100 parameters"
    assert refused(spelled() + b"&x=1" * (room + 1)) == detail
    assert refused(b"&" * 8_000) == detail


def test_query_string_is_separated_by_ampersands_only() -> None:
    """A semicolon is part of a value, as browsers have it, and so makes a bad name."""
    detail = refused(spelled().replace(b"&", b";"))
    assert detail == "parameter type: is missing, must be given once"
    assert refused(spelled(symbol="a;type=b")).startswith(f"parameter symbol: {NAME_RULE}")


def test_parameters_are_the_known_ones_decoded() -> None:
    """The first = separates; the rest is value; blank values are kept."""
    found = parse_parameters(b"a=1=2&b&c=+%2B&d=4&%65=", frozenset("abce"))
    assert found == {"a": "1=2", "b": "", "c": " +", "e": ""}


# ---- anything at all


def check_anything(query_string: bytes) -> None:
    """Parse; only a Query that keeps its promises or a BadRequestError may come of it."""
    outcome: Query | str
    try:
        outcome = parsed(query_string)
    except BadRequestError as error:
        outcome = error.detail
    if isinstance(outcome, str):
        assert outcome.isprintable()  # in particular: no newline
        assert outcome.isascii()
        return
    assert 0 <= outcome.start_s <= outcome.end_s <= U32_MAX
    assert all(map(is_name, (outcome.exchange, outcome.symbol, outcome.type, *outcome.columns)))
    assert 1 <= len(set(outcome.columns)) == len(outcome.columns) <= COLUMNS_MAX


@given(st.binary(max_size=200))
@example(b"\n")
@example(b"symbol=%0A&symbol")
def test_any_bytes_give_a_query_or_a_bad_request(query_string: bytes) -> None:
    """Nothing else is ever raised, and no detail holds a newline."""
    check_anything(query_string)


fragments = st.sampled_from(
    (
        *("symbol", "type", "start", "end", "columns", "exchange", "=", "&", ",", "+", ";", "/"),
        *("%", "%0A", "%00", "%C3%A9", "%ff", "\n", "_", "-", "a", "..", "0", "1"),
        *("4294967295", "4294967296"),
    )
)


@given(st.lists(fragments, max_size=60))
def test_any_pieces_of_a_query_give_a_query_or_a_bad_request(pieces: list[str]) -> None:
    """Nearly right ones reach deeper than random bytes."""
    check_anything("".join(pieces).encode())


values = st.text(
    alphabet="aZ09_^.,:;+-/%&=# \n\0\u00e9\u0661\u200b\U0001f600", max_size=12
) | st.from_regex(r"[a-c,.0-9]{0,12}", fullmatch=True)


@given(st.dictionaries(st.sampled_from([*GOOD, "exchange"]), values))
def test_any_values_of_a_query_give_a_query_or_a_bad_request(changes: dict[str, str]) -> None:
    """Any text, correctly encoded, in any parameter."""
    check_anything(spelled(**{name: quote(text, safe="") for name, text in changes.items()}))


@given(st.lists(st.from_regex(r"[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}", fullmatch=True)))
def test_any_legal_columns_encoded_as_forms_do_are_taken(columns: list[str]) -> None:
    """What is a name on disk can be asked for."""
    distinct = tuple(dict.fromkeys([*columns, "time"]))[:COLUMNS_MAX]
    assert parsed(spelled(columns=quote_plus(",".join(distinct)))).columns == distinct


@each(
    ("format_", "compress", "accept", "coding", "is_negotiated"),
    [
        ("columns", False, b"zstd, gzip", b"", False),
        ("columns", True, b"zstd, gzip", b"zstd", True),
        ("columns", True, b"gzip", b"", True),
        ("arrow", True, b"gzip, zstd;q=0.1", b"zstd", True),
        ("arrow", False, b"zstd", b"", False),
        ("json", False, b"gzip", b"gzip", True),
        ("csv", False, b"zstd, gzip", b"zstd", True),
        ("csv", False, b"identity", b"", True),
        ("json", True, b"gzip, zstd;q=0.1", b"zstd", True),
        ("json", True, b"gzip", b"gzip", True),
        ("parquet", False, b"zstd", b"", False),
        ("parquet", True, b"zstd", b"", False),
    ],
)
def test_coding_is_what_format_query_and_client_come_to(
    format_: str, accept: bytes, coding: bytes, *, compress: bool, is_negotiated: bool
) -> None:
    """Text as the client likes it, columns where both say so; what no file holds is computed."""
    asked = spelled(format=format_, compress="zstd" if compress else None)
    query = parse_query(asked, columns_max=COLUMNS_MAX, accepts=accepted(accept))
    assert (query.coding, query.is_negotiated) == (coding, is_negotiated)
    assert query.is_computed == (coding != b"" or format_ not in {"columns", "arrow"})


@each("value", ["", "gzip", "ZSTD", "zstd,gzip", "1", "true"])
def test_compress_is_zstd(value: str) -> None:
    """And nothing else."""
    with pytest.raises(BadRequestError, match="parameter compress: must be zstd"):
        parsed(spelled(compress=value))
