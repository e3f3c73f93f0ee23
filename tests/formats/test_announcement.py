"""What is said by Redis, and what is made of whatever comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerocopy.formats.announcement import (
    MESSAGE_BYTES_MAX,
    Announced,
    announcement,
    parse_announcement,
)

SERIES = ("coinbase", "BTC-USD", "MD")


def test_announcement_names_series_day_and_columns() -> None:
    """As docs/scale-out.md has it."""
    message = announcement(SERIES, 20119, ("time", "price"))
    assert message == (
        b'{"series":["coinbase","BTC-USD","MD"],"day":"20250131","columns":["time","price"]}'
    )
    assert parse_announcement(message) == Announced(*SERIES)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b"7",
        b"{}",
        b'{"series":"coinbase/BTC-USD/MD"}',
        b'{"series":["coinbase","BTC-USD"]}',
        b'{"series":["coinbase","BTC-USD",7]}',
        b'{"series":["..","BTC-USD","MD"]}',
        b'{"series":["coinbase","BTC/USD","MD"]}',
        b"[" * 20_000,
        b'{"series":["coinbase","BTC-USD","MD"]}'.ljust(MESSAGE_BYTES_MAX + 1),
    ],
)
def test_message_that_names_no_series_is_none(message: bytes) -> None:
    """Nothing but names of the layout gets further."""
    assert parse_announcement(message) is None


@given(st.binary())
def test_any_bytes_are_a_series_or_none(message: bytes) -> None:
    """Whoever can publish can send anything."""
    found = parse_announcement(message)
    assert found is None or len(found) == 3
