"""Times as users have them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from fractions import Fraction

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.client import BadRequest
from zerocopy.client.times import SECONDS_MAX, TimeLike, seconds, span

MOMENT = datetime(2025, 1, 31, 9, 30, tzinfo=UTC)
MOMENT_S = 1_738_315_800
INSIDE = st.datetimes(datetime(1970, 1, 2), datetime(2106, 1, 1))  # noqa: DTZ001 - naive is UTC
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    "value",
    [
        MOMENT_S,
        np.uint32(MOMENT_S),
        "2025-01-31T09:30:00Z",
        "2025-01-31 09:30",
        "2025-01-31T11:30:00+02:00",
        "20250131T093000Z",
        MOMENT,
        MOMENT.replace(tzinfo=None),
        MOMENT.astimezone(timezone(timedelta(hours=-5))),
        np.datetime64("2025-01-31T09:30"),
        np.datetime64(MOMENT_S * 10**9, "ns"),
        pd.Timestamp("2025-01-31 09:30"),
        pd.Timestamp("2025-01-31 10:30", tz="Europe/Berlin"),
    ],
    ids=repr,
)
def test_one_moment_in_every_spelling_is_one_second(value: TimeLike) -> None:
    """Naive means UTC, whatever the library."""
    assert seconds("start", value) == MOMENT_S


@pytest.mark.parametrize("value", ["2025-01-31", "2025-W05-5", date(2025, 1, 31)], ids=repr)
def test_a_date_is_its_midnight_in_utc(value: TimeLike) -> None:
    """So that an end that is a date leaves that day out."""
    assert seconds("end", value) == 1_738_281_600


@pytest.mark.parametrize("unit", ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps"])
def test_every_unit_of_numpy_is_understood(unit: str) -> None:
    """From years to picoseconds."""
    assert seconds("start", np.datetime64("1970-01-01", "s").astype(f"M8[{unit}]")) == 0


@given(INSIDE, OFFSETS)
def test_a_datetime_is_rounded_up_to_its_second(moment: datetime, zone: timezone) -> None:
    """Exactly, in any zone, as a datetime, a str and a datetime64."""
    exact = Fraction((moment - datetime(1970, 1, 1)) // timedelta(microseconds=1), 10**6)  # noqa: DTZ001
    wanted = -(-exact.numerator // exact.denominator)
    aware = moment.replace(tzinfo=UTC).astimezone(zone)
    spellings: list[TimeLike] = [moment, aware, aware.isoformat(), np.datetime64(moment, "us")]
    assert {seconds("start", value) for value in spellings} == {wanted}


@given(st.integers(0, 2**62), st.sampled_from(["ms", "us", "ns"]))
def test_a_datetime64_is_rounded_up_exactly(count: int, unit: str) -> None:
    """No float is between."""
    per_second = {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    wanted = min(-(-count // per_second), SECONDS_MAX)
    assert seconds("start", np.int64(count).view(f"M8[{unit}]")) == wanted


@given(st.lists(INSIDE, min_size=3, max_size=3), st.integers(0, SECONDS_MAX - 1))
def test_neighbouring_intervals_share_no_second_and_leave_none_out(
    moments: list[datetime], record_s: int
) -> None:
    """[a, b) and [b, c) hold what [a, c) holds, each record once."""
    a, b, c = sorted(moments)
    holds = [first <= record_s < stop for first, stop in (span(a, b), span(b, c), span(a, c))]
    assert holds[0] + holds[1] == holds[2]


def test_digits_beyond_microseconds_count() -> None:
    """A nanosecond after the second is the next one; zeros are nothing."""
    assert seconds("start", "1970-01-01T00:00:01.000000001") == 2
    assert seconds("start", "1970-01-01T00:00:01.000000000Z") == 1
    assert seconds("start", pd.Timestamp(1_000_000_001)) == 2
    assert seconds("start", "9999-12-31T23:59:59.9999999") == SECONDS_MAX


def test_what_is_open_is_all_there_can_be() -> None:
    """And what lies outside of u32 is clamped to it."""
    assert span(None, None) == (0, SECONDS_MAX)
    assert span("1900-01-01", "2200-01-01") == (0, SECONDS_MAX)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1_738_315_800_000, "as milliseconds it would be 1738315800"),
        (1_738_315_800_000_000, "as microseconds it would be 1738315800"),
        (1_738_315_800_000_000_000, "as nanoseconds it would be 1738315800"),
        (-1, "unix seconds, 0 to"),
        (True, "ISO 8601"),
        (1.5, "a float must be unix seconds as an int"),
        (None, "a NoneType"),
        ("yesterday", "such as 2025-01-31"),
        ("1738315800", "such as 2025-01-31"),
        ("", "such as 2025-01-31"),
        ("1712101512345", "unix seconds are an int"),  # Python reads 1712-10-15 at 23:45
        (np.datetime64(1, "as"), "nanoseconds"),
        (np.datetime64("NaT"), "NaT"),
        (pd.NaT, "NaT"),
    ],
    ids=repr,
)
def test_what_is_no_time_is_told_what_would_be_right(value: object, words: str) -> None:
    """With the parameter's name, as a BadRequest that is a ValueError."""
    with pytest.raises(BadRequest, match=r"^start: ") as caught:
        seconds("start", value)  # type: ignore[arg-type]
    assert words in caught.value.detail
    assert isinstance(caught.value, ValueError)


def test_a_start_after_its_end_is_refused() -> None:
    """An empty interval is not."""
    with pytest.raises(BadRequest, match="must not be after end"):
        span("2025-02-01", "2025-01-31")
    assert span(5, 5) == (5, 5)
