"""Lines of NDJSON and CSV become rows; what can be read in two ways is refused with the reason."""

from __future__ import annotations

import math
from typing import Any

import pytest

from zerocopy.core.errors import ConfigError, IngestError
from zerocopy.core.layout import Dtypes
from zerocopy.ingest.feed import LINE_BYTES_MAX, SHAPES_MAX, Asked, Feed, Row
from zerocopy.ingest.times import TimeRule

AT_S = 1_748_736_000  # 2025-06-01 00:00 UTC
AT_NS = AT_S * 1_000_000_000
HERE = Asked(exchange="e", symbol="s", type="T")
SERIES = ("e", "s", "T")


def feed(asked: Asked = HERE) -> Feed:
    """With the dtypes of a configuration."""
    return Feed(asked, Dtypes({"id": "u8", "order": "S8", "exact": "f8"}))


def read(text: str | bytes, asked: Asked = HERE) -> list[Row | str]:
    """All rows of a stream, the reasons of those that are none in their place."""
    content = text.encode() if isinstance(text, str) else text
    reader = feed(asked)
    found = [*reader.rows(content), *reader.rows(b"", is_last=True)]
    return [each.detail if isinstance(each, IngestError) else each for each in found]


def values_of(text: str, asked: Asked = HERE) -> Any:
    """The values of the only row."""
    (row,) = read(text, asked)
    return row.values if isinstance(row, Row) else row


def test_a_row_of_json_names_its_series_and_columns() -> None:
    """Whatever the order of its fields; exchanges send numbers as text."""
    line = (
        '{"type":"T","price":"1.5","symbol":"s","time":1748736000,"side":"sell","exchange":"e",'
        '"id":9007199254740993,"order":"abc"}'
    )
    columns = ("price", "side", "id", "order")
    assert read(line, Asked()) == [Row(SERIES, columns, (AT_NS, 1.5, 1, 2**53 + 1, "abc"))]


def test_rows_are_the_same_however_the_stream_is_cut() -> None:
    """After each byte, with a byte order mark, CRLF, blank lines and quotes."""
    text = b'\xef\xbb\xbftime,price,order\r\n1748736000,1.5,"a,b"\r\n\r\n1748736001,2,c'
    expected = [
        Row(SERIES, ("price", "order"), (AT_NS, 1.5, "a,b")),
        Row(SERIES, ("price", "order"), (AT_NS + 10**9, 2.0, "c")),
    ]
    for at in range(len(text)):
        reader = feed()
        rows = [*reader.rows(text[:at]), *reader.rows(text[at:]), *reader.rows(b"", is_last=True)]
        assert rows == expected


@pytest.mark.parametrize(
    ("text", "rule", "expected"),
    [
        ("1748736000", None, AT_NS),
        ("1748736000123", None, AT_NS + 123_000_000),
        ("1748736000123456", None, AT_NS + 123_456_000),
        ("1748736000123456789", None, AT_NS + 123_456_789),
        ("1748736000.1", None, AT_NS + 100_000_000),
        ('"1748736000.000000001"', None, AT_NS + 1),
        ("5", TimeRule("time", "s"), 5_000_000_000),
        ('"2025-06-01T00:00:00Z"', None, AT_NS),
        ('"2025-06-01T02:00:00.123456789+02:00"', None, AT_NS + 123_456_789),
        ('"2025-05-31T20:00:00.5"', TimeRule("time", "iso", "America/New_York"), AT_NS + 5 * 10**8),
    ],
)
def test_times_in_every_form_are_the_same_instant(
    text: str, rule: TimeRule | None, expected: int
) -> None:
    """The unit of an integer is found by its size; decimals keep each digit."""
    assert values_of(f'{{"time":{text}}}', HERE._replace(time=rule)) == (expected,)


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        ("5", None, "the unit of 5 is not clear; --time time:UNIT decides"),
        ('"1748736000.0000000001"', None, "finer than a nanosecond"),
        ('"2025-06-01T00:00:00"', None, "has no zone; --time time:iso:UTC decides"),
        ('"2025-11-02T01:30:00"', TimeRule("time", "iso", "America/New_York"), "twice or never"),
        ('"2025-03-09T02:30:00"', TimeRule("time", "iso", "America/New_York"), "twice or never"),
        ('"yesterday"', None, "'yesterday' is no time"),
        ("null", None, "'None' is no time"),
        ("true", None, "'True' is no time"),
        ("-5", None, "'-5' is no time"),
        ("202401011230", None, "the unit of 202401011230 is not clear"),
        ('"2024010112"', None, "the unit of 2024010112 is not clear"),
        ("1748736000", TimeRule("time", None, "Europe/Berlin"), "does not apply"),
        ('"2025-06-01T00:00:00,25Z"', None, "a fraction follows a dot"),
    ],
)
def test_times_that_can_mean_two_instants_are_refused(
    text: str, rule: TimeRule | None, words: str
) -> None:
    """And those that mean none."""
    assert words in values_of(f'{{"time":{text}}}', HERE._replace(time=rule))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("price", "null", math.nan),
        ("price", '""', math.nan),
        ("price", '"1e-3"', 0.001),
        ("price", '"1,5"', "price: '1,5' is no number"),
        ("price", '"1_0"', "price: '1_0' is no number"),
        ("price", "true", "price: True is no number"),
        ("price", "[1]", "price: [1] is no number"),
        ("price", "1e39", "price: 1e+39 is too large for f4"),
        ("price", '"1e400"', "price: '1e400' is too large"),
        ("exact", '"-1e400"', "exact: '-1e400' is too large"),
        ("price", '"-Infinity"', -math.inf),
        ("side", '"BUY"', 0),
        ("side", '"ask"', 1),
        ("side", "1", 1),
        ("side", "true", "can mean either side"),
        ("side", '"x"', "'x' is no side"),
        ("count", '"7"', 7),
        ("count", "7.0", 7),
        ("flags", "true", 1),
        ("flags", '"False"', 0),
        ("count", "7.5", "is no whole number"),
        ("order", '"abc"', "abc"),
        ("order", "12", "12"),
        ("order", "1.5", "order: 1.5 is no text"),
    ],
)
def test_values_are_read_by_the_dtype_of_their_column(
    field: str, value: str, expected: object
) -> None:
    """Or refused with the column and the value."""
    found = values_of(f'{{"time":1748736000,"{field}":{value}}}')
    if isinstance(found, str):
        assert str(expected) in found
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(found[1])
    else:
        assert found[1] == expected


def test_truth_is_a_side_where_the_name_of_the_field_says_which() -> None:
    """The buyer is the maker: the taker sells."""
    asked = HERE._replace(columns={"side": "is_buyer_maker"})
    assert values_of('{"time":1748736000,"is_buyer_maker":true,"x":1}', asked) == (AT_NS, 1)


@pytest.mark.parametrize(
    ("text", "asked", "words"),
    [
        ('{"time":1748736000}', Asked(symbol="s", type="T"), "which exchange? --exchange, or"),
        ('{"time":1748736000,"symbol":"a/b"}', HERE._replace(symbol=None), "cannot be a name"),
        ('{"time":1748736000,"ts":1}', HERE, "time or ts is the time? --time decides"),
        ('{"price":1}', HERE, "which field is the time?"),
        ('hello\n{"time":1748736000}', HERE, "--format ndjson decides"),
        ('{"price":1}', HERE._replace(time=TimeRule("at")), "has no at"),
        ('{"time":1748736000,"a b":1}', HERE, "'a b' cannot name a column"),
        ('{"time":1748736000,"p":1}', HERE._replace(columns={"price": "q"}), "has no q"),
        ('{"time":1748736000,"nanos":1}', HERE, "nanos are a part of the time"),
        ("[1]", HERE._replace(format="ndjson"), "is no object"),
        ('{"time":', HERE, "is no JSON"),
        ("time,price\n1748736000", HERE, "line 2: has 1 fields, the header 2"),
        ('time,price\n1748736000,"1', HERE, "line 2: is no CSV"),
        (b"time,price\n1748736000,\xff", HERE, "line 2: is not UTF-8"),
    ],
)
def test_lines_that_are_no_rows_are_refused(text: str | bytes, asked: Asked, words: str) -> None:
    """The reason names the flag that decides."""
    (found,) = read(text, asked)
    assert isinstance(found, str)
    assert words in found


def test_a_line_without_an_end_takes_no_memory_and_the_next_one_is_read() -> None:
    """One refusal for the whole of it."""
    reader = feed()
    found = [*reader.rows(b"{" + b"x" * LINE_BYTES_MAX)]
    for _ in range(3):
        found += reader.rows(b"x" * LINE_BYTES_MAX)
        assert len(reader._rest) <= LINE_BYTES_MAX
    found += reader.rows(b'\n{"time":1748736000}\n')
    error, row = found
    assert isinstance(error, IngestError)
    assert row == Row(SERIES, (), (AT_NS,))


def test_digits_that_f4_loses_are_counted() -> None:
    """More than half a unit of the last printed digit; those that survive are not."""
    reader = feed()
    for value in (
        "104512.25",
        "104512.257",
        '"0.1"',
        "16777217",
        "16777216",
        "1e-40",
        '"104512.5"',
    ):
        [*reader.rows(b'{"time":1748736000,"price":%s,"exact":%s}\n' % ((value.encode(),) * 2))]
    assert (reader.lost["price"].count, [*reader.lost]) == (2, ["price"])
    assert reader.lost["price"].example == "16777217 becomes 16777216"


def test_flags_that_cannot_be_are_told_before_any_row() -> None:
    """A zone that nobody has; and a header that names a column twice."""
    with pytest.raises(ConfigError, match="there is no zone Mars/Base"):
        feed(HERE._replace(time=TimeRule("time", "iso", "Mars/Base")))
    with pytest.raises(ConfigError, match="twice in the header"):
        read("time,price,price\n")


def test_fields_that_always_differ_take_no_more_memory() -> None:
    """A mapped feed may have others of any name."""
    reader = feed(HERE._replace(columns={"price": "price"}))
    lines = "".join(f'{{"time":{AT_S},"price":1,"x{n}":0}}\n' for n in range(2 * SHAPES_MAX + 5))
    assert sum(isinstance(row, Row) for row in reader.rows(lines.encode())) == 2 * SHAPES_MAX + 5
    assert len(reader._shapes) <= SHAPES_MAX


def test_csv_without_a_header_is_refused() -> None:
    """Its first row would be lost without a word."""
    with pytest.raises(ConfigError, match="the first line is no header"):
        read(f"{AT_S},1.5\n")
