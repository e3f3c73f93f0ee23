"""Validators and freshness: what changes an ETag, when an answer closes, what caches are told."""

from __future__ import annotations

import calendar
import datetime as dt
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.table import each
from zerocopy.core.http.validators import (
    Validators,
    cache_control,
    http_date,
    last_modified,
    validators_of,
)
from zerocopy.core.layout import DAY_S, U32_MAX
from zerocopy.core.settling import Settling

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = b'{"columns":[]}\n'
STAMPS = [
    (0, 4_000, 4_000, 1_700_000_000_000_000_000),
    (8, 800, 2_000, 1_700_000_001_500_000_000),
]
NS = 1_000_000_000
END_S = 1_738_281_600 + 3_600  # 2025-01-31 01:00:00 UTC
DAY_END_S = 1_738_281_600 + DAY_S
SETTLE_S = 600.0
SETTLING = Settling(SETTLE_S, 7)


def etag_of(header: bytes = HEADER, stamps: list[tuple[int, int, int, int]] = STAMPS) -> bytes:
    """Return the ETag of an answer."""
    return validators_of(header, stamps).etag


def validators(modified_ns: int = 0) -> Validators:
    """Return validators with these times."""
    return Validators(b'"x"', modified_ns)


# ---- ETag


def test_etag_is_a_strong_entity_tag() -> None:
    """RFC 9110 section 8.8.3: quoted, no W/, visible ASCII; here 128 bits in hexadecimal."""
    assert re.fullmatch(rb'"[0-9a-f]{32}"', etag_of())


def test_etag_of_the_same_header_and_files_is_the_same() -> None:
    """Any replica, any process, any iterable."""
    assert etag_of() == etag_of(bytes(bytearray(HEADER)), list(STAMPS))
    other = validators_of(HEADER, iter(STAMPS))
    assert other.etag == etag_of()


def test_etag_is_the_same_in_every_process() -> None:
    """Literals, the 128-bit b2sum of header line and stamps: no seed, no change by accident."""
    found = validators_of(b"{}\n", [])
    assert found.etag == b'"539873d3417f9a0abedf2ba4bfcf808d"'
    assert etag_of() == b'"ff20c06a35c5a18111e60a5f2cd8188c"'


@each(
    ("header", "stamps"),
    [
        (b'{"columns":[0]}\n', STAMPS),
        (HEADER, []),
        (HEADER, STAMPS[:1]),
        (HEADER, STAMPS[::-1]),
        (HEADER, [*STAMPS, STAMPS[1]]),
        (HEADER, [(4, *STAMPS[0][1:]), STAMPS[1]]),
        (HEADER, [(0, 4_004, *STAMPS[0][2:]), STAMPS[1]]),
        (HEADER, [(0, 4_000, 4_004, STAMPS[0][3]), STAMPS[1]]),
        (HEADER, [(*STAMPS[0][:3], STAMPS[0][3] + 1), STAMPS[1]]),
        (HEADER, [(*STAMPS[0][:3], STAMPS[1][3]), (*STAMPS[1][:3], STAMPS[0][3])]),
    ],
)
def test_etag_differs_with_header_offset_size_time_order_and_number_of_files(
    header: bytes, stamps: list[tuple[int, int, int, int]]
) -> None:
    """Whatever could change a byte of the body changes the tag, down to one nanosecond."""
    assert etag_of(header, stamps) != etag_of()


def test_etag_takes_no_number_for_another() -> None:
    """The numbers are kept apart: 1, 23 is not 12, 3."""
    tags = {
        etag_of(stamps=[stamp])
        for stamp in [(1, 23, 4, 0), (12, 3, 4, 0), (1, 2, 34, 0), (12, 34, 0, 0)]
    }
    assert len(tags) == 4


stamp_lists = st.lists(st.tuples(*[st.integers(0, 99)] * 4), max_size=4)


@given(stamp_lists, stamp_lists)
def test_etag_is_equal_exactly_when_the_stamps_are(
    a: list[tuple[int, int, int, int]], b: list[tuple[int, int, int, int]]
) -> None:
    """No two states of small numbers share a tag."""
    assert (etag_of(stamps=a) == etag_of(stamps=b)) == (a == b)


# ---- when an answer closes


@pytest.mark.parametrize(
    ("changed_s", "closes_s"),
    [
        (END_S, DAY_END_S),
        (DAY_END_S - SETTLE_S, DAY_END_S),
        (DAY_END_S - SETTLE_S + 0.5, DAY_END_S + 0.5),
        (DAY_END_S + 1_000, DAY_END_S + 1_000 + SETTLE_S),
    ],
)
def test_day_closes_when_it_is_past_and_its_files_have_settled(
    changed_s: float, closes_s: float
) -> None:
    """The later of the two."""
    assert SETTLING.closes_s(END_S // DAY_S, int(changed_s * NS)) == closes_s


@pytest.mark.parametrize(
    ("days", "gap"),
    [
        ([], 20),
        ([10, 11, 19], 20),
        ([20], 19),
        ([10, 12, 13, 14, 15, 16, 17, 18, 19, 20], None),
        ([*range(10, 21)], None),
        ([*range(10, 14), *range(15, 21)], 14),
    ],
)
def test_gap_stays_open_for_its_days_and_the_last_one_decides(
    days: list[int], gap: int | None
) -> None:
    """A gap from before the last seven days is no longer than the last day itself."""
    found = SETTLING.gaps_close_s(10, 20, days)
    if gap is None:
        assert found <= 21 * DAY_S
    else:
        assert found == (gap + 8) * DAY_S


@pytest.mark.parametrize("gap_days", [0, 1, 7, 366])
def test_gaps_are_those_that_a_look_at_every_calendar_day_finds(gap_days: int) -> None:
    """For all sets of five days, together with the end of the last day."""
    settling = Settling(0.0, gap_days)
    for chosen in range(32):
        days = [day for day in range(10, 15) if chosen >> (day - 10) & 1]
        gaps = [day for day in range(10, 15) if day not in days]
        expected = max([15 * DAY_S, *((day + 1 + gap_days) * DAY_S for day in gaps)])
        assert max(15 * DAY_S, settling.gaps_close_s(10, 14, days)) == expected


def test_gaps_of_the_widest_range_are_found_by_a_glance() -> None:
    """No day beyond the last `gap_days` is looked at, however many there are."""

    class Seen(list[int]):
        looks = 0

        def __reversed__(self) -> Iterator[int]:
            for day in super().__reversed__():
                self.looks += 1
                yield day

    last_day = U32_MAX // DAY_S
    days = Seen(range(last_day + 1))
    assert SETTLING.gaps_close_s(0, last_day, days) <= (last_day + 1) * DAY_S
    assert days.looks <= 8


def test_range_without_end_closes_after_the_last_second_of_u32() -> None:
    """An end of 4294967295 stays open for as long as anybody lives."""
    closes_s = SETTLING.gaps_close_s(0, U32_MAX // DAY_S, [1, 2, 3])
    assert closes_s > U32_MAX
    assert cache_control(closes_s, U32_MAX, 3_600) == b"no-cache, no-transform"


# ---- Cache-Control


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [
        (999.999, b"no-cache, no-transform"),
        (1_000.0, b"public, max-age=3600, no-transform"),
        (1_000.001, b"public, max-age=3600, no-transform"),
    ],
)
def test_cache_control_allows_shared_caches_from_the_closing_on(
    now_s: float, expected: bytes
) -> None:
    """Open is always asked again; closed may be kept; neither may be transformed."""
    assert cache_control(1_000.0, now_s, 3_600) == expected


def test_cache_control_takes_the_seconds_of_the_configuration() -> None:
    """Zero is a choice too."""
    assert cache_control(0.0, 1.0, 0) == b"public, max-age=0, no-transform"
    assert cache_control(0.0, 1.0, 86_400) == b"public, max-age=86400, no-transform"


# ---- Last-Modified and dates


def test_last_modified_is_the_newest_file_in_whole_seconds() -> None:
    """Rounded down: a validator later than the file would hide its next change."""
    found = validators_of(HEADER, STAMPS)
    assert last_modified(found, 1_800_000_000) == b"Tue, 14 Nov 2023 22:13:21 GMT"


def test_last_modified_a_nanosecond_before_the_next_second_is_rounded_down() -> None:
    """Nanoseconds since 1970 need more digits than a float has: no rounding up by way of one."""
    modified_ns = 1_700_000_001 * NS - 1
    assert last_modified(validators(modified_ns), 1_800_000_000) == http_date(1_700_000_000)


def test_last_modified_is_never_later_than_date() -> None:
    """RFC 9110 section 8.8.2.1: a file from the future is told as of now."""
    assert last_modified(validators(modified_ns=200 * NS), 100) == http_date(100)
    assert last_modified(validators(modified_ns=200 * NS), 200) == http_date(200)


def test_last_modified_without_files_is_absent() -> None:
    """An answer of nothing has no date to tell."""
    assert last_modified(validators(modified_ns=0), 100) is None


@pytest.mark.parametrize(
    ("time_s", "expected"),
    [
        (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, b"Sun, 06 Nov 1994 08:49:37 GMT"),  # RFC 9110 section 5.6.7
        (784_111_777.999, b"Sun, 06 Nov 1994 08:49:37 GMT"),
        (1_709_164_800, b"Thu, 29 Feb 2024 00:00:00 GMT"),
        (U32_MAX, b"Sun, 07 Feb 2106 06:28:15 GMT"),
    ],
)
def test_http_date_is_an_imf_fixdate(time_s: float, expected: bytes) -> None:
    """English names, two-digit days, always GMT, never rounded up."""
    assert http_date(time_s) == expected


@given(st.integers(0, U32_MAX))
def test_http_date_of_any_second_reads_back(time_s: int) -> None:
    """Fixed length, and the standard library finds the same second in it."""
    text = http_date(time_s).decode("ascii")
    parsed = parsedate_to_datetime(text)
    assert len(text) == 29
    assert parsed.utcoffset() == dt.timedelta(0)
    assert calendar.timegm(parsed.timetuple()) == time_s
