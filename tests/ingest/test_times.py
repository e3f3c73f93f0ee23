"""Times: unit by size, text by form, local times by zone; two readings are refused."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from zerocopy.ingest.times import TimeRule, times_ns
from zerocopy.ingest.values import ValueRefused

S = 10**9


def found(values: list[Any], rule: str = "t", dtype: Any = None) -> list[int]:
    """Unix nanoseconds of values; `rule` is what is typed after --time."""
    column, unit, zone = f"{rule}::".split(":")[:3]
    series = pl.Series(column, values, dtype=dtype)
    result = times_ns(series, TimeRule(column, unit or None, zone or None), lambda _: None)
    return [*map(int, result)]


def refused(values: list[Any], rule: str = "t", dtype: Any = None) -> tuple[int, str]:
    """The row that is refused, and why."""
    with pytest.raises(ValueRefused) as raised:
        found(values, rule, dtype)
    return raised.value.row, raised.value.why


def iso(text: str) -> int:
    """Unix nanoseconds of ISO 8601 with an offset, to the microsecond."""
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * S + since.microseconds * 1000


@pytest.mark.parametrize("as_text", [True, False])
@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (100_000_000, 100_000_000 * S),
        (1_735_689_600, 1_735_689_600 * S),
        (3_155_759_999, 3_155_759_999 * S),
        (1_735_689_600_123, 1_735_689_600_123 * 10**6),
        (1_735_689_600_123_456, 1_735_689_600_123_456 * 1000),
        (1_735_689_600_123_456_789, 1_735_689_600_123_456_789),
    ],
)
def test_unit_is_found_by_size(value: int, ns: int, *, as_text: bool) -> None:
    """From 1973-03-03 on the four ranges do not meet."""
    assert found([str(value) if as_text else value]) == [ns]


def test_units_may_change_within_a_column_and_are_told() -> None:
    """As Binance's archive did on 2025-01-01."""
    said: list[str] = []
    series = pl.Series("t", [1_735_689_599_999, 1_735_689_600_000_000])
    result = times_ns(series, TimeRule("t"), said.append).tolist()
    assert result == [1_735_689_599_999 * 10**6, 1_735_689_600 * S]
    assert said == ["t: ms by its size", "t: us by its size"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "can be s or ms or us or ns"),
        (99_999_999, "can be s or ms or us or ns"),
        (5_000_000_000, "can be ms or us or ns"),
        (99_999_999_999_999, "can be us or ns"),
        (99_999_999_999_999_999, "can be ns"),
        (20_250_101, "can be s or ms or us or ns"),
        (-1, "can be no unit"),
        (9_000_000_000_000_000_000, "can be no unit"),
    ],
)
def test_size_that_fits_two_units_is_refused_and_the_flag_named(value: int, words: str) -> None:
    """What lies outside of all four ranges is asked for, not guessed."""
    row, why = refused([1_735_689_600, value])
    assert row == 1
    assert why == f"t {value} {words}: --time t:UNIT decides"


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (2_024_010_112, "s"),
        (202_401_011_230, "ms"),
        (202_401_011_230_591, "us"),
        (2_024_010_112_305_912, "us"),
    ],
)
def test_number_that_reads_as_a_date_is_refused(value: int, unit: str) -> None:
    """202401011230 is a minute of 2024 for a person, and in ms one of 1976."""
    row, why = refused([value, value + 1])
    assert row == 0
    assert why.startswith(f"t {value} can be {unit} or a date: --time t:{unit} decides")
    assert found([value], f"t:{unit}") == [
        value * (10**9 // {"s": 1, "ms": 10**3, "us": 10**6}[unit])
    ]
    # One that reads as no date decides: no clock has a minute 75.
    assert (
        len(found([value, value // 100 * 100 + 75] if unit == "ms" else [value, 1_700_000_000]))
        == 2
    )


@pytest.mark.parametrize(("values", "dtype"), [([1_735_689_600], None), (["1735689600.5"], None)])
def test_counted_time_of_another_zone_or_form_is_refused(values: list[Any], dtype: Any) -> None:
    """A zone that would be passed over is told, as is `iso` of a number."""
    assert "does not apply" in refused(values, "t::Europe/Berlin", dtype)[1]
    assert found(values, "t::UTC", dtype) == found(values, "t", dtype)
    assert "is a number: --time t:UNIT decides" in refused(values, "t:iso:UTC", dtype)[1]


def test_time_of_f4_is_refused() -> None:
    """Its steps are two minutes."""
    assert "holds f4" in refused([1_735_689_600.0], dtype=pl.Float32)[1]


@pytest.mark.parametrize("year", ["0001", "1500", "2262", "2600", "9999"])
def test_year_that_nanoseconds_do_not_reach_is_no_other_year(year: str) -> None:
    """2600 became 2015: 64 bits of nanoseconds wrap."""
    text = f"{year}-01-01 00:00:00"
    assert refused(["2024-01-01 00:00:00", text], "t:iso:UTC") == (
        1,
        f"{text} is not between 1970 and 2069",
    )


def test_unit_that_is_told_is_believed() -> None:
    """The first second of 1970, and what would be found as another unit."""
    assert found([0, 1], "t:s") == [0, S]
    assert found([1_735_689_600], "t:ms") == [1_735_689_600 * 10**6]
    assert found([1_735_689_600], "t:ns") == [1_735_689_600]


@pytest.mark.parametrize(
    ("values", "rule", "row", "words"),
    [
        ([0, -1], "t:s", 1, "-1 is not between 1970 and 2069"),
        ([3_155_760_000], "t:s", 0, "3155760000 is after 2069, where day files end"),
        ([4_294_967_295], "t", 0, "4294967295 is after 2069, where day files end"),
        ([4_294_967_296], "t:s", 0, "4294967296 is not between 1970 and 2069"),
        ([4_294_967_298], "t:s", 0, "4294967298 is not between 1970 and 2069"),
        ([2**63 - 1], "t:s", 0, "is not between 1970 and 2069"),
        (["2069-12-31T23:59:59Z", "2070-01-01T00:00:00Z"], "t", 1, "is after 2069"),
        (["1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z"], "t", 1, "is not between 1970 and"),
        (["2106-02-07T06:28:16Z"], "t", 0, "is not between 1970 and 2069"),
    ],
)
def test_time_that_no_day_file_can_hold_is_refused(
    values: list[Any], rule: str, row: int, words: str
) -> None:
    """Before 1970, after 2069, and beyond u32."""
    at, why = refused(values, rule)
    assert at == row
    assert words in why


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1735689600.25", 1_735_689_600_250_000_000),
        ("1735689600.", 1_735_689_600 * S),
        ("1588291201.099", 1_588_291_201_099_000_000),
        ("1735689600.123456789", 1_735_689_600_123_456_789),
        ("1735689600.12345678900", 1_735_689_600_123_456_789),
        ("1735689600123.5", 1_735_689_600_123_500_000),
    ],
)
def test_decimals_are_read_exactly(text: str, ns: int) -> None:
    """No product with 1e9 adds digits; f8 counts by its shortest form."""
    assert found([text]) == [ns]
    if len(text) < 16:
        assert found([float(text)]) == [ns]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2013-01-01 22:00:00.295000+00:00", "2013-01-01T22:00:00.295+00:00"),
        ("2013-01-01T22:00:00Z", "2013-01-01T22:00:00+00:00"),
        ("2013-01-01T22:00:00.5+05:30", "2013-01-01T22:00:00.5+05:30"),
        ("2013-01-01T22:00-0800", "2013-01-01T22:00:00-08:00"),
        ("2013/01/01 22:00:00 +01", "2013-01-01T22:00:00+01:00"),
        ("20130101 22:00:00.295Z", "2013-01-01T22:00:00.295+00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
    ],
)
def test_text_with_an_offset_is_an_instant(text: str, moment: str) -> None:
    """ISO 8601 and its neighbours; the leap day too."""
    assert found([text]) == [iso(moment)]


def test_nanoseconds_of_text_are_kept() -> None:
    """All nine digits, and fractions of different length in one column."""
    texts = ["2013-01-01T22:00:00.123456789Z", "2013-01-01T22:00:01Z", "2013-01-01T22:00:02.5Z"]
    begin = iso("2013-01-01T22:00:00+00:00")
    assert found(texts) == [begin + 123_456_789, begin + S, begin + 2_500_000_000]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-07-01 12:00:00", "2024-07-01T12:00:00-04:00"),
        ("2024-01-01 12:00", "2024-01-01T12:00:00-05:00"),
        ("20240101 120000", "2024-01-01T12:00:00-05:00"),
        ("20240101 120000250", "2024-01-01T12:00:00.25-05:00"),
        ("2024-01-01", "2024-01-01T00:00:00-05:00"),
        ("2024-03-10 03:00:00", "2024-03-10T03:00:00-04:00"),
        ("2024-11-03 00:59:59", "2024-11-03T00:59:59-04:00"),
        ("2024-11-03 02:00:00", "2024-11-03T02:00:00-05:00"),
    ],
)
def test_local_text_is_of_the_zone_that_is_told(text: str, moment: str) -> None:
    """Summer and winter, up to the hours in which clocks change."""
    assert found([text], "t:iso:America/New_York") == [iso(moment)]


@pytest.mark.parametrize(
    ("text", "words"),
    [("2024-03-10 02:30:00", "is never in"), ("2024-11-03 01:30:00", "is twice in")],
)
def test_hour_that_is_twice_or_never_is_refused(text: str, words: str) -> None:
    """As when daylight saving begins and ends: an offset decides."""
    row, why = refused(["2024-01-01 00:00:00", text], "t:iso:America/New_York")
    assert row == 1
    assert words in why
    assert "write it with its offset" in why


def test_text_without_a_zone_is_refused_unless_its_name_tells() -> None:
    """`timestamp_utc` does; `t` does not."""
    text = "2024-01-01 00:00:00"
    assert refused([text]) == (
        0,
        f"{text} has no zone: --time t:iso:UTC decides, or another zone: America/New_York",
    )
    assert found([text], "timestamp_utc") == [iso("2024-01-01T00:00:00+00:00")]
    assert "there is no zone Mars" in refused([text], "t:iso:Mars")[1]
    assert "has no zone" in refused([text], "cut_c")[1]


def test_typed_datetimes_keep_their_unit_and_zone() -> None:
    """Parquet and Arrow: with a zone they are instants, without one they are local."""
    moment = datetime(2024, 7, 1, 12, 0, 0, 250_000)  # noqa: DTZ001 - a local time
    for unit in ("ms", "us", "ns"):
        zoned = pl.Datetime(unit, "America/New_York")
        there = moment.replace(tzinfo=ZoneInfo("America/New_York"))
        assert found([there], dtype=zoned) == [iso("2024-07-01T12:00:00.25-04:00")]
        local = found([moment], "t:iso:Europe/Berlin", dtype=pl.Datetime(unit))
        assert local == [iso("2024-07-01T12:00:00.25+02:00")]
        assert "has no zone" in refused([moment], dtype=pl.Datetime(unit))[1]
    assert found([date(2024, 7, 1)], "t:iso:UTC") == [iso("2024-07-01T00:00:00+00:00")]


@pytest.mark.parametrize(
    ("values", "row", "words"),
    [
        (["1735689600", "x"], 1, "'x' is no time"),
        (["1735689600", ""], 1, "has no time"),
        (["1735689600", None], 1, "has no time"),
        (["1.73569E+12"], 0, "has lost the last digits of a time"),
        (["1735689600", "1.73569E+12"], 1, "has lost the last digits of a time"),
        (["2024-01-01T00:00:00Z", "2024-01-01 00:00:00"], 1, "is no time"),
        (["2024-01-01 00:00:00", "2024-01-01 00:00:00Z"], 1, "is no time"),
        (["2023-02-29T00:00:00Z"], 0, "is no time"),
        (["2016-12-31T23:59:60Z"], 0, "is no time"),
        (["01/02/2024 00:00"], 0, "is no time"),
        (["2024-01-01T00:00:00Z", "1735689600"], 1, "is no time"),
        (["1735689600.1234567891"], 0, "is finer than a nanosecond"),
        (["2024-01-01T00:00:00.1234567891Z"], 0, "is no time"),
        (["1735689600.5", "abc"], 1, "'abc' is no time"),
        ([True], 0, "holds Boolean, not times"),
    ],
)
def test_what_is_no_time_is_refused_by_its_row(values: list[Any], row: int, words: str) -> None:
    """Never the first row for another's fault."""
    at, why = refused(values)
    assert (at, words in why) == (row, True), why
