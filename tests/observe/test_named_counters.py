"""Counters by name: bounded, shared, and taken over by whoever gets the row next."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from zerocopy.core.access import REFUSALS, REQUESTS, SENT_BYTES, Grant
from zerocopy.observe import named_counters
from zerocopy.observe.named_counters import (
    NAMES_MAX,
    OTHERS,
    NamedCounters,
    totals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fd() -> Iterator[int]:
    """Memory of two rows."""
    fd = named_counters.make_names()
    named_counters.add_row(fd, 2)
    yield fd
    os.close(fd)


def test_counts_of_all_rows_are_added_up_by_name(fd: int) -> None:
    """A restarted worker goes on with the row of the one before."""
    first, second = NamedCounters(fd, 0), NamedCounters(fd, 1)
    first.count("desk", REQUESTS, 2)
    first.count("desk", SENT_BYTES, 1 << 40)
    second.count("other", REFUSALS, 3)
    second.count("desk", REQUESTS, 5)
    again = NamedCounters(fd, 0)
    again.count("desk", REQUESTS, 1)
    again.tally(Grant("third"), 100, 2)
    again.tally(Grant("third"), 1, 1)
    assert totals(fd) == {
        OTHERS: (0, 0, 0),
        "desk": (8, 1 << 40, 0),
        "other": (0, 0, 3),
        "third": (3, 201, 0),
    }


def test_names_beyond_the_bound_are_counted_together(fd: int) -> None:
    """However many subjects an issuer of tokens makes up, the page does not grow."""
    row = NamedCounters(fd, 0)
    for number in range(NAMES_MAX + 10):
        row.count(f"name{number}", REQUESTS, 1)
    found = totals(fd)
    assert len(found) == NAMES_MAX + 1
    assert found[OTHERS] == (10, 0, 0)
    assert found["name0"] == (1, 0, 0)


def test_long_names_are_cut_between_two_characters(fd: int) -> None:
    """64 bytes of UTF-8."""
    NamedCounters(fd, 0).count("x" * 63 + "é", REQUESTS, 1)
    assert "x" * 63 in totals(fd)


def test_memory_without_rows_has_no_names() -> None:
    """As where no worker runs yet."""
    fd = named_counters.make_names()
    assert totals(fd) == {}
    os.close(fd)
