"""The grammar of /api/bars, and where its buckets begin."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.naive_bars import STEPS, auto_interval, bucket_of, length_of
from tests.table import each
from zerocopy.core.bars import (
    AGGREGATES,
    AUTO,
    BARS_MAX,
    OHLC,
    BarsQuery,
    choose_interval,
    parse_bars_query,
    parse_interval,
    parse_outputs,
    too_many_bars,
)
from zerocopy.core.errors import BadRequestError
from zerocopy.core.layout import U32_MAX

GOOD = {"symbol": "X", "type": "MD", "start": "0", "end": "9", "columns": "price"}
SECONDS = st.integers(0, U32_MAX)
WEEK_S = 7 * 86_400


def parsed(**changed: str) -> BarsQuery:
    """`GOOD` with some parameters changed."""
    return parse_bars_query(urlencode({**GOOD, **changed}).encode(), columns_max=4)


def test_query_has_its_defaults() -> None:
    """`ohlc` of each column, `auto`, 2,000 points, coinbase."""
    query = parsed()
    assert [output.name for output in query.outputs] == [f"price.{name}" for name in OHLC]
    assert (query.interval, query.max_points, query.records.exchange) == (None, 2_000, "coinbase")
    assert query.records.columns == ("time", "price")
    assert query.bars_max == BARS_MAX


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("price", "price.open price.high price.low price.close"),
        ("price:ohlc", "price.open price.high price.low price.close"),
        ("price:open+close+count", "price.open price.close price.count"),
        ("price:open close", "price.open price.close"),
        ("price:count,volume:sum,price:mean", "price.count volume.sum price.mean"),
        ("price:ohlc+count", "price.open price.high price.low price.close price.count"),
        ("a:b:open", "a:b.open"),
        ("a+b:low,time:high", "a+b.low time.high"),
        ("a.open:open,a:open", "a.open.open a.open"),
    ],
)
def test_outputs_are_those_asked_for_in_their_order(text: str, names: str) -> None:
    """The aggregates stand after the last colon; a plus may have become a blank."""
    assert " ".join(output.name for output in parse_outputs(text, 4)) == names


@each(
    ("text", "word"),
    [
        ("price:median", "price"),
        ("price:", "price"),
        ("price:open+", "price"),
        ("price:Open", "price"),
        (":open", "aggregates"),
        ("", "aggregates"),
        ("price,", "aggregates"),
        ("pr/ice", "name"),
        ("price:open,price", "price.open"),
        ("price:sum+sum", "price.sum"),
        ("a,b,c,d,e", "4"),
    ],
)
def test_columns_that_are_wrong_are_refused_by_name(text: str, word: str) -> None:
    """The detail says what is wrong and what would be right."""
    with pytest.raises(BadRequestError) as caught:
        parse_outputs(text, 4)
    assert caught.value.detail.startswith("parameter columns: ")
    assert word in caught.value.detail


@each(
    ("text", "length_s"),
    [
        ("1", 1), ("60", 60), ("60s", 60), ("5m", 300), ("4h", 14_400), ("1d", 86_400),
        ("1w", WEEK_S), ("007", 7), (str(U32_MAX), U32_MAX), ("7101w", 7_101 * WEEK_S),
    ],
)  # fmt: skip
def test_interval_is_a_number_with_or_without_a_unit(text: str, length_s: int) -> None:
    """Up to 136 years."""
    interval = parse_interval(text)
    assert interval is not None
    assert interval.length_s == length_s


@each(
    "text",
    [
        "", "0", "0m", "-1", "+1", "1.5", "1 m", "m", "1M", "1y", "5min", "Auto", "1e3", "٣",
        str(U32_MAX + 1), "7102w", "9" * 400,
    ],
)  # fmt: skip
def test_interval_that_is_none_is_refused(text: str) -> None:
    """The detail names the parameter and an example."""
    with pytest.raises(BadRequestError, match=r"parameter interval: .* 5m"):
        parse_interval(text)


@pytest.mark.parametrize("text", ["", "0", "100001", "-1", "5m", "x"])
def test_max_points_that_is_out_of_bounds_is_refused(text: str) -> None:
    """1 to 100,000."""
    with pytest.raises(BadRequestError, match=r"parameter max_points: .*100000"):
        parsed(max_points=text)
    assert parsed(max_points="100000").max_points == BARS_MAX


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"symbol": ""}, "symbol"),
        ({"start": "x"}, "start"),
        ({"end": "-1"}, "end"),
        ({"start": "10"}, "start and end"),
        ({"type": "a/b"}, "type"),
        ({"exchange": ""}, "exchange"),
        ({"format": "xml"}, "format"),
        ({"format": ""}, "format"),
    ],
)
def test_parameters_are_checked_as_in_data(changed: dict[str, str], word: str) -> None:
    """The detail names the parameter."""
    with pytest.raises(BadRequestError, match=word):
        parsed(**changed)


@pytest.mark.parametrize("name", GOOD)
def test_parameter_that_is_missing_or_repeated_is_refused(name: str) -> None:
    """Each of the required ones."""
    others = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(BadRequestError, match=f"parameter {name}: is missing"):
        parse_bars_query(urlencode(others).encode(), columns_max=4)
    with pytest.raises(BadRequestError, match=f"parameter {name}: given more than once"):
        parse_bars_query(urlencode([*GOOD.items(), (name, "1")]).encode(), columns_max=4)


@given(time_s=SECONDS, count=st.integers(1, 1_000), unit=st.sampled_from("smhdw"))
def test_bucket_begins_where_the_contract_says(time_s: int, count: int, unit: str) -> None:
    """At floor(t / interval) * interval from the epoch; weeks from Monday, the first from 0."""
    interval = parse_interval(f"{count}{unit}")
    assert interval is not None
    begin = interval.begin(interval.bucket(time_s))
    assert begin == bucket_of(time_s, f"{count}{unit}")
    assert begin <= time_s < begin + interval.length_s


def test_weeks_begin_on_monday_and_seven_days_do_not() -> None:
    """1970-01-05 was a Monday; the days before it are a short week of their own."""
    week, days = parse_interval("1w"), parse_interval("7d")
    assert week
    assert days
    assert [week.begin(index) for index in (-1, 0, 1)] == [0, 345_600, 345_600 + WEEK_S]
    assert [days.begin(index) for index in (0, 1)] == [0, WEEK_S]


def test_auto_knows_the_steps_of_the_contract() -> None:
    """Ascending, from a second to four weeks."""
    assert [step.label for step in AUTO] == STEPS
    assert [step.length_s for step in AUTO] == [length_of(step) for step in STEPS]


@given(
    times=st.lists(SECONDS, max_size=2).map(sorted),
    points=st.one_of(st.integers(1, 50), st.integers(1, BARS_MAX)),
)
def test_auto_is_the_shortest_that_gives_few_enough_buckets(times: list[int], points: int) -> None:
    """Judged by the time from the first to the last record; without records it is a second."""
    span = (times[0], times[-1]) if times else None
    chosen = choose_interval(span, points)
    assert chosen.label == auto_interval(times, points)
    if span is not None and chosen is not AUTO[-1]:
        assert chosen.buckets(*span) <= points


def test_too_many_bars_name_the_interval_that_fits() -> None:
    """100,000 seconds fit; one more needs 2 s. Many outputs leave room for fewer bars."""
    query = parsed(interval="1")
    assert query.interval
    error = too_many_bars(query, query.interval, (0, BARS_MAX))
    assert error.detail == (
        "parameter interval: 1 gives more than 100000 bars; the shortest that fits is 2s"
    )
    many = parsed(columns=",".join(f"{name}:{'+'.join(AGGREGATES)}" for name in "abcd"))
    assert many.bars_max == BARS_MAX
    spelled = urlencode({**GOOD, "columns": ",".join(f"c{n}" for n in range(16))}).encode()
    assert parse_bars_query(spelled, columns_max=32).bars_max == 50_000
